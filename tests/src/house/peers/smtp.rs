//! SMTP: a banner first, then one line each.

use super::{Exchange, FirstByte, Kit, Peer, Server};

/// aiosmtpd and Python's smtplib.
pub(super) static PEER: Peer = Peer {
    protocol: "SMTP",
    server: "aiosmtpd",
    client: "smtplib",
    name: "smtp",
    ports: (25, 25),
    first_byte: FirstByte::After(b""),
    serve,
    talk,
    lives: None,
};

fn serve(kit: &Kit<'_>) -> Server {
    let app = kit.python("server.py", include_str!("scripts/smtp_server.py"), &["25"]);
    Server { setup: Vec::new(), app, probe: None }
}

fn talk(kit: &Kit<'_>) -> Vec<Exchange> {
    let client = kit.python("client.py", include_str!("scripts/smtp_client.py"), &["smtp", "25"]);
    let prints = "220\n\
                  (250, b'OK') (250, b'OK')\n\
                  (250, b'from a@example.org, Subject: hello')\n\
                  221";
    vec![Exchange { client, prints }]
}
