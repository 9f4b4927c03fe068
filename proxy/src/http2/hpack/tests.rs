use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue};

use super::table::STATIC;
use super::{BadBlock, Decoder, Encoder, Field, Pseudo};

pub(super) fn unhex(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// As `name: value`; `!` stands behind what is sensitive.
fn line(field: &Field) -> String {
    match field {
        Field::Pseudo(which, value) => format!("{}: {}", which.name(), value.escape_ascii()),
        Field::Regular(name, value) => {
            let mark = if value.is_sensitive() { "!" } else { "" };
            format!("{name}: {}{mark}", value.as_bytes().escape_ascii())
        }
        Field::Malformed => "malformed".into(),
    }
}

pub(super) fn lines(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, BadBlock> {
    let mut lines = Vec::new();
    decoder.decode(&Bytes::copy_from_slice(block), |field, size| {
        match &field {
            Field::Pseudo(which, value) => assert_eq!(size, which.name().len() + value.len() + 32),
            Field::Regular(name, value) => assert_eq!(size, name.as_str().len() + value.len() + 32),
            Field::Malformed => (),
        }
        lines.push(line(&field));
    })?;
    Ok(lines)
}

/// A field as `name: value`, written.
pub(super) fn write(encoder: &mut Encoder, line: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    let (name, value) = line.rsplit_once(": ").unwrap();
    if let Some(which) = Pseudo::named(name.as_bytes()) {
        encoder.pseudo(which, value.as_bytes(), &mut out);
    } else {
        let mut bytes = HeaderValue::from_str(value.trim_end_matches('!')).unwrap();
        bytes.set_sensitive(value.ends_with('!'));
        encoder.field(&HeaderName::try_from(name).unwrap(), &bytes, &mut out);
    }
    out.to_vec()
}

/// Blocks with the fields that they hold, and the entries and bytes of the table after each.
type Story<'a> = &'a [(&'a str, &'a str, (usize, usize))];

fn tell(story: Story<'_>) {
    let mut decoder = Decoder::new(4096);
    for (block, fields, used) in story {
        assert_eq!(lines(&mut decoder, &unhex(block)).unwrap().join("\n"), *fields, "{block}");
        assert_eq!(decoder.used(), *used, "{block}");
    }
}

#[test]
fn rfc_7541_c_2_single_fields() {
    tell(&[(
        "400a637573746f6d2d6b65790d637573746f6d2d686561646572",
        "custom-key: custom-header",
        (1, 55),
    )]);
    tell(&[("040c2f73616d706c652f70617468", ":path: /sample/path", (0, 0))]);
    tell(&[("100870617373776f726406736563726574", "password: secret!", (0, 0))]);
    tell(&[("82", ":method: GET", (0, 0))]);
}

const REQUESTS: [&str; 3] = [
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com",
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache",
    ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\n\
     custom-key: custom-value",
];

#[test]
fn rfc_7541_c_3_and_c_4_requests() {
    let [first, second, third] = REQUESTS;
    tell(&[
        ("828684410f7777772e6578616d706c652e636f6d", first, (1, 57)),
        ("828684be58086e6f2d6361636865", second, (2, 110)),
        ("828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", third, (3, 164)),
    ]);
    tell(&[
        ("828684418cf1e3c2e5f23a6ba0ab90f4ff", first, (1, 57)),
        ("828684be5886a8eb10649cbf", second, (2, 110)),
        ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", third, (3, 164)),
    ]);
}

#[test]
fn rfc_7541_c_5_and_c_6_responses_with_a_table_of_256() {
    let rest = "cache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
                location: https://www.example.com";
    let first = &format!(":status: 302\n{rest}");
    let second = &format!(":status: 307\n{rest}");
    let third = &format!(
        ":status: 200\n{}\ncontent-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; \
         max-age=3600; version=1",
        rest.replace("13:21", "13:22")
    );
    tell(&[
        (
            "3fe1014803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a\
             323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
            first,
            (4, 222),
        ),
        ("4803333037c1c0bf", second, (4, 222)),
        (
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738\
             666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d33\
             3630303b2076657273696f6e3d31",
            third,
            (3, 215),
        ),
    ]);
    tell(&[
        (
            "3fe101488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29\
             ad171863c78f0b97c8e9ae82ae43d3",
            first,
            (4, 222),
        ),
        ("4883640effc1c0bf", second, (4, 222)),
        (
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7\
             b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
            third,
            (3, 215),
        ),
    ]);
}

/// Blocks that Python's `hpack` 4.2 wrote on one connection.
const PEER: [(&str, &str); 3] = [
    (
        "8287418944e7ad72f91d35d05f448c6083b12c05dff3b40354408f7a99d07f66a281b0dae053fafc087ed4ce6a\
         adf2a7979c89c6bfbf5383f963e74089f2b585ed6950958d278d7250919204ab0230c8b35180bf4084f2b1e493\
         8ffffdfcfff7fe7ffbfff3fefffcfffb",
        ":method: GET\n:scheme: https\n:authority: shop.example\n:path: /cart/17?q=a%20b\n\
         user-agent: Mozilla/5.0 (X11; Linux x86_64)\naccept: */*\n\
         x-request-id: 6f1c3c1e-0b1d-4b0e\nx-odd: {\\\"~|}<>^`",
    ),
    (
        "8287c344082f636172742f3138c2c17f011237613163336331652d306231642d34623066",
        ":method: GET\n:scheme: https\n:authority: shop.example\n:path: /cart/18\n\
         user-agent: Mozilla/5.0 (X11; Linux x86_64)\naccept: */*\n\
         x-request-id: 7a1c3c1e-0b1d-4b0f",
    ),
    (
        "3fe101488264026e919d29ad171863c78f0b97c8e9ae82ae43d34086f2b169ad3ebf80",
        ":status: 302\nlocation: https://www.example.com\nx-empty: ",
    ),
];

#[test]
fn a_peers_blocks_are_read() {
    let mut decoder = Decoder::new(4096);
    for (block, fields) in PEER {
        assert_eq!(lines(&mut decoder, &unhex(block)).unwrap().join("\n"), fields);
    }
}

#[test]
fn the_static_table_is_read_and_written_whole() {
    assert_eq!(STATIC.len(), 61);
    for (byte, (name, value)) in (0x81..).zip(STATIC) {
        let field = format!("{name}: {value}");
        assert_eq!(lines(&mut Decoder::new(4096), &[byte]), Ok(vec![field.clone()]));
        let block = write(&mut Encoder::new(), &field);
        assert_eq!(lines(&mut Decoder::new(4096), &block).unwrap().len(), 1);
        assert_eq!(block.len() == 1, !value.is_empty(), "{field}");
        assert!(!block.windows(name.len()).any(|window| window == name.as_bytes()), "{field}");
    }
}

#[test]
fn blocks_that_cannot_be_read() {
    for (bad, why) in [
        ("80", "index 0"),
        ("be", "an index beyond the table"),
        ("bf", "the same, farther"),
        ("ffffffffff07", "an index of 2^31"),
        ("7f0000", "a name beyond the table"),
        ("0f3000", "a name beyond the table, not added"),
        ("ff", "a number that ends early"),
        ("ff8080808080", "a number of too many bytes"),
        ("ff808080808001", "the same, but it ends"),
        ("ff80808080800f", "a number that is too large"),
        ("ffffffffff7f", "the largest number of five bytes"),
        ("3fe21f", "a table of 4,097 bytes"),
        ("8220", "a table's size behind a field"),
        ("3f", "a table's size that ends early"),
        ("40", "no name"),
        ("4001", "a name that ends early"),
        ("400161", "no value"),
        ("40016102", "no byte of a value"),
        ("4001610261", "a value that ends early"),
        ("007fffffff7f", "a name that is longer than anything"),
        ("00016181ff", "padding of eight bits"),
        ("0001618100", "padding of zeros"),
        ("00016184ffffffff", "EOS"),
        ("0081ff00", "a name of padding"),
    ] {
        assert_eq!(lines(&mut Decoder::new(4096), &unhex(bad)), Err(BadBlock), "{why}");
    }
}

#[test]
fn numbers_may_be_padded_with_zeros() {
    let fields = lines(&mut Decoder::new(4096), &unhex("0f8d80808000026f6b")).unwrap();
    assert_eq!(fields, ["content-length: ok"]);
}

#[test]
fn fields_that_may_not_be() {
    for (name, value) in [
        ("", "a"),
        ("Name", "a"),
        ("na me", "a"),
        ("na\0me", "a"),
        ("name:", "a"),
        (":name", "a"),
        (":", "a"),
        ("Content-Type", "a"),
        ("name", "a\r"),
        ("name", "a\nb"),
        ("name", "a\0b"),
        ("name", "\u{7f}"),
        ("name", " a"),
        ("name", "a\t"),
        (":path", "/ "),
        (":path", "/\r\nb"),
    ] {
        let string = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        let literal = [string(name), string(value)].concat();
        let size = name.len() + value.len() + 32;
        // Added; by its index; its name by an index; and again not added.
        let block = [&[0x40][..], &literal, &[0xbe, 0x0f, 47, 1, b'b', 0], &literal];
        let mut sizes = Vec::new();
        let mut decoder = Decoder::new(4096);
        let block = Bytes::from(block.concat());
        let each = |field, size| {
            assert_eq!(field, Field::Malformed, "{name:?}: {value:?}");
            sizes.push(size);
        };
        decoder.decode(&block, each).unwrap();
        assert_eq!(sizes, [size, size, name.len() + 33, size]);
        assert_eq!(decoder.used(), (1, size));
    }
}

#[test]
fn the_table_holds_nothing_of_a_block_and_literals_share_it() {
    for (block, shares) in [("000161036f6e65", true), ("400161036f6e65", false)] {
        let block = Bytes::from(unhex(block));
        let mut decoder = Decoder::new(4096);
        let mut value = None;
        decoder.decode(&block, |field, _| value = Some(field)).unwrap();
        assert_eq!(line(value.as_ref().unwrap()), "a: one");
        assert_eq!(block.is_unique(), !shares);
    }
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new(4096);
    lines(&mut decoder, &unhex("3f0f400161016240016301644001650166")).unwrap(); // a table of 46
    assert_eq!(decoder.used(), (1, 34));
    assert_eq!(lines(&mut decoder, &unhex("be")), Ok(vec!["e: f".into()]));
    lines(&mut decoder, &unhex("4001610d61616161616161616161616161")).unwrap();
    assert_eq!(decoder.used(), (1, 46));
    lines(&mut decoder, &unhex("4001610e6161616161616161616161616161")).unwrap();
    assert_eq!(decoder.used(), (0, 0));
}

/// Numbers that look random, the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % most
    }

    /// Fields as a connection has them: of many names, some values often and some once.
    fn fields(&mut self) -> Vec<String> {
        const NAMES: [&str; 12] = [
            ":path",
            ":authority",
            ":protocol",
            "accept",
            "etag",
            "cookie",
            "x-request-id",
            "x-b3-traceid",
            "traceparent",
            "content-type",
            "x-key",
            "accept-encoding",
        ];
        let count = self.below(20);
        let fields = (0..count).map(|_| {
            let name = NAMES[self.below(NAMES.len())];
            let value = match self.below(4) {
                0 => "v".repeat([0, 1, 126, 127, 128, 255, 1000, 5000][self.below(8)]),
                1 => self.below(1 << 40).to_string(),
                _ => self.below(8).to_string(),
            };
            let mark = if name == "cookie" || name == "x-key" { "!" } else { "" };
            format!("{name}: {value}{mark}")
        });
        fields.collect()
    }
}

/// What `encoder` makes of the fields.
fn block(encoder: &mut Encoder, fields: &[String]) -> Vec<u8> {
    let mut begin = BytesMut::new();
    encoder.begin(&mut begin);
    fields.iter().fold(begin.to_vec(), |all, field| [all, write(encoder, field)].concat())
}

#[test]
fn what_is_written_is_read_with_tables_of_any_size() {
    let mut random = Random(7);
    for _ in 0..20 {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        for _ in 0..300 {
            if random.below(20) == 0 {
                for _ in 0..=random.below(3) {
                    encoder.resize([0, 40, 150, 1000, 4096, 9000][random.below(6)]);
                }
            }
            let fields = random.fields();
            assert_eq!(lines(&mut decoder, &block(&mut encoder, &fields)), Ok(fields));
            assert_eq!(encoder.used(), decoder.used());
        }
    }
}

#[test]
fn no_block_does_harm() {
    let mut random = Random(11);
    let mut encoder = Encoder::new();
    let mut blocks: Vec<_> = (0..30).map(|_| block(&mut encoder, &random.fields())).collect();
    blocks.extend(PEER.map(|(block, _)| unhex(block)));
    for whole in &blocks {
        for end in 0..=whole.len() {
            let _ = lines(&mut Decoder::new(4096), &whole[..end]);
        }
    }
    for _ in 0..300 {
        let mut decoder = Decoder::new(4096);
        for whole in &blocks {
            let mut whole = whole.clone();
            for _ in 0..random.below(4) {
                let at = random.below(whole.len().max(1));
                if let Some(byte) = whole.get_mut(at) {
                    *byte = u8::try_from(random.below(256)).unwrap();
                }
            }
            let _ = decoder.decode(&whole.into(), |_, _| ());
            assert!(decoder.used().1 <= 4096);
        }
    }
}
