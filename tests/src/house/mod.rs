//! The house: a mesh of pods that are network namespaces, as on a Kubernetes node.
//!
//! Each pod has a `veth` to a bridge in a namespace of its own (the hub), addresses, default
//! routes, an `/etc/hosts` with the names of the Services, redirect rules that our own command
//! installs, a sidecar under uid 1337 and an application under another uid that knows nothing of a
//! mesh. ClusterIPs exist only in the configuration. Nothing of the machine's own network is
//! touched, and houses do not see each other: all have the same addresses.
//!
//! ```text
//! let house = House::start(Options { mesh: Mesh::On, ..Options::default() }).await;
//! let api = house.pod("shop/api").port(80, 8080).app(Program::peer(&["http", "8080", "api"]));
//! let (api, web) = (api.start().await, house.pod("shop/web").start().await);
//! let answer = web.run(&Program::curl(&["http://api.shop/"])).await;   // from inside, as nobody
//! let answer = web.get("http://api.shop/").await?;                     // the test's own client
//! let stream = web.dial("api:80").await?;                              // bytes
//! ```
//!
//! It takes root, and `ip`, `nft` and `setpriv`; where that is missing the tests fail with a
//! sentence that says so.

mod control_plane;
mod door;
pub mod injected;
pub mod namespace;
mod objects;
pub mod peers;
mod plan;
pub mod pod;
pub mod program;
mod rules;
mod sidecar;
mod wiring;

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::kept::Kept;
use crate::process;
use crate::tools;

pub use self::plan::{Addresses, Stack};
pub use self::pod::{Pod, PodBuilder};
pub use self::program::{Program, User};

use self::control_plane::ControlPlane;
use self::namespace::Namespace;
use self::plan::Plan;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Whether pods get sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mesh {
    /// No: ClusterIPs are translated in each pod, as kube-proxy does.
    #[default]
    Off,
    /// Yes, unless a pod is to have none.
    On,
}

/// What a test wants otherwise than usual.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether pods get sidecars.
    pub mesh: Mesh,
    /// The IP versions.
    pub stack: Stack,
    /// YAML of further objects, which stay as they are.
    pub objects: String,
}

/// A running house. Dropped, its control plane and its bridge are gone; its pods end with their
/// own values.
#[derive(Debug)]
pub struct House {
    // Dropped in this order: processes first, their files last.
    control_plane: Option<ControlPlane>,
    hub: Namespace,
    number: u32,
    options: Options,
    /// Held while what follows from the plan is written, so that an older plan never wins.
    plan: tokio::sync::Mutex<Residents>,
    dir: Kept,
}

/// The plan, the Kubernetes namespaces of its pods, and those pods without a sidecar: hosts files
/// and rules follow the plan.
#[derive(Debug)]
struct Residents {
    plan: Plan,
    namespaces: Vec<String>,
    unmeshed: Vec<Unmeshed>,
}

/// A pod without a sidecar: its network namespace, and the rules that are in force there.
#[derive(Debug)]
struct Unmeshed {
    namespace: String,
    rules: String,
}

impl Residents {
    /// There are pods in this Kubernetes namespace from now on.
    fn see(&mut self, namespace: &str) {
        if !self.namespaces.iter().any(|known| known == namespace) {
            self.namespaces.push(namespace.to_owned());
        }
    }
}

impl House {
    /// Starts one without pods.
    ///
    /// # Panics
    /// When the test does not run as root or a tool is missing.
    pub async fn start(options: Options) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "the tests of the house make network namespaces: run them as root"
        );
        for (program, package) in
            [("ip", "iproute2"), ("nft", "nftables"), ("setpriv", "util-linux")]
        {
            tools::find(program, package);
        }
        let dir = Kept::new(&format!("{}{}-", namespace::DIRECTORIES, std::process::id()));
        // Those who are not root must find their files, but read only what is theirs.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).expect("a mode");
        for part in ["config", "aside", "logs", "pods", "hosts", "state"] {
            fs::create_dir(dir.path().join(part)).expect("a directory");
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let hub = wiring::hub(Namespace::name_of(number, "hub"), options.stack, dir.path()).await;
        let (plan, namespaces, unmeshed) = (Plan::new(options.stack), Vec::new(), Vec::new());
        let plan = tokio::sync::Mutex::new(Residents { plan, namespaces, unmeshed });
        let mut house = Self { control_plane: None, hub, number, options, plan, dir };
        if house.options.mesh == Mesh::On {
            house.control_plane = Some(ControlPlane::start(&house, None).await);
        }
        house
    }

    /// A pod of the workload `NAMESPACE/NAME`, to be described further and started.
    pub fn pod(&self, name: &str) -> PodBuilder<'_> {
        PodBuilder::new(self, name)
    }

    /// Whether pods get sidecars.
    pub fn mesh(&self) -> Mesh {
        self.options.mesh
    }

    /// The directory that is the home of the pod `name`, owned by `user`; made when it is asked
    /// for.
    pub fn home(&self, name: &str, user: User) -> PathBuf {
        let home = self.path("pods").join(name);
        fs::create_dir_all(&home).expect("a directory");
        chown(&home, Some(user.id()), Some(user.id())).expect("an owner");
        fs::set_permissions(&home, Permissions::from_mode(0o700)).expect("a mode");
        home
    }

    /// The directory of the logs.
    pub fn logs(&self) -> PathBuf {
        self.path("logs")
    }

    /// The network namespaces of this house that exist now.
    pub fn namespaces(&self) -> Vec<String> {
        let ours = Namespace::name_of(self.number, "");
        let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(&ours)).collect()
    }

    fn path(&self, part: &str) -> PathBuf {
        self.dir.path().join(part)
    }

    /// A namespace on the bridge.
    async fn namespace(&self, name: &str, addresses: Addresses) -> Namespace {
        let name = Namespace::name_of(self.number, name);
        wiring::join(&self.hub, name, addresses, self.options.stack).await
    }

    /// The namespace of a pod, where names are those of the file `hosts/HOSTS`.
    async fn enter(&self, name: &str, addresses: Addresses, hosts: &str) -> Namespace {
        let namespace = self.namespace(name, addresses).await;
        namespace.replace_in_etc("hosts", &self.path("hosts").join(hosts));
        // Names are in that file or nowhere: no query ever waits for a server.
        let switch = self.path("nsswitch.conf");
        fs::write(&switch, "passwd: files\ngroup: files\nhosts: files\n").expect("a file");
        namespace.replace_in_etc("nsswitch.conf", &switch);
        namespace
    }

    /// Changes the plan, and all that follows from it.
    async fn change<T>(&self, change: impl FnOnce(&mut Residents) -> T) -> T {
        let mut residents = self.plan.lock().await;
        let changed = change(&mut residents);
        for namespace in &residents.namespaces {
            self.write_hosts(&residents.plan, namespace);
        }
        if self.control_plane.is_some() {
            let objects = objects::documents(&residents.plan) + &self.options.objects;
            let aside = self.path("aside/house.yaml");
            fs::write(&aside, objects).expect("objects are written");
            fs::rename(aside, self.path("config/house.yaml")).expect("and put in place");
        }
        let rules = rules::kube_proxy(&residents.plan);
        let stale = residents.unmeshed.iter_mut().filter(|pod| pod.rules != rules);
        let file = self.path("kube-proxy.nft");
        fs::write(&file, &rules).expect("rules are written");
        futures_util::future::join_all(stale.map(async |pod| {
            rules::load(&pod.namespace, &file).await;
            pod.rules.clone_from(&rules);
        }))
        .await;
        changed
    }

    /// `/etc/hosts` for pods of a Kubernetes namespace. Running programs see this very file, so it
    /// only grows: a name that was there is never missing for a moment.
    fn write_hosts(&self, plan: &Plan, namespace: &str) {
        let path = self.path("hosts").join(namespace);
        let (hosts, written) = (plan.hosts(namespace), fs::read(&path).unwrap_or_default());
        let mut file = fs::File::options().create(true).append(true).open(path).expect("hosts");
        file.write_all(&hosts.as_bytes()[written.len()..]).expect("hosts are written");
    }
}

/// Runs a program within a namespace.
async fn run(namespace: &str, home: &Path, program: &Program) -> process::Output {
    let command = program.within(namespace, home);
    let limit = std::time::Duration::from_secs(60);
    process::run(&command.program, &command.args, &command.environment(), limit).await
}

/// Runs a program that must succeed.
async fn must(namespace: &str, home: &Path, program: &Program) {
    let output = run(namespace, home, program).await;
    assert_eq!(output.code, Some(0), "{program:?} failed in {namespace}: {output:?}");
}
