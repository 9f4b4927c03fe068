//! AMQP 0-9-1: RabbitMQ; the client speaks first, eight bytes.

use super::{Exchange, FirstByte, Kit, Life, Peer, Server};
use crate::house::Program;

/// RabbitMQ and pika.
pub(super) static PEER: Peer = Peer {
    protocol: "AMQP 0-9-1",
    server: "RabbitMQ",
    client: "pika",
    name: "rabbitmq",
    ports: (5672, 5672),
    first_byte: FirstByte::After(b"AMQP\x00\x00\x09\x01"),
    serve,
    talk,
    lives: Some(Life {
        client: |kit| client(kit, &["restart"]),
        lines: &["connected", "lost", "down", "reconnected", "published", "consumed"],
    }),
};

/// Guests may come from another pod; no statistics, no other listener.
const CONFIGURATION: &str = "loopback_users = none
listeners.tcp.default = 5672
log.file = false
log.console = true
log.console.level = warning
";

fn serve(kit: &Kit<'_>) -> Server {
    let configuration = kit.file("rabbitmq.conf", CONFIGURATION);
    // Debian's script of this name in /usr/sbin changes to a user of its own.
    let app = Program::at("/usr/lib/rabbitmq/bin/rabbitmq-server")
        .env("RABBITMQ_NODENAME", "rabbit@localhost")
        .env("RABBITMQ_CONFIG_FILE", &configuration)
        .env("RABBITMQ_MNESIA_BASE", &kit.path("mnesia"))
        .env("RABBITMQ_LOG_BASE", &kit.path("log"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", &kit.file("plugins", "[]."))
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("LANG", "C.UTF-8");
    Server { setup: Vec::new(), app, probe: None }
}

fn talk(kit: &Kit<'_>) -> Vec<Exchange> {
    let prints = "confirmed 10\nconsumed 0,1,2,3,4,5,6,7,8,9 left 0";
    vec![Exchange { client: client(kit, &[]), prints }]
}

fn client(kit: &Kit<'_>, args: &[&str]) -> Program {
    let script = include_str!("scripts/amqp_client.py");
    kit.python("amqp.py", script, &["rabbitmq"]).args(args)
}
