//! `pillion`: what an operator types.

// A command line tool answers on standard output and reports on standard error.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod check;
mod cli;
mod client;
mod crds;
mod demo;
mod demo_app;
mod inject;
mod parent;
mod token;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::main(std::env::args_os())
}
