//! The group of processes (cgroups, version 1 or 2) whose memory the kernel limits.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// The sidecar's own group, where its memory has a limit.
#[derive(Debug)]
pub(super) struct Group {
    dir: PathBuf,
    names: &'static Names,
}

/// What is used of what may be, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    pub(super) bytes: u64,
    pub(super) limit: u64,
}

impl Used {
    pub(super) const fn percent(self) -> u64 {
        // invariant: a limit of nothing lets no process run; the least is one.
        self.bytes.saturating_mul(100) / if self.limit == 0 { 1 } else { self.limit }
    }
}

/// What the two versions call their files, and the lines of `memory.stat` that say what the kernel
/// would take back before it kills: pages of files.
#[derive(Debug)]
struct Names {
    limit: &'static str,
    usage: &'static str,
    files: [&'static str; 2],
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    files: ["total_active_file ", "total_inactive_file "],
};

const V2: Names = Names {
    limit: "memory.max",
    usage: "memory.current",
    files: ["active_file ", "inactive_file "],
};

/// Version 1 writes no limit as the largest number of pages.
const NO_LIMIT: u64 = 1 << 62;

impl Group {
    /// That of this process. None where there is no limit, or where others are in it, whose memory
    /// would be taken for ours.
    pub(super) fn own() -> Option<Self> {
        let groups = read_to_string("/proc/self/cgroup").ok()?;
        let mounts = read_to_string("/proc/self/mountinfo").ok()?;
        let limited = |group: &Self| group.limit() < NO_LIMIT && group.is_alone();
        places(&groups, &mounts).map(|(dir, names)| Self { dir, names }).find(limited)
    }

    /// What may be used, in bytes: a container's limit can change while it runs.
    pub(super) fn limit(&self) -> u64 {
        number(&self.dir.join(self.names.limit)).unwrap_or(u64::MAX)
    }

    /// What is used now; none where that cannot be told any more.
    pub(super) fn used(&self) -> Option<Used> {
        let usage = number(&self.dir.join(self.names.usage))?;
        let stat = read_to_string(self.dir.join("memory.stat")).ok()?;
        let files = stat.lines().filter_map(|line| {
            let pages = self.names.files.iter().find_map(|name| line.strip_prefix(name))?;
            pages.parse::<u64>().ok()
        });
        Some(Used { bytes: usage.saturating_sub(files.sum()), limit: self.limit() })
    }

    fn is_alone(&self) -> bool {
        let processes = read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        processes.trim() == std::process::id().to_string()
    }
}

fn number(file: &Path) -> Option<u64> {
    read_to_string(file).ok()?.trim().parse().ok()
}

/// Where the files of this process's group may be: its path below where a hierarchy is mounted,
/// less what of it the mount begins at (cgroups(7), proc_pid_mountinfo(5)).
fn places<'a>(
    groups: &'a str,
    mounts: &'a str,
) -> impl Iterator<Item = (PathBuf, &'static Names)> + 'a {
    groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let names = match controllers {
            "" => &V2,
            list if list.split(',').any(|name| name == "memory") => &V1,
            _ => return None,
        };
        Some((below(mounts, path, names)?, names))
    })
}

fn below(mounts: &str, path: &str, names: &Names) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let is_ours = match kind.next()? {
            "cgroup2" => std::ptr::eq(names, &V2),
            "cgroup" => {
                let options = kind.nth(1)?;
                std::ptr::eq(names, &V1) && options.split(',').any(|option| option == "memory")
            }
            _ => false,
        };
        let mut mount = mount.split(' ').skip(3);
        let (root, at) = (mount.next()?, mount.next()?);
        let inner = Path::new(path).strip_prefix(root).unwrap_or_else(|_| Path::new(""));
        let inner = inner.strip_prefix("/").unwrap_or(inner);
        is_ours.then(|| Path::new(at).join(inner))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(groups: &str, mounts: &str) -> Vec<String> {
        places(groups, mounts)
            .map(|(dir, names)| format!("{} {}", dir.display(), names.limit))
            .collect()
    }

    #[test]
    fn a_group_is_found_below_its_mount() {
        let v2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let v1 = "33 30 0:28 /kubepods/pod1/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                  34 30 0:29 /kubepods/pod1/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n";
        let own = "5:cpu,cpuacct:/kubepods/pod1/abc\n4:memory:/kubepods/pod1/abc\n0::/\n";
        let cases = [
            (
                "0::/system.slice/pillion.service\n",
                v2,
                "/sys/fs/cgroup/system.slice/pillion.service memory.max",
            ),
            ("0::/\n", v2, "/sys/fs/cgroup/ memory.max"),
            (own, v1, "/sys/fs/cgroup/memory/ memory.limit_in_bytes"),
            (
                "4:memory:/a/b\n",
                "1 1 0:1 / /m rw - cgroup x rw,memory\n",
                "/m/a/b memory.limit_in_bytes",
            ),
        ];
        for (groups, mounts, expected) in cases {
            assert_eq!(found(groups, mounts), [expected], "{groups}");
        }
        assert!(found("nonsense\n0::/\n", "").is_empty());
    }

    #[test]
    fn pages_of_files_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("memory.current"), "1000\n").unwrap();
        std::fs::write(dir.path().join("memory.max"), "1400\n").unwrap();
        let stat = "anon 300\nfile 600\nactive_file 200\ninactive_file 100\n";
        std::fs::write(dir.path().join("memory.stat"), stat).unwrap();
        let group = Group { dir: dir.path().into(), names: &V2 };
        assert_eq!(group.used().unwrap().percent(), 50);
        std::fs::write(dir.path().join("memory.max"), "max\n").unwrap();
        assert_eq!(group.used().unwrap().percent(), 0, "there is no limit any more");
        std::fs::remove_file(dir.path().join("memory.stat")).unwrap();
        assert!(group.used().is_none());
    }
}
