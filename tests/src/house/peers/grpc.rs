//! gRPC over HTTP/2: Python on both sides, all four kinds of call.

use super::{Exchange, FirstByte, Kit, Peer, Server};
use crate::house::Program;

/// grpcio on both sides.
pub(super) static PEER: Peer = Peer {
    protocol: "gRPC",
    server: "grpcio (Python)",
    client: "grpcio (Python)",
    name: "grpc",
    ports: (50_051, 50_051),
    first_byte: FirstByte::By(first_answers),
    serve,
    talk,
    lives: None,
};

const SERVER: &str = include_str!("scripts/grpc_server.py");
const CLIENT: &str = include_str!("scripts/grpc_client.py");
const TARGET: &str = "dns:///grpc:50051";

fn serve(kit: &Kit<'_>) -> Server {
    let app = kit.python("server.py", SERVER, &["50051"]);
    Server { setup: Vec::new(), app, probe: None }
}

fn talk(kit: &Kit<'_>) -> Vec<Exchange> {
    let prints = "unary hello world me at the end\n\
                  server stream ['0', '1', '2'] OUT_OF_RANGE no more\n\
                  client stream a,b,c\n\
                  both ONE\n\
                  both TWO\n\
                  both THREE\n\
                  end of stream OK";
    vec![Exchange { client: kit.python("client.py", CLIENT, &[TARGET]), prints }]
}

fn first_answers(kit: &Kit<'_>) -> Program {
    kit.python("client.py", CLIENT, &[TARGET, "50"])
}
