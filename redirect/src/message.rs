//! Netlink messages of nf_tables: how a transaction is written, and how answers are read. No
//! socket here. Numbers are those of the kernel's `linux/netlink.h`, `linux/netfilter/nfnetlink.h`
//! and `linux/netfilter/nf_tables.h`.

use crate::attribute::Attribute;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP_INTERRUPTED: u16 = 0x10;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

const HEADER: usize = 16;
/// Family, version and subsystem, after the header of every message.
const GENERIC: usize = 4;
const FAMILY_INET: u8 = 1;

/// What a message does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Makes a table, or takes the one that is there.
    NewTable = 0,
    /// Deletes a table and all in it.
    DeleteTable = 2,
    /// Makes a chain.
    NewChain = 3,
    /// Appends a rule to its chain.
    NewRule = 6,
}

/// What the kernel is asked to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    /// All tables.
    Tables = 1,
    /// All chains, of all tables.
    Chains = 4,
    /// All rules, of all chains.
    Rules = 7,
}

/// One step of a transaction.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// What it does.
    pub(crate) operation: Operation,
    /// To what, as an operator would say it.
    pub(crate) what: String,
    /// The particulars.
    pub(crate) attributes: Vec<Attribute>,
}

/// A message from the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    /// A message of a transaction was dealt with: the error number, or 0. The index counts from
    /// the batch's begin, which is 0.
    Status { index: usize, errno: i32 },
    /// One of the things that were asked for: its attributes.
    Item(&'a [u8]),
    /// There is no more.
    End,
    /// The list changed while it was written.
    Interrupted,
}

/// The bytes of a transaction: all of the messages or none take effect.
///
/// Only the last message asks to be acknowledged: errors of any message are always reported, and
/// before that acknowledgement, while one for each rule could fill the socket's buffer.
pub(crate) fn transaction(messages: &[Message]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, BATCH_BEGIN, REQUEST, 0, 0, SUBSYSTEM, &[]);
    for (index, message) in messages.iter().enumerate() {
        let mut flags = REQUEST | flags(message.operation);
        if index + 1 == messages.len() {
            flags |= ACKNOWLEDGE;
        }
        let kind = SUBSYSTEM << 8 | message.operation as u16;
        // A transaction has some hundred messages.
        write(&mut out, kind, flags, index as u32 + 1, FAMILY_INET, 0, &message.attributes);
    }
    write(&mut out, BATCH_END, REQUEST, messages.len() as u32 + 1, 0, SUBSYSTEM, &[]);
    out
}

/// The bytes that ask for a list, of the family `inet`.
pub(crate) fn request(list: List) -> Vec<u8> {
    let mut out = Vec::new();
    let kind = SUBSYSTEM << 8 | list as u16;
    write(&mut out, kind, REQUEST | DUMP, 0, FAMILY_INET, 0, &[]);
    out
}

const fn flags(operation: Operation) -> u16 {
    match operation {
        Operation::NewTable | Operation::NewChain => CREATE,
        Operation::NewRule => CREATE | APPEND,
        Operation::DeleteTable => 0,
    }
}

fn write(
    out: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
    attributes: &[Attribute],
) {
    let start = out.len();
    out.extend([0; 4]); // the length, once it is known
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend([0; 4]); // to the kernel
    out.extend([family, 0]);
    out.extend(resource.to_be_bytes());
    attributes.iter().for_each(|attribute| attribute.write(out));
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// The messages in a datagram of the kernel's, or nothing if it is cut off.
pub(crate) fn replies(mut bytes: &[u8]) -> Option<Vec<Reply<'_>>> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        let length = u32_at(bytes, 0)? as usize;
        let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
        replies.push(reply(message)?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(replies)
}

fn reply(message: &[u8]) -> Option<Reply<'_>> {
    let index = u32_at(message, 8)? as usize;
    if u16_at(message, 6)? & DUMP_INTERRUPTED != 0 {
        return Some(Reply::Interrupted);
    }
    match u16_at(message, 4)? {
        // The kernel's numbers of errors are negative.
        ERROR => Some(Reply::Status { index, errno: -(u32_at(message, HEADER)? as i32) }),
        DONE => Some(Reply::End),
        _ => message.get(HEADER + GENERIC..).map(Reply::Item),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(operation: Operation) -> Message {
        Message { operation, what: String::new(), attributes: vec![Attribute::text(1, "t")] }
    }

    /// Type, flags and sequence number of each message.
    fn heads(mut bytes: &[u8]) -> Vec<(u16, u16, u32)> {
        let mut heads = Vec::new();
        while let Some(length) = u32_at(bytes, 0) {
            let head = (u16_at(bytes, 4), u16_at(bytes, 6), u32_at(bytes, 8));
            heads.push((head.0.unwrap(), head.1.unwrap(), head.2.unwrap()));
            bytes = &bytes[length as usize..];
        }
        heads
    }

    #[test]
    fn a_transaction_is_framed_and_its_last_message_is_acknowledged() {
        let steps = [Operation::NewTable, Operation::DeleteTable, Operation::NewRule].map(message);
        let expected = [
            (BATCH_BEGIN, REQUEST, 0),
            (0xa00, REQUEST | CREATE, 1),
            (0xa02, REQUEST, 2),
            (0xa06, REQUEST | CREATE | APPEND | ACKNOWLEDGE, 3),
            (BATCH_END, REQUEST, 4),
        ];
        assert_eq!(heads(&transaction(&steps)), expected);
    }

    /// A message of the kernel's.
    fn answer(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let length = (HEADER + payload.len()) as u32;
        let head = [kind.to_ne_bytes(), flags.to_ne_bytes()].concat();
        [&length.to_ne_bytes()[..], &head, &3_u32.to_ne_bytes(), &[0; 4], payload].concat()
    }

    #[test]
    fn answers_are_told_apart() {
        let bytes = [
            answer(ERROR, 0, &(-1_i32).to_ne_bytes()),
            answer(ERROR, 0, &0_i32.to_ne_bytes()),
            answer(0xa06, 2, &[1, 0, 0, 0, 8, 9, 10, 11]),
            answer(0xa06, 2 | DUMP_INTERRUPTED, &[1, 0, 0, 0]),
            answer(DONE, 2, &[0; 4]),
        ];
        let expected = [
            Reply::Status { index: 3, errno: 1 },
            Reply::Status { index: 3, errno: 0 },
            Reply::Item(&[8, 9, 10, 11]),
            Reply::Interrupted,
            Reply::End,
        ];
        assert_eq!(replies(&bytes.concat()).unwrap(), expected);
    }

    #[test]
    fn an_answer_that_is_cut_off_is_none() {
        let whole = answer(ERROR, 0, &(-1_i32).to_ne_bytes());
        for length in 1..whole.len() {
            assert_eq!(replies(&whole[..length]), None, "{length}");
        }
        assert_eq!(replies(&[0; 16]), None, "a length of nothing would never end");
    }
}
