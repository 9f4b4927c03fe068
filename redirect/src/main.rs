//! The init container's own binary: `install`, `remove` and `check`, and no proxy.

use std::process::ExitCode;

fn main() -> ExitCode {
    redirect::main(std::env::args_os())
}
