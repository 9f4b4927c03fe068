//! The Huffman code of strings (RFC 7541 §5.2, Appendix B).
//!
//! The code is canonical: codes of one length follow one another in the order of their symbols, and
//! longer ones follow shorter ones. So the lengths say all of it.

use bytes::BytesMut;

use super::BadBlock;

/// What stands for the end of the string; it never appears (RFC 7541 §5.2).
const EOS: usize = 256;

/// The longest code, in bits.
const LONGEST: usize = 30;

/// Codes of up to this many bits are read at once.
const SHORT: usize = 8;

/// Appends to `out` what `coded` stands for.
pub(super) fn decode(coded: &[u8], out: &mut BytesMut) -> Result<(), BadBlock> {
    let begin = out.len();
    out.resize(begin + coded.len() * 8 / 5, 0); // the shortest code has 5 bits
    let length = into(coded, &mut out[begin..])?;
    out.truncate(begin + length);
    Ok(())
}

/// Gives how many bytes of `out` were written.
fn into(coded: &[u8], out: &mut [u8]) -> Result<usize, BadBlock> {
    // The next bit is the highest; what is beyond `held` is zero.
    let (mut bits, mut held) = (0_u64, 0);
    let mut length = 0;
    let (words, rest) = coded.as_chunks::<4>();
    for word in words {
        bits |= u64::from(u32::from_be_bytes(*word)) << (32 - held);
        held += 32;
        while held >= 32 {
            let (symbol, taken) = next(bits).ok_or(BadBlock)?;
            *out.get_mut(length).ok_or(BadBlock)? = symbol;
            (bits, held, length) = (bits << taken, held - taken, length + 1);
        }
    }
    for &byte in rest {
        bits |= u64::from(byte) << (56 - held);
        held += 8;
    }
    bits |= u64::MAX >> held; // as the padding goes on, which is the beginning of EOS
    while held >= 8 || bits != u64::MAX {
        let (symbol, taken) = next(bits).filter(|(_, taken)| *taken <= held).ok_or(BadBlock)?;
        *out.get_mut(length).ok_or(BadBlock)? = symbol;
        (bits, held, length) = (!(!bits << taken), held - taken, length + 1);
    }
    Ok(length)
}

/// The symbol that `bits` begin with, and the length of its code; `None` for EOS.
#[inline]
fn next(bits: u64) -> Option<(u8, u32)> {
    let [first, ..] = bits.to_be_bytes();
    let (symbol, length) = CODE.short[usize::from(first)];
    if length > 0 { Some((symbol, u32::from(length))) } else { next_long(bits) }
}

#[cold]
fn next_long(bits: u64) -> Option<(u8, u32)> {
    let length = (SHORT + 1..=LONGEST).find(|&length| bits >> 32 < CODE.ends[length])?;
    let code = bits >> (64 - length);
    let place = code.wrapping_add(CODE.places[length]).to_le_bytes()[0];
    // The last of them is EOS, and its place is one that no byte has.
    if length == LONGEST && code == (1 << LONGEST) - 1 {
        return None;
    }
    Some((CODE.symbols[usize::from(place)], u32::try_from(length).ok()?))
}

/// The code, as it is looked up.
struct Code {
    /// By the next byte: the symbol and the length of its code; 0 where it is longer.
    short: [(u8, u8); 1 << SHORT],
    /// By length: where its codes end, as the high bits of 32.
    ends: [u64; LONGEST + 1],
    /// By length: what is added to a code to have its place among `symbols`.
    places: [u64; LONGEST + 1],
    /// All bytes, in the order of their codes.
    symbols: [u8; 256],
}

static CODE: Code = {
    let mut all = Code {
        short: [(0, 0); 1 << SHORT],
        ends: [0; LONGEST + 1],
        places: [0; LONGEST + 1],
        symbols: [0; 256],
    };
    let (mut place, mut code, mut length) = (0_usize, 0_usize, 1);
    while length <= LONGEST {
        all.places[length] = (place as u64).wrapping_sub(code as u64);
        let mut symbol = 0;
        while symbol <= EOS {
            if LENGTHS[symbol] as usize == length {
                if symbol < EOS {
                    all.symbols[place] = symbol.to_le_bytes()[0];
                }
                let mut tail = 0;
                while length <= SHORT && tail < 1 << (SHORT - length) {
                    all.short[(code << (SHORT - length)) + tail] =
                        (symbol.to_le_bytes()[0], LENGTHS[symbol]);
                    tail += 1;
                }
                (place, code) = (place + 1, code + 1);
            }
            symbol += 1;
        }
        all.ends[length] = (code as u64) << (32 - length);
        (code, length) = (code << 1, length + 1);
    }
    all
};

/// The length of each symbol's code, in bits.
pub(super) const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

#[cfg(test)]
mod tests {
    use super::super::tests::unhex;
    use super::*;

    /// All bytes in their order, as another implementation codes them (Python's `hpack` 4.2).
    const ALL: &str = "\
        ffc7fffd8fffffe2fffffe3fffffe4fffffe5fffffe6fffffe7fffffe8ffffeafffffff3fffffa7fffffabff\
        ffffdfffffebfffffecfffffedfffffeefffffefffffff0ffffff1ffffff2fffffffbfffffcffffffd3fffff\
        d7fffffdbfffffdffffffe3fffffe7fffffebfffffed4fe3f9ffaffcabf1febfafefe7fdfd2cbb00089969b7\
        1d79fb9f7fff20ffbff3ff50ddbd7f061c58f265cd9f469d5af66dddbf871e5f9cff7ff7fffc3ff9ffe45fff\
        4719242cb34e6e9d68a6a3d7dac426defe3cfaf7fffbfe7ffbffdffffffcfffe6ffff4bfff9ffffa3fffd3ff\
        ff53fffd5ffffb3fffeb7fffdaffffb7ffff73fffeeffffdeffffebffffbfffffd9ffffdbfffebffffe0ffff\
        eeffffc3ffff8bffff1ffffe4fffee7fffb1ffff97fffd9ffffcdffff9fffffbffffdafffeeffff4ffffb7ff\
        fee7fffe8ffffd3fffdeffffd5fffeeffffbdffffe1fffdfffff7fffff5ffffecffff07fff87fffe0ffff17f\
        ffedffff87ffff77fffeffffeaffff8bfffe3ffff93ffff87fffcbffff37ffff1fffff83ffffe1fffebfffe3\
        ffff3fffff2ffffa3ffffd9fffff17ffffc7fffff27ffffdefffffbffffff2fffff8fffffb7fff97fff8ffff\
        fe6fffffc1fffff87ffffe7fffffc5ffffe5fffe4ffff2fffffd1fffff4ffffffefffffe3fffffc9fffff97f\
        ffb3ffffcffffb7fffcdffff4ffff9ffffd1ffffcffffeaffffafffffddffffeffffff4fffff5fffffabffff\
        a7ffffd7fffff9bffffecfffffb7fffff3fffffe8fffffd3fffffabfffff5fffffff7ffffecfffffdbfffffb\
        bfffff7ffffff0fffffbbf";

    /// Codes symbols, and fills the last byte with ones.
    fn code(symbols: impl IntoIterator<Item = usize>) -> Vec<u8> {
        let mut bits = Vec::new();
        for symbol in symbols {
            let shorter = (1..LENGTHS[symbol]).chain([LENGTHS[symbol]]);
            let first = shorter.fold(0_u32, |code, length| {
                let before = LENGTHS.iter().filter(|&&other| other == length - 1);
                (code + before.map(|_| 1).sum::<u32>()) << 1
            });
            let among = LENGTHS[..symbol].iter().filter(|&&other| other == LENGTHS[symbol]);
            let code = first + u32::try_from(among.count()).unwrap();
            bits.extend((0..LENGTHS[symbol]).rev().map(|bit| code >> bit & 1));
        }
        bits.resize(bits.len().next_multiple_of(8), 1);
        let bytes = bits.chunks(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | bit));
        bytes.map(|byte| u8::try_from(byte).unwrap()).collect()
    }

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, BadBlock> {
        let mut out = BytesMut::from("before");
        decode(coded, &mut out)?;
        assert_eq!(out.split_to(6), "before");
        Ok(out.to_vec())
    }

    #[test]
    fn every_byte_is_coded_as_others_do() {
        assert_eq!(code(0..256), unhex(ALL));
        assert_eq!(decoded(&unhex(ALL)), Ok((0..=255).collect()));
    }

    #[test]
    fn every_byte_is_read_alone_and_at_any_place() {
        for byte in 0..=255 {
            for before in 0..12 {
                let mut clear = vec![b'0'; before]; // of five bits each
                clear.push(byte);
                assert_eq!(decoded(&code(clear.iter().map(|&byte| byte.into()))), Ok(clear));
            }
        }
        assert_eq!(decoded(b""), Ok(Vec::new()));
    }

    #[test]
    fn eos_is_refused_anywhere() {
        for symbols in [vec![256], vec![48, 256], vec![256, 48], vec![48, 49, 50, 51, 256, 48]] {
            assert_eq!(decoded(&code(symbols)), Err(BadBlock));
        }
    }

    #[test]
    fn padding_is_of_ones_and_shorter_than_a_byte() {
        let (zero, colon) = (0b0000_0111, 0b1011_1001); // colon has seven bits: 1011100
        assert_eq!(decoded(&[zero]), Ok(b"0".to_vec()));
        assert_eq!(decoded(&[colon]), Ok(b":".to_vec()));
        for bad in [&[0b0000_0110][..], &[0b0000_0011], &[zero, 0xff], &[0xff], &[0xff, 0xff, 0xff]]
        {
            assert_eq!(decoded(bad), Err(BadBlock), "{bad:?}");
        }
        assert_eq!(decoded(&[0b1111_1000]), Ok(b"&".to_vec())); // eight bits, no padding at all
        assert_eq!(decoded(&[0b1111_1000, 0xff]), Err(BadBlock));
    }
}
