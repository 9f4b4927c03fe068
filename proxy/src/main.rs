//! The sidecar's own binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    proxy::run::main(std::env::args_os())
}
