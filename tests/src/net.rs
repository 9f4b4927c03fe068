//! Loopback addresses of a mesh's own, so that every pod has the same fixed ports and tests run
//! side by side.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// The port whose listener marks a network as taken, for every process of this machine.
const RESERVATION: u16 = 14_999;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A network 127.x.y.0/24 that nobody else uses as long as this value lives.
#[derive(Debug)]
pub struct Net {
    prefix: [u8; 3],
    next: AtomicU8,
    _reservation: TcpListener,
}

impl Net {
    /// Takes a free network, away from 127.0.0.0/12 where other things live.
    pub fn reserve() -> Self {
        (0..4096).find_map(|_| Self::take(NEXT.fetch_add(1, Ordering::Relaxed))).unwrap_or_else(
            || panic!("no free network in 127.0.0.0/8: is port {RESERVATION} taken everywhere?"),
        )
    }

    fn take(index: u32) -> Option<Self> {
        let spread = std::process::id().wrapping_mul(97).wrapping_add(index) % (240 * 256);
        let [_, _, high, low] = spread.to_be_bytes();
        let prefix = [127, 16 + high, low];
        let address = SocketAddr::from((Self::address(prefix, 1), RESERVATION));
        let reservation = TcpListener::bind(address).ok()?;
        Some(Self { prefix, next: AtomicU8::new(2), _reservation: reservation })
    }

    /// The address before all of the network's: 127.x.y.0.
    pub fn base(&self) -> IpAddr {
        Self::address(self.prefix, 0).into()
    }

    /// The next address of the network that was not given out yet.
    pub fn next(&self) -> IpAddr {
        let host = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(host < 250, "this mesh is larger than its network");
        Self::address(self.prefix, host).into()
    }

    fn address([a, b, c]: [u8; 3], host: u8) -> Ipv4Addr {
        Ipv4Addr::new(a, b, c, host)
    }
}
