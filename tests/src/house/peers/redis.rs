//! Redis: words that look like methods of HTTP, and a connection that only listens.

use super::{Exchange, FirstByte, Kit, Peer, Server};
use crate::house::Program;

/// redis-server and redis-cli.
pub(super) static PEER: Peer = Peer {
    protocol: "Redis",
    server: "redis-server",
    client: "redis-cli",
    name: "redis",
    ports: (6379, 6379),
    first_byte: FirstByte::After(b"PING\r\n"),
    serve,
    talk,
    lives: None,
};

fn serve(kit: &Kit<'_>) -> Server {
    let app = Program::find("redis-server", "redis-server")
        .args(["--port", "6379", "--bind", "*", "-::*", "--protected-mode", "no"])
        .args(["--save", "", "--appendonly", "no", "--dir", &kit.path("")]);
    let probe = cli(&["-h", "127.0.0.1", "ping"]);
    Server { setup: Vec::new(), app, probe: Some(probe) }
}

fn talk(kit: &Kit<'_>) -> Vec<Exchange> {
    let exchange =
        |args: &[&str], prints| Exchange { client: cli(&["-h", "redis"]).args(args), prints };
    let subscribe = include_str!("scripts/redis_subscribe.sh");
    vec![
        exchange(&["set", "greeting", "hello"], "OK"),
        exchange(&["get", "greeting"], "hello"),
        exchange(&["-r", "3", "incr", "count"], "1\n2\n3"),
        exchange(
            &["eval", "return #string.rep('x', tonumber(ARGV[1]))", "0", "1000000"],
            "1000000",
        ),
        Exchange {
            client: kit.shell("subscribe.sh", subscribe, &["redis"]),
            prints: "\"message\",\"news\",\"hello\"",
        },
    ]
}

fn cli(args: &[&str]) -> Program {
    Program::find("redis-cli", "redis-tools").args(args)
}
