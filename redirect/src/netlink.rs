//! The socket to the kernel's nf_tables.

use std::io::{self, Read as _};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Error;
use crate::message::{self, List, Message, Reply};

const ADDRESS_FAMILY: i32 = 16;
const NETFILTER: i32 = 12;
/// The kernel writes a list in pieces that fit the buffer of the reader, of at most this.
const BUFFER: usize = 32 << 10;
/// The kernel answers before `send` returns; a wait means that it never will.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to the kernel, for one transaction or list: what is left unread is dropped with it.
struct Kernel {
    socket: Socket,
    buffer: Vec<u8>,
}

/// Puts all of the messages in force, or none of them.
///
/// # Errors
/// The first error that the kernel reports.
pub(crate) fn commit(messages: &[Message]) -> Result<(), Error> {
    let mut kernel = Kernel::new()?;
    kernel.send(&message::transaction(messages))?;
    loop {
        for reply in kernel.receive()? {
            let Reply::Status { index, errno } = reply else { continue };
            match (index.checked_sub(1).and_then(|step| messages.get(step)), errno) {
                (_, 0) if index == messages.len() => return Ok(()),
                (_, 0) => {}
                (Some(step), errno) => {
                    return Err(Error::of_step(step.operation, &step.what, errno));
                }
                (None, errno) => return Err(Error::of_all(io::Error::from_raw_os_error(errno))),
            }
        }
    }
}

/// Lists tables, chains or rules of the family `inet`: the attributes of each.
///
/// # Errors
/// When the kernel refuses, or the rules change meanwhile.
pub(crate) fn list(list: List) -> Result<Vec<Vec<u8>>, Error> {
    let mut kernel = Kernel::new()?;
    kernel.send(&message::request(list))?;
    let mut items = Vec::new();
    loop {
        for reply in kernel.receive()? {
            match reply {
                Reply::Item(attributes) => items.push(attributes.to_vec()),
                Reply::End => return Ok(items),
                Reply::Interrupted => return Err(Error::Changing),
                Reply::Status { errno: 0, .. } => {}
                Reply::Status { errno, .. } => {
                    return Err(Error::of_all(io::Error::from_raw_os_error(errno)));
                }
            }
        }
    }
}

impl Kernel {
    fn new() -> Result<Self, Error> {
        let (domain, protocol) = (Domain::from(ADDRESS_FAMILY), Protocol::from(NETFILTER));
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).map_err(Error::of_all)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, buffer: vec![0; BUFFER] })
    }

    /// Without an address, a netlink socket sends to the kernel.
    fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        self.socket.send(bytes).map_err(Error::of_all)?;
        Ok(())
    }

    fn receive(&mut self) -> Result<Vec<Reply<'_>>, Error> {
        let length = self.socket.read(&mut self.buffer)?;
        message::replies(&self.buffer[..length]).ok_or(Error::CutOff)
    }
}
