//! Tells the linker which functions every sidecar runs, so that it puts them side by side
//! (`layout.ld`): the others then stay on disk. Without it the sidecar is the same, and larger in
//! memory.

fn main() {
    println!("cargo::rerun-if-changed=layout.ld");
    println!("cargo::rerun-if-changed=build.rs");
    let set = |name: &str| std::env::var(name).unwrap_or_default();
    if set("CARGO_CFG_TARGET_OS") == "linux" && set("OPT_LEVEL") != "0" {
        let layout = format!("{}/layout.ld", set("CARGO_MANIFEST_DIR"));
        println!("cargo::rustc-link-arg-bin=pillion-proxy=-Wl,--script={layout}");
    }
}
