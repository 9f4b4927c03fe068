//! A group of processes whose memory the kernel limits, as it does a container's (cgroups, version
//! 1 or 2).

use std::fs;
use std::path::{Path, PathBuf};

/// One group; it is empty again before it is dropped.
#[derive(Debug)]
pub struct Group {
    dir: PathBuf,
    kills: &'static str,
}

impl Group {
    /// A group that may use so many bytes.
    ///
    /// # Panics
    /// Where none can be made: says what that takes.
    pub fn with_memory(bytes: u64) -> Self {
        let name = format!("pillion-test-{}", std::process::id());
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (root, limit, kills) = if v1.exists() {
            (v1, "memory.limit_in_bytes", "memory.oom_control")
        } else {
            let root = Path::new("/sys/fs/cgroup");
            // In a hierarchy that is ours alone the controller may still be off.
            let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
            (root, "memory.max", "memory.events")
        };
        let dir = root.join(name);
        let made =
            fs::create_dir(&dir).and_then(|()| fs::write(dir.join(limit), bytes.to_string()));
        if let Err(error) = made {
            panic!(
                "{}: {error}. This test needs root, and cgroups with the memory controller that can \
                 be written (/sys/fs/cgroup)",
                dir.display()
            );
        }
        Self { dir, kills }
    }

    /// What to start a program under, so that it begins in the group.
    pub fn entering(&self) -> [String; 4] {
        let enter = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", self.dir.display());
        ["sh".into(), "-c".into(), enter, "sh".into()]
    }

    /// How many processes the kernel has killed for the group's limit.
    pub fn kills(&self) -> u64 {
        let told = fs::read_to_string(self.dir.join(self.kills)).expect("the group");
        let line = told.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.expect("oom_kill").parse().expect("a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.dir) {
            eprintln!("{}: {error}", self.dir.display());
        }
    }
}
