//! A rule as the kernel runs it: a few instructions over two registers. Numbers are those of the
//! kernel's `linux/netfilter/nf_tables.h`. Each match is written in the form in which nft would
//! write it, so that `nft list ruleset` reads it back.

use std::net::IpAddr;

use crate::attribute::Attribute;
use crate::rules::{DESTINATION_BITS, Hook, LOOPBACK, LOOPBACK_BITS, Match, Rule, Verdict};
use crate::subnet::Subnet;

/// Where the chains stand among others of their hook: where destinations are rewritten (`dstnat`).
pub(crate) const PRIORITY: i32 = -100;

const ELEMENT: u16 = 1;
const REGISTER: u32 = 1;
const SECOND_REGISTER: u32 = 2;
const VERDICT_REGISTER: u32 = 0;
const RETURN: i32 = -5;
const TCP: u8 = 6;
/// The size of an interface's name; shorter ones are compared with their NULs.
const INTERFACE_NAME: usize = 16;
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;
/// Where the destination is in the IPv4 header (RFC 791 §3.1) and the IPv6 header (RFC 8200 §3).
const DESTINATION: (u32, u32) = (16, 24);
const SOURCE: (u32, u32) = (12, 8);
/// The address of a redirect is given, not chosen.
const ADDRESS_SPECIFIED: u32 = 1;
/// And its port.
const PORT_SPECIFIED: u32 = 2;
/// A `nat` that changes where a connection goes.
const DESTINATION_NAT: u32 = 1;

#[derive(Clone, Copy)]
enum Meta {
    IncomingName = 6,
    OutgoingName = 7,
    SocketUser = 10,
    Family = 15,
    Protocol = 16,
}

#[derive(Clone, Copy)]
enum Header {
    Network = 1,
    Transport = 2,
}

#[derive(Clone, Copy)]
enum Compare {
    Equal = 0,
    NotEqual = 1,
}

/// The hook's number for the family `inet`.
pub(crate) const fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Output => 3,
    }
}

/// The instructions of a rule, as elements of a list.
pub(crate) fn instructions(rule: &Rule) -> Vec<Attribute> {
    let mut instructions = conditions(rule.matches);
    instructions.extend(verdict(rule.verdict));
    instructions
}

/// The comment that nft shows beside a rule, as nft keeps it: type 0, length, text with its NUL.
pub(crate) fn comment(why: &str) -> Vec<u8> {
    // Reasons are constants of `rules`, all of them short.
    [&[0, (why.len() + 1) as u8], why.as_bytes(), &[0]].concat()
}

fn conditions(matches: Match) -> Vec<Attribute> {
    let is = Compare::Equal;
    match matches {
        Match::User(uid) => vec![meta(Meta::SocketUser), compare(is, &uid.to_ne_bytes())],
        Match::ToLoopback => vec![meta(Meta::OutgoingName), compare(is, &interface(LOOPBACK))],
        Match::FromLoopback => vec![meta(Meta::IncomingName), compare(is, &interface(LOOPBACK))],
        Match::NotTcp => vec![meta(Meta::Protocol), compare(Compare::NotEqual, &[TCP])],
        Match::Tcp => vec![meta(Meta::Protocol), compare(is, &[TCP])],
        Match::Source(subnet) => address(subnet, SOURCE),
        Match::Destination(subnet) => address(subnet, DESTINATION),
        Match::Port(port) => vec![
            meta(Meta::Protocol),
            compare(is, &[TCP]),
            payload(Header::Transport, 2, 2),
            compare(is, &port.to_be_bytes()),
        ],
    }
}

/// Compares the address at an offset of the IPv4 header or the IPv6 header.
fn address(subnet: Subnet, (at_v4, at_v6): (u32, u32)) -> Vec<Attribute> {
    let (family, at) =
        if subnet.address().is_ipv4() { (FAMILY_V4, at_v4) } else { (FAMILY_V6, at_v6) };
    let bytes = octets(subnet.address());
    let mut instructions = of_family(family);
    instructions.push(payload(Header::Network, at, bytes.len() as u32)); // 4 or 16
    instructions.extend(subnet.mask().map(|mask| keep(&octets(mask))));
    instructions.push(compare(Compare::Equal, &bytes));
    instructions
}

fn of_family(family: u8) -> Vec<Attribute> {
    vec![meta(Meta::Family), compare(Compare::Equal, &[family])]
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().into(),
        IpAddr::V6(v6) => v6.octets().into(),
    }
}

fn interface(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(INTERFACE_NAME, 0);
    bytes
}

fn verdict(verdict: Verdict) -> Vec<Attribute> {
    match verdict {
        Verdict::Return => {
            let code = Attribute::bytes(1, RETURN.to_be_bytes());
            vec![immediate(VERDICT_REGISTER, Attribute::nest(2, [code]))]
        }
        Verdict::RedirectApart(port) => redirect_apart(port),
        Verdict::Redirect(port) => vec![
            immediate(REGISTER, Attribute::bytes(1, port.to_be_bytes())),
            instruction(
                "redir",
                [Attribute::number(1, REGISTER), Attribute::number(3, PORT_SPECIFIED)],
            ),
        ],
    }
}

fn redirect_apart(port: u16) -> Vec<Attribute> {
    let mut instructions = of_family(FAMILY_V4);
    instructions.extend([
        payload(Header::Network, DESTINATION.0, 4),
        bitwise(&DESTINATION_BITS.octets(), &LOOPBACK_BITS.octets()),
        immediate(SECOND_REGISTER, Attribute::bytes(1, port.to_be_bytes())),
        instruction(
            "nat",
            [
                Attribute::number(1, DESTINATION_NAT),
                Attribute::number(2, u32::from(FAMILY_V4)),
                Attribute::number(3, REGISTER),
                Attribute::number(4, REGISTER),
                Attribute::number(5, SECOND_REGISTER),
                Attribute::number(6, SECOND_REGISTER),
                Attribute::number(7, ADDRESS_SPECIFIED | PORT_SPECIFIED),
            ],
        ),
    ]);
    instructions
}

/// Loads what is known of the packet.
fn meta(key: Meta) -> Attribute {
    instruction("meta", [Attribute::number(1, REGISTER), Attribute::number(2, key as u32)])
}

/// Loads bytes of the packet.
fn payload(header: Header, offset: u32, length: u32) -> Attribute {
    instruction(
        "payload",
        [
            Attribute::number(1, REGISTER),
            Attribute::number(2, header as u32),
            Attribute::number(3, offset),
            Attribute::number(4, length),
        ],
    )
}

/// Keeps the bits of the mask.
fn keep(mask: &[u8]) -> Attribute {
    bitwise(mask, &vec![0; mask.len()])
}

/// Keeps the bits of the mask, and turns those to be set over.
fn bitwise(mask: &[u8], set: &[u8]) -> Attribute {
    instruction(
        "bitwise",
        [
            Attribute::number(1, REGISTER),
            Attribute::number(2, REGISTER),
            Attribute::number(3, mask.len() as u32), // 4 or 16
            Attribute::nest(4, [Attribute::bytes(1, mask)]),
            Attribute::nest(5, [Attribute::bytes(1, set)]),
        ],
    )
}

/// Goes on with the next rule unless the register compares so.
fn compare(how: Compare, with: &[u8]) -> Attribute {
    instruction(
        "cmp",
        [
            Attribute::number(1, REGISTER),
            Attribute::number(2, how as u32),
            Attribute::nest(3, [Attribute::bytes(1, with)]),
        ],
    )
}

/// Sets a register; the verdict's register ends the rule.
fn immediate(register: u32, data: Attribute) -> Attribute {
    instruction("immediate", [Attribute::number(1, register), Attribute::nest(2, [data])])
}

fn instruction(name: &str, data: impl Into<Vec<Attribute>>) -> Attribute {
    Attribute::nest(ELEMENT, [Attribute::text(1, name), Attribute::nest(2, data)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(matches: Match, verdict: Verdict) -> Vec<String> {
        let rule = Rule { matches, verdict, why: "" };
        let mut bytes = Vec::new();
        instructions(&rule).iter().for_each(|instruction| instruction.write(&mut bytes));
        let name = |bytes| String::from_utf8(crate::attribute::find(bytes, 1).unwrap().to_vec());
        let elements = crate::attribute::parse(&bytes).into_iter();
        elements.map(|(_, bytes)| name(bytes).unwrap().trim_end_matches('\0').into()).collect()
    }

    #[test]
    fn a_rule_is_its_conditions_and_then_its_verdict() {
        let subnet = |text: &str| Match::Destination(text.parse().unwrap());
        let cases: [(Match, Verdict, &[&str]); 6] = [
            (Match::User(1), Verdict::Return, &["meta", "cmp", "immediate"]),
            (Match::Tcp, Verdict::Redirect(7), &["meta", "cmp", "immediate", "redir"]),
            (
                Match::Tcp,
                Verdict::RedirectApart(7),
                &["meta", "cmp", "meta", "cmp", "payload", "bitwise", "immediate", "nat"],
            ),
            (Match::Port(7), Verdict::Return, &["meta", "cmp", "payload", "cmp", "immediate"]),
            (
                subnet("10.0.0.0/8"),
                Verdict::Return,
                &["meta", "cmp", "payload", "bitwise", "cmp", "immediate"],
            ),
            (subnet("::1"), Verdict::Return, &["meta", "cmp", "payload", "cmp", "immediate"]),
        ];
        for (matches, verdict, expected) in cases {
            assert_eq!(names(matches, verdict), expected, "{matches}");
        }
    }

    #[test]
    fn a_comment_is_framed_as_nft_frames_it() {
        assert_eq!(comment("lo"), b"\0\x03lo\0");
    }
}
