//! `pillion-control-plane`: the control plane of a Pillion mesh.

use std::process::ExitCode;

fn main() -> ExitCode {
    control_plane::run::main(std::env::args_os())
}
