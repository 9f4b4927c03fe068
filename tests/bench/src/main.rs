//! What Pillion costs beside what users would pick instead. `tests/bench/run` builds what this
//! needs and starts it; README.md beside it says what is measured and how.

// A benchmark prints its figures.
#![allow(clippy::print_stdout, clippy::print_stderr)]

fn main() {}
