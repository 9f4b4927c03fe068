//! Two network namespaces joined by a cable: a pod, and everything else.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser as _;
use redirect::args::{Args, Command as RedirectCommand};
use redirect::settings::Settings;
use rustix::thread::{
    CapabilitySet, CapabilitySets, LinkNameSpaceType, Uid, move_into_link_name_space,
    set_capabilities, set_thread_res_uid,
};
use socket2::{Domain, Socket, Type};

/// The pod's addresses, and those of the other end of the cable.
pub(crate) const POD: [&str; 2] = ["10.77.0.2", "fd77::2"];
pub(crate) const FAR: [&str; 2] = ["10.77.0.1", "fd77::1"];
/// Addresses behind the far end that nobody has.
pub(crate) const NOWHERE: [&str; 2] = ["198.51.100.7", "2001:db8:7::7"];
pub(crate) const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];
/// All addresses of a namespace.
pub(crate) const ANY: [&str; 2] = ["0.0.0.0", "::"];

/// An ordinary user, as an application runs.
pub(crate) const APPLICATION: u32 = 1000;
/// The sidecar's.
pub(crate) const SIDECAR: u32 = 1337;

/// The namespaces, which end with it.
pub(crate) struct World {
    pub(crate) pod: Namespace,
    pub(crate) far: Namespace,
}

impl World {
    pub(crate) fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "namespaces need root: run this as root");
        let world = Self { pod: Namespace::new("pod"), far: Namespace::new("far") };
        let (pod, far) = (&world.pod.name, &world.far.name);
        ip(&format!("link add eth0 netns {pod} type veth peer name eth0 netns {far}"));
        world.pod.up(POD);
        world.far.up(FAR);
        ip(&format!("-n {pod} route add default via {}", FAR[0]));
        ip(&format!("-n {pod} route add default via {}", FAR[1]));
        world
    }

    /// A world with the rules of these flags in the pod.
    pub(crate) fn redirected(flags: &str) -> Self {
        let world = Self::new();
        world.install(flags);
        world
    }

    pub(crate) fn install(&self, flags: &str) {
        self.pod.run(|| redirect::install(&settings(flags)).unwrap());
    }
}

pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    fn new(role: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pillion-{}-{number}-{role}", std::process::id());
        ip(&format!("netns add {name}"));
        Self { name }
    }

    fn up(&self, addresses: [&str; 2]) {
        let name = &self.name;
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} addr add {}/24 dev eth0", addresses[0]));
        ip(&format!("-n {name} addr add {}/64 dev eth0 nodad", addresses[1]));
        ip(&format!("-n {name} link set eth0 up"));
    }

    /// Runs `f` on a thread that is in the namespace.
    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            f()
        };
        let joined = thread::scope(|scope| scope.spawn(enter).join());
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs `f` in the namespace as this user, who has no capabilities.
    pub(crate) fn run_as<T: Send>(&self, uid: u32, f: impl FnOnce() -> T + Send) -> T {
        self.run(|| {
            let uid = Uid::from_raw(uid);
            set_thread_res_uid(uid, uid, uid).unwrap();
            f()
        })
    }

    /// Runs `f` in the namespace as root with these capabilities only.
    pub(crate) fn run_with<T: Send>(
        &self,
        capabilities: CapabilitySet,
        f: impl FnOnce() -> T + Send,
    ) -> T {
        let inheritable = CapabilitySet::empty();
        let sets = CapabilitySets { effective: capabilities, permitted: capabilities, inheritable };
        self.run(|| {
            set_capabilities(None, sets).unwrap();
            f()
        })
    }

    /// What an ordinary user gets from there.
    pub(crate) fn ask(&self, address: &str, port: u16) -> String {
        self.ask_as(APPLICATION, address, port)
    }

    pub(crate) fn ask_as(&self, uid: u32, address: &str, port: u16) -> String {
        let target = SocketAddr::new(address.parse().unwrap(), port);
        self.run_as(uid, || ask(target)).unwrap_or_else(|error| format!("{target}: {error}"))
    }

    /// Answers each connection to the port at these addresses with `name` and where it was sent.
    pub(crate) fn serve(&self, name: &str, addresses: [&str; 2], port: u16) -> Server {
        let listeners = addresses.map(|address| self.run(|| listen(address, port)));
        for listener in &listeners {
            let (listener, name) = (listener.try_clone().unwrap(), name.to_owned());
            thread::spawn(move || answer(&listener, &name));
        }
        Server(listeners.into())
    }

    /// The rules as nft lists them; `args` choose which.
    pub(crate) fn list(&self, args: &str) -> String {
        self.nft(&format!("list {args}"), "")
    }

    /// All rules with their numbers: what is made anew has others.
    pub(crate) fn list_with_handles(&self) -> String {
        self.nft("-a list ruleset", "")
    }

    /// Gives nft rules to load.
    pub(crate) fn load(&self, rules: &str) {
        self.nft("-f -", rules);
    }

    fn nft(&self, args: &str, input: &str) -> String {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "nft"]).args(args.split(' '));
        let output = run(&mut command, input);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!error.contains("exec of \"nft\""), "nft is missing: install the package nftables");
        assert!(output.status.success(), "nft {args}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// Listening sockets, which close with it.
pub(crate) struct Server(Vec<Socket>);

impl Drop for Server {
    fn drop(&mut self) {
        for listener in &self.0 {
            let _ = listener.shutdown(std::net::Shutdown::Both); // ends the thread's `accept`
        }
    }
}

/// The settings of a line of flags.
pub(crate) fn settings(flags: &str) -> Settings {
    let line = ["redirect", "install"].into_iter().chain(flags.split_whitespace());
    let RedirectCommand::Install { rules, .. } = Args::try_parse_from(line).unwrap().command else {
        panic!("{flags}")
    };
    rules.try_into().unwrap()
}

/// Runs `ip` with these arguments.
pub(crate) fn ip(args: &str) {
    let output = run(Command::new("ip").args(args.split(' ')), "");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

fn run(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("cannot start {command:?} ({error}): install the package iproute2")
    });
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What the server there says, without the end of the line.
pub(crate) fn ask(target: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut line = String::new();
    stream.read_to_string(&mut line)?;
    Ok(line.trim_end().into())
}

fn listen(address: &str, port: u16) -> Socket {
    let address = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    socket.bind(&address.into()).unwrap();
    socket.listen(16).unwrap();
    socket
}

fn answer(listener: &Socket, name: &str) {
    while let Ok((mut socket, _)) = listener.accept() {
        let _ = socket.write_all(format!("{name} {}\n", destination(&socket)).as_bytes());
    }
}

/// Where the peer sent its connection.
fn destination(socket: &Socket) -> SocketAddr {
    let own = socket.local_addr().unwrap();
    let original = match own.as_socket().unwrap() {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    // A namespace without such rules does not keep it.
    original.unwrap_or(own).as_socket().unwrap()
}

/// `name` and a destination, as a [`Server`] of that name says it.
pub(crate) fn said(name: &str, address: &str, port: u16) -> String {
    format!("{name} {}", SocketAddr::new(address.parse().unwrap(), port))
}
