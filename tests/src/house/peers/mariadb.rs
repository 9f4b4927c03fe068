//! MySQL's protocol: MariaDB; the server speaks first.

use super::{Exchange, FirstByte, Kit, Peer, Server};
use crate::house::Program;

/// MariaDB's server and client.
pub(super) static PEER: Peer = Peer {
    protocol: "MySQL",
    server: "mariadbd",
    client: "mariadb",
    name: "mariadb",
    ports: (3306, 3306),
    first_byte: FirstByte::After(b""),
    serve,
    talk,
    lives: None,
};

const USERS: &str = "create user app identified by 'secret';
create database shop;
grant all on shop.* to app;
";

fn serve(kit: &Kit<'_>) -> Server {
    let (data, socket) = (kit.path("data"), kit.path("socket"));
    let users = kit.file("users.sql", USERS);
    // A server that starts removes the temporary tables of whoever shares its directory for them.
    let directories = [format!("--datadir={data}"), format!("--tmpdir={data}")];
    let install = Program::find("mariadb-install-db", "mariadb-server-core")
        .args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"])
        .args(&directories);
    let app = Program::find("mariadbd", "mariadb-server-core")
        .args(["--no-defaults", "--port=3306", "--bind-address=*", "--skip-name-resolve"])
        .args(&directories)
        .args([format!("--socket={socket}")])
        .args([format!("--init-file={users}"), format!("--pid-file={}", kit.path("pid"))]);
    Server { setup: vec![install], app, probe: None }
}

fn talk(_: &Kit<'_>) -> Vec<Exchange> {
    let sql = |sql: &str, prints| Exchange {
        client: Program::find("mariadb", "mariadb-client-core")
            .args(["--no-defaults", "-h", "mariadb", "-u", "app", "-psecret", "-N", "-B"])
            .args(["shop", "-e", sql]),
        prints,
    };
    vec![
        sql("select 6 * 7", "42"),
        sql(
            "create table t (n int primary key, s text); \
             insert into t select seq, repeat('x', 100) from seq_1_to_20000; \
             select count(*), sum(length(s)) from t",
            "20000\t2000000",
        ),
        sql("select length(group_concat(s)) > 100000 from t", "1"),
    ]
}
