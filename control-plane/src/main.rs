//! `pillion-control-plane`: the control plane of a Pillion mesh.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    control_plane::run::main(std::env::args_os())
}
