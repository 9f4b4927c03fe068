//! A range of addresses with a common prefix.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of IPv4 or IPv6 addresses in CIDR notation (RFC 4632 §3.1, RFC 4291 §2.3). The bits
/// after the prefix are zero, so one range has one notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

/// Why a text names no subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// It is neither an address nor a CIDR.
    #[error("`{0}` is no address and no CIDR such as 10.0.0.0/8")]
    Syntax(String),
    /// There are bits after the prefix: an address was meant, or another prefix.
    #[error("`{0}` has bits after its prefix; did you mean {1}?")]
    Bits(String, Subnet),
    /// Such packets are IPv4 on the wire, so the rule would never match.
    #[error("`{0}` is IPv4 written as IPv6; write it as IPv4")]
    Mapped(String),
}

impl Subnet {
    /// The range of `prefix` bits that `address` is in.
    const fn around(address: IpAddr, prefix: u8) -> Self {
        let address = match address {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask_v4(prefix))),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask_v6(prefix))),
        };
        Self { address, prefix }
    }

    /// The range of `prefix` bits that this IPv4 address is in; more bits than 32 are 32.
    pub const fn v4(address: Ipv4Addr, prefix: u8) -> Self {
        Self::around(IpAddr::V4(address), if prefix < 32 { prefix } else { 32 })
    }

    /// The range of `prefix` bits that this IPv6 address is in; more bits than 128 are 128.
    pub const fn v6(address: Ipv6Addr, prefix: u8) -> Self {
        Self::around(IpAddr::V6(address), if prefix < 128 { prefix } else { 128 })
    }

    /// The first address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The mask of the prefix's bits as an address, or nothing if the range is one address.
    pub const fn mask(&self) -> Option<IpAddr> {
        match self.address {
            IpAddr::V4(_) if self.prefix == 32 => None,
            IpAddr::V4(_) => Some(IpAddr::V4(Ipv4Addr::from_bits(mask_v4(self.prefix)))),
            IpAddr::V6(_) if self.prefix == 128 => None,
            IpAddr::V6(_) => Some(IpAddr::V6(Ipv6Addr::from_bits(mask_v6(self.prefix)))),
        }
    }

    /// Whether the address is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && Self::around(address, self.prefix) == *self
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let syntax = || SubnetError::Syntax(text.into());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| syntax())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= longest).ok_or_else(syntax)?
            }
            Some(_) => return Err(syntax()),
        };
        if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            return Err(SubnetError::Mapped(text.into()));
        }
        let subnet = Self::around(address, prefix);
        if subnet.address == address {
            Ok(subnet)
        } else {
            Err(SubnetError::Bits(text.into(), subnet))
        }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mask() {
            None => write!(f, "{}", self.address),
            Some(_) => write!(f, "{}/{}", self.address, self.prefix),
        }
    }
}

const fn mask_v4(prefix: u8) -> u32 {
    if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) }
}

const fn mask_v6(prefix: u8) -> u128 {
    if prefix == 0 { 0 } else { u128::MAX << (128 - prefix) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_written_as_it_is_read() {
        let cases = [
            ("10.0.0.0/8", "10.0.0.0/8", Some("255.0.0.0")),
            ("10.1.2.3", "10.1.2.3", None),
            ("10.1.2.3/32", "10.1.2.3", None),
            ("0.0.0.0/0", "0.0.0.0/0", Some("0.0.0.0")),
            ("fe80::/10", "fe80::/10", Some("ffc0::")),
            ("FD00::7", "fd00::7", None),
            ("::/0", "::/0", Some("::")),
        ];
        for (text, written, mask) in cases {
            let subnet: Subnet = text.parse().unwrap();
            assert_eq!(subnet.to_string(), written);
            assert_eq!(subnet.mask(), mask.map(|mask| mask.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_no_subnet_is_refused_with_its_reason() {
        let syntax = |text: &str| format!("`{text}` is no address and no CIDR such as 10.0.0.0/8");
        for text in ["", "x", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8"] {
            assert_eq!(text.parse::<Subnet>().unwrap_err().to_string(), syntax(text));
        }
        let cases = [
            ("10.0.0.1/8", "`10.0.0.1/8` has bits after its prefix; did you mean 10.0.0.0/8?"),
            (
                "::ffff:10.0.0.0/104",
                "`::ffff:10.0.0.0/104` is IPv4 written as IPv6; write it as IPv4",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(text.parse::<Subnet>().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_subnet_contains_its_addresses_and_those_of_no_other_family() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::", false),
            ("2001:db8::/32", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ];
        for (subnet, address, within) in cases {
            let subnet: Subnet = subnet.parse().unwrap();
            assert_eq!(subnet.contains(address.parse().unwrap()), within, "{subnet} {address}");
        }
    }
}
