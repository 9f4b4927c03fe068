//! What a TLS client says first, as bytes.

/// A ClientHello of TLS 1.3 (RFC 8446 §4.1.2) that asks for the server `name` (RFC 6066 §3), as
/// short as one can be that is read.
pub(crate) fn client_hello(name: &str) -> Vec<u8> {
    const TLS_1_2: [u8; 2] = [3, 3];
    const AES_128_GCM: [u8; 2] = [0x13, 0x01];
    let host_name = [&[0], sized::<2>(name.as_bytes()).as_slice()].concat();
    let extensions = [
        extension(0, &sized::<2>(&host_name)),
        extension(10, &sized::<2>(&[0, 0x1d])),
        extension(13, &sized::<2>(&[4, 3])),
        extension(43, &sized::<1>(&[3, 4])),
    ];
    let body = [
        TLS_1_2.as_slice(),
        &[7; 32],
        &sized::<1>(&[]),
        &sized::<2>(&AES_128_GCM),
        &sized::<1>(&[0]),
        &sized::<2>(&extensions.concat()),
    ];
    let message = [&[1], sized::<3>(&body.concat()).as_slice()].concat();
    [&[22, 3, 1], sized::<2>(&message).as_slice()].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().as_slice(), &sized::<2>(content)].concat()
}

/// Bytes behind their length in `N` bytes.
fn sized<const N: usize>(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().to_be_bytes();
    [&length[length.len() - N..], bytes].concat()
}
