//! A container as a runtime starts it: with the words, the environment, the user, the capabilities
//! and the files that its pod says, and with nothing else.
//!
//! Not emulated are seccomp, cgroups and namespaces of processes.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::house::namespace;
use crate::house::program::Command;
use crate::tools;

/// What is in every image here: the programs of this machine, and no file of anybody.
const SYSTEM: &str = "usr";
/// Names in the root that are links into the system, or directories of it.
const LINKS: &str = "bin sbin lib lib64";

/// A container of a pod, ready to be started.
#[derive(Debug)]
pub(super) struct Container {
    /// Its command with all arguments.
    pub(super) words: Vec<String>,
    /// Its environment.
    pub(super) environment: Vec<(String, String)>,
    /// As whom it runs.
    pub(super) security: Security,
    /// Files of this machine that are in its root, with their names there.
    pub(super) image: Vec<(PathBuf, String)>,
    /// What its pod mounts.
    pub(super) mounts: Vec<Mount>,
}

/// As whom a container runs, and what it may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Security {
    user: u64,
    group: u64,
    /// All that it can ever have, in the words of `setpriv`: `net_admin`.
    capabilities: Vec<String>,
    may_escalate: bool,
    read_only_root: bool,
}

/// A volume in a container.
#[derive(Debug)]
pub(super) struct Mount {
    /// Where, as an absolute path.
    pub(super) at: String,
    /// What.
    pub(super) volume: Volume,
    /// Whether it can only be read.
    pub(super) read_only: bool,
}

/// What a volume is made of.
#[derive(Debug, Clone)]
pub(super) enum Volume {
    /// A directory of this machine.
    Directory(PathBuf),
    /// Memory, empty at first, of so many bytes.
    Memory(u64),
}

impl Security {
    /// Of a container of a pod; what it does not say, its pod says.
    ///
    /// # Panics
    /// When nobody says as whom it runs or it keeps capabilities that its runtime would choose.
    pub(super) fn read(pod: &Value, container: &Value) -> Self {
        let own = &container["securityContext"];
        let number = |field: &str| {
            let of_pod = &pod["spec"]["securityContext"][field];
            let found = own[field].as_u64().or_else(|| of_pod.as_u64());
            found.unwrap_or_else(|| panic!("no {field} of {}", container["name"]))
        };
        let capabilities = &own["capabilities"];
        assert_eq!(capabilities["drop"], serde_json::json!(["ALL"]), "{}", container["name"]);
        let added = capabilities["add"].as_array().into_iter().flatten();
        let added = added.map(|name| name.as_str().expect("a name").to_lowercase());
        Self {
            user: number("runAsUser"),
            group: number("runAsGroup"),
            capabilities: added.collect(),
            may_escalate: own["allowPrivilegeEscalation"] != false,
            read_only_root: own["readOnlyRootFilesystem"] == true,
        }
    }

    /// The start of a command line that becomes this user. As with a real runtime no capability is
    /// inheritable: who is not root has one only if its file has it too, within these bounds.
    fn assume(&self) -> Vec<String> {
        let setpriv = tools::find("setpriv", "util-linux");
        let bounds = self.capabilities.iter().map(|name| format!(",+{name}"));
        let bounds = format!("--bounding-set=-all{}", bounds.collect::<String>());
        let (user, group) = (self.user.to_string(), self.group.to_string());
        let mut words = vec![setpriv.to_str().expect("a path in UTF-8").to_owned()];
        words.extend(["--reuid", &user, "--regid", &group, "--clear-groups"].map(str::to_owned));
        words.extend(["--inh-caps=-all".to_owned(), bounds]);
        words.extend((!self.may_escalate).then(|| "--no-new-privs".to_owned()));
        words.push("--".to_owned());
        words
    }
}

impl Container {
    /// The command that runs it in a network namespace, under the host name of its pod. Its root
    /// is put together at `root`, an empty directory, and gone with it.
    pub(super) fn within(&self, network: &str, hostname: &str, root: &Path) -> Command {
        let outside = ["netns", "exec", network, "unshare", "--uts", "sh", "-euc"];
        let mut args: Vec<String> = outside.map(str::to_owned).to_vec();
        args.extend([self.script(root), hostname.to_owned()]);
        // From here on it is in its root.
        args.extend(["/usr/bin/env".to_owned(), "-i".to_owned()]);
        args.push("PATH=/:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        args.extend(self.environment.iter().map(|(name, value)| format!("{name}={value}")));
        args.extend(self.security.assume());
        args.extend(self.words.iter().cloned());
        Command { program: namespace::program(), args, environment: Vec::new() }
    }

    /// Puts the root together and becomes what follows in it. `ip netns exec` has made a view of
    /// the file system for this process alone.
    fn script(&self, root: &Path) -> String {
        let root = root.to_str().expect("a path in UTF-8");
        let mut lines = format!(
            "root='{root}'\n\
             echo \"$0\" >/proc/sys/kernel/hostname\n\
             mount -t tmpfs -o mode=755 none \"$root\"\n\
             mkdir \"$root/{SYSTEM}\" \"$root/dev\" \"$root/proc\" \"$root/etc\"\n\
             mount -o bind,ro /{SYSTEM} \"$root/{SYSTEM}\"\n\
             mount --rbind /dev \"$root/dev\"\n\
             mount --rbind /proc \"$root/proc\"\n\
             for name in {LINKS}; do\n\
             if [ -L /$name ]; then cp -P /$name \"$root\"\n\
             elif [ -d /$name ]; then mkdir \"$root/$name\"; mount -o bind,ro /$name \"$root/$name\"\n\
             fi\n\
             done\n"
        );
        for (file, name) in &self.image {
            let file = file.to_str().expect("a path in UTF-8");
            // The capability of a file counts though it may come from where none does (`nosuid`).
            lines +=
                &format!("touch \"$root{name}\"\nmount -o bind,ro,suid '{file}' \"$root{name}\"\n");
        }
        lines.extend(self.mounts.iter().map(Mount::script));
        if self.security.read_only_root {
            lines += "mount -o remount,ro \"$root\"\n";
        }
        lines + "exec chroot \"$root\" \"$@\""
    }
}

impl Mount {
    fn script(&self) -> String {
        let (at, mode) = (&self.at, if self.read_only { "ro" } else { "rw" });
        let mount = match &self.volume {
            Volume::Memory(bytes) => format!("-t tmpfs -o mode=1777,size={bytes},{mode} none"),
            Volume::Directory(path) => {
                format!("-o bind,{mode} '{}'", path.to_str().expect("a path in UTF-8"))
            }
        };
        format!("mkdir -p \"$root{at}\"\nmount {mount} \"$root{at}\"\n")
    }
}
