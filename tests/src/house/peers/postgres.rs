//! PostgreSQL: the client speaks first, asks for TLS, and is answered by one byte.

use std::path::PathBuf;

use super::{Exchange, FirstByte, Kit, Peer, Server};
use crate::house::Program;

/// PostgreSQL and psql.
pub(super) static PEER: Peer = Peer {
    protocol: "PostgreSQL",
    server: "postgres",
    client: "psql",
    name: "postgres",
    ports: (5432, 5432),
    // SSLRequest (protocol 3.0, message formats): 8 bytes, code 80877103.
    first_byte: FirstByte::After(&[0, 0, 0, 8, 4, 210, 22, 47]),
    serve,
    talk,
    lives: None,
};

const SETUP: &str = "echo secret >password
\"$1/initdb\" -D data -U app --pwfile=password --auth=scram-sha-256 --no-sync
echo 'host all all all scram-sha-256' >>data/pg_hba.conf";

fn serve(kit: &Kit<'_>) -> Server {
    let programs = programs();
    let programs = programs.to_str().expect("a path in UTF-8");
    let (data, home) = (kit.path("data"), kit.path(""));
    let app = Program::at(format!("{programs}/postgres")).args([
        "-D",
        &data,
        "-k",
        &home,
        "-c",
        "listen_addresses=*",
        "-c",
        "fsync=off",
    ]);
    let ready = ["-q", "-h", "127.0.0.1", "-U", "app", "-d", "postgres"];
    Server {
        setup: vec![kit.shell("setup.sh", SETUP, &[programs])],
        app,
        probe: Some(Program::at(format!("{programs}/pg_isready")).args(ready)),
    }
}

fn talk(_: &Kit<'_>) -> Vec<Exchange> {
    let psql = |sql: &str, prints| Exchange {
        client: Program::find("psql", "postgresql-client")
            .args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", "postgres", "-U", "app"])
            .args(["-d", "postgres", "-c", sql])
            .env("PGPASSWORD", "secret"),
        prints,
    };
    vec![
        psql("select 6 * 7", "42"),
        psql("create table t as select n, repeat('x', 100) s from generate_series(1, 50000) n", ""),
        psql("select count(*), sum(length(s)) from t", "50000|5000000"),
        psql("copy (select s from t where n <= 2) to stdout", HUNDREDS),
    ]
}

const HUNDREDS: &str = concat!(
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
);

/// Debian has the servers of each version in a directory of its own, outside of the `PATH`.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let directories = versions.map(|version| version.path().join("bin"));
    let with_server = directories.filter(|dir| dir.join("initdb").is_file());
    with_server.max().unwrap_or_else(|| {
        panic!("this test needs a PostgreSQL server: run tests/run, which installs what is missing, or `apt-get install postgresql`")
    })
}
