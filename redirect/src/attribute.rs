//! Netlink attributes: type, length and value, nested, each padded to four bytes. What is sent is a
//! tree, so that what the kernel holds can be compared with it.

/// Of an attribute's type: its value is attributes.
const NESTED: u16 = 0x8000;
/// The bits of a type that are flags.
const FLAGS: u16 = 0xc000;
const HEADER: usize = 4;

/// One attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    kind: u16,
    value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Bytes(Vec<u8>),
    Nest(Vec<Attribute>),
}

impl Attribute {
    /// Bytes as they are.
    pub(crate) fn bytes(kind: u16, value: impl Into<Vec<u8>>) -> Self {
        Self { kind, value: Value::Bytes(value.into()) }
    }

    /// A number; nf_tables has them in network byte order.
    pub(crate) fn number(kind: u16, value: u32) -> Self {
        Self::bytes(kind, value.to_be_bytes())
    }

    /// A text, which the kernel wants with a NUL at its end.
    pub(crate) fn text(kind: u16, value: &str) -> Self {
        Self::bytes(kind, [value.as_bytes(), &[0]].concat())
    }

    /// Attributes in an attribute.
    pub(crate) fn nest(kind: u16, value: impl Into<Vec<Self>>) -> Self {
        Self { kind, value: Value::Nest(value.into()) }
    }

    /// Appends the attribute as the kernel reads it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; HEADER]);
        let kind = match &self.value {
            Value::Bytes(bytes) => {
                out.extend(bytes);
                self.kind
            }
            Value::Nest(attributes) => {
                attributes.iter().for_each(|attribute| attribute.write(out));
                self.kind | NESTED
            }
        };
        // A rule's attributes are some hundred bytes; nothing here is as long as a user likes.
        let length = (out.len() - start) as u16;
        out[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        out[start + 2..start + HEADER].copy_from_slice(&kind.to_ne_bytes());
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

/// The attributes in `bytes`, by type; what is cut off is left out.
pub(crate) fn parse(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut attributes = Vec::new();
    while let [l0, l1, k0, k1, ..] = *bytes {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = bytes.get(HEADER..length) else { break };
        attributes.push((u16::from_ne_bytes([k0, k1]) & !FLAGS, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    attributes
}

/// The value of the first attribute of a type.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    parse(bytes).into_iter().find(|(other, _)| *other == kind).map(|(_, value)| value)
}

/// Whether the kernel `holds` what was `sent`. It adds attributes of its own, such as handles and
/// counts, but none of a type that was sent: a longer list is another list.
pub(crate) fn is_held(sent: &[Attribute], held: &[u8]) -> bool {
    let held = parse(held);
    let of_kind = |kind: u16| held.iter().filter(move |(other, _)| *other == kind);
    sent.iter().enumerate().all(|(index, attribute)| {
        let kind = attribute.kind;
        let before = sent[..index].iter().filter(|other| other.kind == kind).count();
        let count = sent.iter().filter(|other| other.kind == kind).count();
        of_kind(kind).count() == count
            && of_kind(kind).nth(before).is_some_and(|(_, value)| match &attribute.value {
                Value::Bytes(bytes) => bytes == value,
                Value::Nest(attributes) => is_held(attributes, value),
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(attributes: &[Attribute]) -> Vec<u8> {
        let mut out = Vec::new();
        attributes.iter().for_each(|attribute| attribute.write(&mut out));
        out
    }

    #[test]
    fn attributes_are_padded_and_their_length_is_without_the_padding() {
        let bytes = written(&[Attribute::text(1, "lo"), Attribute::number(2, 1)]);
        let expected = [
            &7_u16.to_ne_bytes()[..],
            &1_u16.to_ne_bytes(),
            b"lo\0\0",
            &8_u16.to_ne_bytes(),
            &2_u16.to_ne_bytes(),
            &[0, 0, 0, 1],
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(parse(&bytes), [(1, &b"lo\0"[..]), (2, &[0, 0, 0, 1])]);
    }

    #[test]
    fn what_is_nested_says_so_and_is_read_back() {
        let bytes = written(&[Attribute::nest(4, [Attribute::number(1, 7)])]);
        assert_eq!(bytes[2..4], (4 | NESTED).to_ne_bytes());
        assert_eq!(find(find(&bytes, 4).unwrap(), 1), Some(&[0, 0, 0, 7][..]));
    }

    #[test]
    fn bytes_that_are_cut_off_are_no_attribute() {
        let bytes = written(&[Attribute::number(1, 7), Attribute::number(2, 7)]);
        assert_eq!(parse(&bytes[..15]).len(), 1);
        assert_eq!(parse(&[0; 8]), []);
    }

    #[test]
    fn the_kernel_may_add_attributes_and_change_none() {
        let element = |value| Attribute::nest(1, [Attribute::number(5, value)]);
        let sent = [Attribute::text(2, "x"), Attribute::nest(3, [element(1), element(2)])];
        let cases = [
            (vec![sent[0].clone(), sent[1].clone()], true),
            (vec![Attribute::number(9, 9), sent[1].clone(), sent[0].clone()], true),
            (vec![sent[0].clone()], false),
            (vec![Attribute::text(2, "y"), sent[1].clone()], false),
            (vec![sent[0].clone(), Attribute::nest(3, [element(2), element(1)])], false),
            (vec![sent[0].clone(), Attribute::nest(3, [element(1)])], false),
            (
                vec![sent[0].clone(), Attribute::nest(3, [element(1), element(2), element(2)])],
                false,
            ),
        ];
        for (held, expected) in cases {
            assert_eq!(is_held(&sent, &written(&held)), expected, "{held:?}");
        }
    }
}
