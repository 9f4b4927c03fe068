//! Tells the linker which functions every sidecar runs, so that it puts them side by side
//! (`layout.ld`): the others then stay on disk. Without it the sidecar is the same, and larger in
//! memory.

/// Linkers that do not read such a file.
const OTHERS: [&str; 2] = ["fuse-ld=gold", "fuse-ld=mold"];

fn main() {
    println!("cargo::rerun-if-changed=layout.ld");
    println!("cargo::rerun-if-changed=build.rs");
    let set = |name: &str| std::env::var(name).unwrap_or_default();
    let flags = set("CARGO_ENCODED_RUSTFLAGS");
    let reads = set("CARGO_CFG_TARGET_OS") == "linux" && !OTHERS.iter().any(|o| flags.contains(o));
    if reads && set("OPT_LEVEL") != "0" {
        println!(
            "cargo::rustc-link-arg-bin=pillion-proxy=-T{}/layout.ld",
            set("CARGO_MANIFEST_DIR")
        );
    }
}
