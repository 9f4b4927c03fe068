//! ClusterIPs for Services that have none written, as an API server would give them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use model::name::ServiceName;
use sha2::{Digest, Sha256};

/// A range of IPv4 addresses, written `10.96.0.0/12`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    first: u32,
    prefix: u32,
}

/// Why a text is no [`Range`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// It is not an address and a length.
    #[error("{0:?} is not IPV4-ADDRESS/LENGTH, as in 10.96.0.0/12")]
    Form(String),
    /// It is too large, or too small to hold Services.
    #[error("a length of {0} is out of range: 8 to 28")]
    Length(u32),
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let form = || RangeError::Form(text.into());
        let (address, prefix) = text.split_once('/').ok_or_else(form)?;
        let address: Ipv4Addr = address.parse().map_err(|_| form())?;
        let prefix: u32 = prefix.parse().map_err(|_| form())?;
        if !(8..=28).contains(&prefix) {
            return Err(RangeError::Length(prefix));
        }
        Ok(Self { first: u32::from(address) & (u32::MAX << (32 - prefix)), prefix })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.first), self.prefix)
    }
}

impl Range {
    /// How many addresses a Service can have: all but the first and the last.
    fn usable(self) -> u32 {
        (1 << (32 - self.prefix)) - 2
    }

    fn nth(self, index: u32) -> IpAddr {
        Ipv4Addr::from(self.first + 1 + index).into()
    }
}

/// Gives each name an address that nobody has taken: always the same for the same names, and
/// almost always the same whatever other names there are, for it is found by a hash of the name.
/// A name for which there is no room gets none.
pub(super) fn assign<'n>(
    names: impl Iterator<Item = &'n ServiceName>,
    mut taken: BTreeSet<IpAddr>,
    range: Range,
) -> BTreeMap<&'n ServiceName, IpAddr> {
    let usable = range.usable();
    let mut assigned = BTreeMap::new();
    for name in names {
        let start = hash(name) % usable;
        let mut places = (0..usable).map(|step| range.nth((start + step) % usable));
        if let Some(address) = places.find(|address| !taken.contains(address)) {
            taken.insert(address);
            assigned.insert(name, address);
        }
    }
    assigned
}

fn hash(name: &ServiceName) -> u32 {
    let digest = Sha256::digest(name.to_string());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<ServiceName> {
        (0..count).map(|i| format!("shop/s{i}").parse().unwrap()).collect()
    }

    #[test]
    fn ranges_are_parsed() {
        let range: Range = "10.97.1.2/12".parse().unwrap();
        assert_eq!(range.to_string(), "10.96.0.0/12");
        for bad in ["", "10.0.0.0", "10.0.0.0/x", "fd00::/64", "10.0.0.0/7", "10.0.0.0/29"] {
            assert!(bad.parse::<Range>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn an_address_depends_on_the_name_alone() {
        let range: Range = "10.96.0.0/12".parse().unwrap();
        let (few, many) = (names(3), names(50));
        let few = assign(few.iter(), BTreeSet::new(), range);
        let many = assign(many.iter(), BTreeSet::new(), range);
        for (name, address) in few {
            assert_eq!(many[name], address);
        }
    }

    #[test]
    fn no_address_is_given_twice_and_a_full_range_gives_none() {
        let range: Range = "10.0.0.0/28".parse().unwrap();
        let names = names(20);
        let taken = BTreeSet::from([range.nth(0)]);
        let assigned = assign(names.iter(), taken.clone(), range);
        let different: BTreeSet<_> = assigned.values().copied().collect();
        assert_eq!((assigned.len(), different.len()), (13, 13));
        assert!(different.is_disjoint(&taken));
    }
}
