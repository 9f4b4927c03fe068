//! Why the rules could not be written or read: one sentence each, for whoever runs the pod.

use std::io;

use crate::message::Operation;

/// Why the kernel did not do what was asked. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process may not change the network.
    #[error(
        "the capability NET_ADMIN is missing; give it to this container (securityContext.\
         capabilities.add: [NET_ADMIN])"
    )]
    NoNetAdmin,
    /// There is no nf_tables.
    #[error("this kernel has no nf_tables; load the module nf_tables on the node")]
    NoNfTables,
    /// There is no NAT for nf_tables.
    #[error(
        "this kernel's nf_tables has no NAT; load the modules nf_nat and nft_chain_nat on the node"
    )]
    NoNat,
    /// A rule needs an expression that the kernel lacks.
    #[error(
        "this kernel's nf_tables does not know what `{0}` needs; load the modules nft_nat and \
         nft_redir on the node"
    )]
    NoExpression(String),
    /// Another error, of one step.
    #[error("the kernel refuses {what}: {source}")]
    Refused {
        /// The table, chain or rule.
        what: String,
        /// Its reason.
        source: io::Error,
    },
    /// The socket to the kernel failed.
    #[error("cannot speak with the kernel's nf_tables: {0}")]
    Socket(#[from] io::Error),
    /// The kernel's answer is no netlink.
    #[error("the kernel's answer is cut off")]
    CutOff,
    /// Somebody else writes rules at this moment.
    #[error("rules were changed while they were read; run it again")]
    Changing,
}

const NOT_PERMITTED: i32 = 1;
const NO_ENTRY: i32 = 2;
const ACCESS_DENIED: i32 = 13;
const PROTOCOL_NOT_SUPPORTED: i32 = 93;
const OPERATION_NOT_SUPPORTED: i32 = 95;
const FAMILY_NOT_SUPPORTED: i32 = 97;

impl Error {
    /// The meaning of an error of the socket to the kernel, or of a transaction as a whole.
    pub(crate) fn of_all(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(NOT_PERMITTED | ACCESS_DENIED) => Self::NoNetAdmin,
            Some(PROTOCOL_NOT_SUPPORTED | OPERATION_NOT_SUPPORTED | FAMILY_NOT_SUPPORTED) => {
                Self::NoNfTables
            }
            _ => Self::Socket(error),
        }
    }

    /// The meaning of an error of one step of a transaction.
    pub(crate) fn of_step(operation: Operation, what: &str, errno: i32) -> Self {
        match (operation, errno) {
            // Without NET_ADMIN the kernel refuses the whole; a step it refuses for its own reason,
            // such as a table that another process owns.
            (Operation::NewTable, OPERATION_NOT_SUPPORTED | FAMILY_NOT_SUPPORTED) => {
                Self::NoNfTables
            }
            (Operation::NewChain, NO_ENTRY | OPERATION_NOT_SUPPORTED) => Self::NoNat,
            (Operation::NewRule, NO_ENTRY | OPERATION_NOT_SUPPORTED) => {
                Self::NoExpression(what.into())
            }
            _ => {
                let source = io::Error::from_raw_os_error(errno);
                Self::Refused { what: what.into(), source }
            }
        }
    }

    /// Whether a deletion found nothing to delete.
    pub(crate) fn is_absence(&self) -> bool {
        let Self::Refused { source, .. } = self else { return false };
        source.kind() == io::ErrorKind::NotFound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_what_is_missing() {
        use Operation::{DeleteTable, NewChain, NewRule, NewTable};
        let cases = [
            (NewTable, 1, "refuses x: Operation not permitted"),
            (NewTable, 95, "no nf_tables"),
            (NewChain, 2, "no NAT"),
            (NewRule, 2, "does not know what `x` needs; load the modules nft_nat and nft_redir"),
            (DeleteTable, 2, "refuses x: No such file"),
            (NewRule, 22, "refuses x: Invalid argument"),
        ];
        for (operation, errno, part) in cases {
            let message = Error::of_step(operation, "x", errno).to_string();
            assert!(message.contains(part), "{operation:?} {errno}: {message}");
        }
        let all = |errno| Error::of_all(io::Error::from_raw_os_error(errno)).to_string();
        assert!(all(1).contains("NET_ADMIN"));
        assert!(all(93).contains("no nf_tables"));
        assert!(all(105).contains("cannot speak"));
    }

    #[test]
    fn only_a_deletion_of_nothing_is_absence() {
        assert!(Error::of_step(Operation::DeleteTable, "x", NO_ENTRY).is_absence());
        assert!(!Error::of_step(Operation::DeleteTable, "x", NOT_PERMITTED).is_absence());
        assert!(!Error::of_step(Operation::NewChain, "x", NO_ENTRY).is_absence());
    }
}
