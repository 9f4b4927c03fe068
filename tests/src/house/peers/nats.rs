//! NATS with JetStream: the server speaks first.

use super::{Exchange, FirstByte, Kit, Life, Peer, Server};
use crate::house::Program;

/// nats-server and nats-py.
pub(super) static PEER: Peer = Peer {
    protocol: "NATS, JetStream",
    server: "nats-server",
    client: "nats-py",
    name: "nats",
    ports: (4222, 4222),
    first_byte: FirstByte::After(b""),
    serve,
    talk,
    lives: Some(Life {
        client: |kit| client(kit, &["restart"]),
        lines: &["connected", "disconnected", "reconnected", "message", "kept"],
    }),
};

fn serve(kit: &Kit<'_>) -> Server {
    let store = kit.path("jetstream");
    let app = Program::find("nats-server", "nats-server").args(["-js", "-sd", &store]);
    Server { setup: Vec::new(), app, probe: None }
}

fn talk(kit: &Kit<'_>) -> Vec<Exchange> {
    let prints = "message hello\n\
                  request PING\n\
                  stored 10\n\
                  consumed 0,1,2,3,4,5,6,7,8,9 pending 0 unacknowledged 0";
    vec![Exchange { client: client(kit, &[]), prints }]
}

fn client(kit: &Kit<'_>, args: &[&str]) -> Program {
    let script = include_str!("scripts/nats_client.py");
    kit.python("nats.py.client", script, &["nats://nats:4222"]).args(args)
}
