//! Where the binaries are that the tests run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The binaries of Pillion.
#[derive(Debug)]
pub struct Bins {
    /// What an operator types.
    pub pillion: PathBuf,
    /// The sidecar.
    pub proxy: PathBuf,
    /// The control plane.
    pub control_plane: PathBuf,
    /// What the init container of a pod runs.
    pub redirect: PathBuf,
}

static BINS: LazyLock<Bins> = LazyLock::new(|| match std::env::var_os("PILLION_BIN_DIR") {
    Some(dir) => Bins::in_dir(&workspace().join(dir)),
    None => Bins::built(),
});

/// The binaries: those of `PILLION_BIN_DIR` (relative to the workspace), else a dev build of
/// the workspace as it is now, made once for each test process.
///
/// # Panics
/// When they are not there or do not compile.
pub fn bins() -> &'static Bins {
    &BINS
}

/// The workspace's directory.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is a member of a workspace")
}

impl Bins {
    fn in_dir(dir: &Path) -> Self {
        let find = |name: &str| {
            let path = dir.join(name);
            assert!(
                path.is_file(),
                "no binary {}: build it, or unset PILLION_BIN_DIR",
                path.display()
            );
            path
        };
        Self {
            pillion: find("pillion"),
            proxy: find("pillion-proxy"),
            control_plane: find("pillion-control-plane"),
            redirect: find("pillion-redirect"),
        }
    }

    fn built() -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--workspace", "--bins", "--quiet"])
            .current_dir(workspace())
            .status()
            .expect("cargo starts");
        assert!(status.success(), "the binaries do not compile (see above)");
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        Self::in_dir(&workspace().join(target).join("debug"))
    }
}
