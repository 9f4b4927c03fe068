//! Whether the demo's ports are free, and who has one that is not.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use super::error::DemoError;
use super::plan::Plan;

/// A process that has a port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pid: u32,
    command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.command)
    }
}

/// Tries every port of the plan, and lets go of it again.
///
/// # Errors
/// For the first that cannot be listened on.
pub(crate) fn check_free(plan: &Plan) -> Result<(), DemoError> {
    for (address, what) in plan.ports() {
        match TcpListener::bind(address) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let (holder, elsewhere) = (holder(address), plan.elsewhere());
                return Err(DemoError::Taken { address, what, holder, elsewhere });
            }
            Err(source) => return Err(DemoError::Listen { address, what, source }),
        }
    }
    Ok(())
}

/// Who listens on an address, as far as the system tells us.
fn holder(address: SocketAddr) -> Option<Holder> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .find_map(|table| listening_inode(&fs::read_to_string(table).ok()?, address))?;
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?;
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|pid| has_descriptor(*pid, &link)).map(|pid| Holder {
        pid,
        command: fs::read_to_string(format!("/proc/{pid}/comm"))
            .map_or_else(|_| "?".into(), |comm| comm.trim_end().to_owned()),
    })
}

fn has_descriptor(pid: u32, link: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|target| target == Path::new(link))
}

/// The inode of the socket that listens on `address` or on its port at all addresses, in a
/// table as `/proc/net/tcp` shows it.
fn listening_inode(table: &str, address: SocketAddr) -> Option<u64> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, local, _, state, ..] = fields[..] else { return None };
        let (ip, port) = local.split_once(':')?;
        let fits = state == LISTEN
            && u16::from_str_radix(port, 16) == Ok(address.port())
            && covers(ip, address.ip());
        if fits { fields.get(9)?.parse().ok() } else { None }
    })
}

/// Whether a listening address in the table's hexadecimal, words in the machine's byte order,
/// takes what is sent to `ip`.
fn covers(hex: &str, ip: IpAddr) -> bool {
    let IpAddr::V4(ip) = ip else { return false };
    let same = |hex: &str| {
        u32::from_str_radix(hex, 16)
            .is_ok_and(|word| [ip, Ipv4Addr::UNSPECIFIED].contains(&word.to_ne_bytes().into()))
    };
    match hex.len() {
        8 => same(hex),
        // `::`, or an IPv4 address in IPv6's clothes
        32 => {
            hex.bytes().all(|byte| byte == b'0')
                || (hex[..16].bytes().all(|b| b == b'0') && same(&hex[24..]))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0102007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
   2: 0102007F:3A98 0102007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0";

    const TABLE6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0000000000000000FFFF00000102007F:3A99 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 444 1 0 100 0 0 10 0
   1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 555 1 0 100 0 0 10 0";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_listener_is_found_by_address_or_by_wildcard() {
        let cases = [
            (TABLE, "127.0.2.1:15001", Some(111)),
            (TABLE, "127.0.2.2:15001", None),
            (TABLE, "127.0.2.2:8080", Some(222)),
            (TABLE, "127.0.2.1:15000", None), // a connection, no listener
            (TABLE6, "127.0.2.1:15001", Some(444)),
            (TABLE6, "127.0.2.9:8080", Some(555)),
            ("", "127.0.2.9:8080", None),
        ];
        for (table, address, expected) in cases {
            assert_eq!(listening_inode(table, address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn a_taken_port_names_us_as_its_holder() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = holder(socket.local_addr().unwrap()).unwrap();
        assert_eq!(holder.pid, std::process::id());
    }
}
