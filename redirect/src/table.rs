//! The rules in the kernel: written as a whole, taken away as a whole, compared as a whole.

use crate::attribute::{self, Attribute, is_held};
use crate::error::Error;
use crate::expression::{self, PRIORITY};
use crate::message::{List, Message, Operation};
use crate::netlink;
use crate::rules::{Chain, Rule, TABLE, chains};
use crate::settings::Settings;

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const RULE_TABLE: u16 = 1;
const ACCEPT: u32 = 1;

/// Writes the rules that `settings` ask for in place of those of an earlier install, in one
/// transaction: at no time is there half of them, or none. Other tables are not touched, and
/// connections that are open stay as they are.
///
/// # Errors
/// When the kernel refuses; then nothing was changed.
pub fn install(settings: &Settings) -> Result<(), Error> {
    // The first makes that there is something to delete, the second that nothing old is left.
    let mut messages = vec![new_table(), delete_table()];
    messages.extend(contents(&chains(settings)));
    netlink::commit(&messages)
}

/// Takes the rules away, and says whether there were any.
///
/// # Errors
/// When the kernel refuses.
pub fn remove() -> Result<bool, Error> {
    match netlink::commit(&[delete_table()]) {
        Ok(()) => Ok(true),
        Err(error) if error.is_absence() => Ok(false),
        Err(error) => Err(error),
    }
}

/// How the rules in the kernel compare with settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// They are what `install` would write.
    Installed,
    /// They are others, by other settings or by hand.
    Differs,
    /// There are none.
    Absent,
}

/// Compares every table, chain and rule of ours with what `install` would write.
///
/// # Errors
/// When the kernel refuses to show them.
pub(crate) fn state(settings: &Settings) -> Result<State, Error> {
    let ours = |list, table| -> Result<Vec<Vec<u8>>, Error> {
        let mut items = netlink::list(list)?;
        items.retain(|item| {
            attribute::find(item, table) == Some(&[TABLE.as_bytes(), &[0]].concat())
        });
        Ok(items)
    };
    let tables = ours(List::Tables, TABLE_NAME)?;
    if tables.is_empty() {
        return Ok(State::Absent);
    }
    let mut held =
        [tables, ours(List::Chains, CHAIN_TABLE)?, ours(List::Rules, RULE_TABLE)?].concat();
    // The kernel lists tables, then chains, then rules chain by chain, as they were written.
    let mut sent = contents(&chains(settings));
    sent.sort_by_key(|message| message.operation as u16);
    let same = sent.len() == held.len()
        && sent.iter().zip(&mut held).all(|(sent, held)| is_held(&sent.attributes, held));
    Ok(if same { State::Installed } else { State::Differs })
}

/// The messages that make the table and fill it.
fn contents(chains: &[Chain]) -> Vec<Message> {
    let mut messages = vec![new_table()];
    for chain in chains {
        messages.push(new_chain(chain));
        messages.extend(chain.rules.iter().map(|rule| new_rule(chain, rule)));
    }
    messages
}

fn new_table() -> Message {
    Message {
        operation: Operation::NewTable,
        what: format!("the table inet {TABLE}"),
        attributes: vec![Attribute::text(TABLE_NAME, TABLE), Attribute::number(2, 0)],
    }
}

fn delete_table() -> Message {
    Message {
        operation: Operation::DeleteTable,
        what: format!("the table inet {TABLE}"),
        attributes: vec![Attribute::text(TABLE_NAME, TABLE)],
    }
}

fn new_chain(chain: &Chain) -> Message {
    let hook = [
        Attribute::number(1, expression::hook_number(chain.hook)),
        Attribute::bytes(2, PRIORITY.to_be_bytes()),
    ];
    let name = chain.hook.name();
    Message {
        operation: Operation::NewChain,
        what: format!("the chain {name}"),
        attributes: vec![
            Attribute::text(CHAIN_TABLE, TABLE),
            Attribute::text(3, name),
            Attribute::nest(4, hook),
            Attribute::number(5, ACCEPT),
            Attribute::text(7, "nat"),
        ],
    }
}

fn new_rule(chain: &Chain, rule: &Rule) -> Message {
    Message {
        operation: Operation::NewRule,
        what: format!("{} {}", rule.matches, rule.verdict),
        attributes: vec![
            Attribute::text(RULE_TABLE, TABLE),
            Attribute::text(2, chain.hook.name()),
            Attribute::nest(4, expression::instructions(rule)),
            Attribute::bytes(7, expression::comment(rule.why)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::settings;

    #[test]
    fn the_longest_lists_fit_the_socket_buffer_of_every_kernel() {
        let list = |entry: &dyn Fn(u16) -> String| -> String {
            (1..=100).map(entry).collect::<Vec<_>>().join(",")
        };
        let ports = list(&|n| n.to_string());
        let subnets = list(&|n| format!("2001:db8:{n}::/48"));
        let flags = format!(
            "--exclude-outbound-ports {ports} --exclude-inbound-ports {ports} \
             --exclude-outbound-subnets {subnets} --exclude-inbound-subnets {subnets}"
        );
        let messages = contents(&chains(&settings(&flags).unwrap()));
        let length = crate::message::transaction(&messages).len();
        // The kernel's default of net.core.wmem_max.
        assert!(length < 212_992, "{length}");
    }
}
