//! The record layer of TLS 1.3 (RFC 8446 §5) with the keys that a handshake has agreed on.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, UnboundKey};
use bytes::{Buf, BufMut, BytesMut};
use rustls::crypto::cipher::{Iv, Nonce};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, PeerMisbehaved};

/// Most bytes that a record carries (§5.1).
pub(super) const MAX_CONTENT: usize = 1 << 14;

/// Most bytes of a record after its head (§5.2).
const MAX_SEALED: usize = MAX_CONTENT + 256;

/// The bytes before what is sealed.
const HEAD: usize = 5;

const TAG: usize = 16;

/// What a record is longer than what it carries: its head, the kind of its content, and the tag.
pub(super) const AROUND: usize = HEAD + 1 + TAG;

/// How a key and the number of the next record for it are given.
pub(super) type Secrets = (u64, ConnectionTrafficSecrets);

/// A key, its initialization vector and the number of the next record (§5.3).
struct Cipher {
    key: LessSafeKey,
    iv: Iv,
    sequence: u64,
}

impl Cipher {
    fn new((sequence, secrets): Secrets) -> Result<Self, Error> {
        use ConnectionTrafficSecrets as S;
        let (algorithm, key, iv) = match secrets {
            S::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            S::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            S::Chacha20Poly1305 { key, iv } => (&aead::CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("a cipher without a record layer here".into())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref())
            .map_err(|_| Error::General("a key of another length than the cipher's".into()))?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    /// The nonce of the next record: none is given twice.
    fn nonce(&mut self) -> aead::Nonce {
        let nonce = Nonce::new(&self.iv, self.sequence);
        self.sequence += 1;
        aead::Nonce::assume_unique_for_key(nonce.0)
    }
}

/// Seals what is sent.
pub(super) struct Sealer {
    cipher: Cipher,
    /// Most records for one key (§5.5).
    pub(super) limit: u64,
}

impl Sealer {
    pub(super) fn new(secrets: Secrets, limit: u64) -> Result<Self, Error> {
        Ok(Self { cipher: Cipher::new(secrets)?, limit })
    }

    /// Whether the next record but one needs another key.
    pub(super) const fn is_spent(&self) -> bool {
        self.cipher.sequence + 1 >= self.limit
    }

    /// Goes on with another key.
    pub(super) fn renew(&mut self, secrets: Secrets) -> Result<(), Error> {
        self.cipher = Cipher::new(secrets)?;
        Ok(())
    }

    /// Adds one record to `out`, whose content `write` writes.
    pub(super) fn seal(
        &mut self,
        out: &mut BytesMut,
        kind: ContentType,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), Error> {
        let start = out.len();
        out.put_slice(&[0; HEAD]);
        write(out);
        out.put_u8(kind.into());
        let (head, content) = out[start..].split_at_mut(HEAD);
        let length = u16::try_from(content.len() + TAG).map_err(|_| Error::EncryptError)?;
        let [high, low] = length.to_be_bytes();
        // The version and the kind are those of TLS 1.2's application data, whatever it is.
        let outside = [ContentType::ApplicationData.into(), 3, 3, high, low];
        head.copy_from_slice(&outside);
        let nonce = self.cipher.nonce();
        let tag = self
            .cipher
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(outside), content)
            .map_err(|_| Error::EncryptError)?;
        out.put_slice(tag.as_ref());
        Ok(())
    }
}

/// Opens what comes.
pub(super) struct Opener(Cipher);

/// A record that was opened in its place: its content begins where its head did.
pub(super) struct Opened {
    pub(super) kind: ContentType,
    /// How long the content is.
    pub(super) length: usize,
    /// How many bytes follow it that belong to the record.
    pub(super) rest: usize,
}

impl Opener {
    pub(super) fn new(secrets: Secrets) -> Result<Self, Error> {
        Cipher::new(secrets).map(Self)
    }

    /// Opens the first record of `read` and takes away its head; `None` while it is not whole.
    pub(super) fn open(&mut self, read: &mut BytesMut) -> Result<Option<Opened>, Error> {
        let Some((head, after)) = read.split_first_chunk_mut::<HEAD>() else { return Ok(None) };
        let [kind, _, _, high, low] = *head;
        if ContentType::from(kind) != ContentType::ApplicationData {
            return Err(unexpected(kind.into()));
        }
        let sealed = usize::from(u16::from_be_bytes([high, low]));
        if sealed > MAX_SEALED {
            return Err(Error::PeerSentOversizedRecord);
        }
        let Some(sealed) = after.get_mut(..sealed) else { return Ok(None) };
        let whole = sealed.len();
        let nonce = self.0.nonce();
        let inner = self.0.key.open_in_place(nonce, Aad::from(*head), sealed);
        let inner = inner.map_err(|_| Error::DecryptError)?;
        // Zeros may follow the kind of the content, which is none (§5.4).
        let length = inner.iter().rposition(|byte| *byte != 0);
        let length = length.ok_or(PeerMisbehaved::IllegalTlsInnerPlaintext)?;
        if length > MAX_CONTENT {
            return Err(Error::PeerSentOversizedRecord);
        }
        let kind = ContentType::from(inner[length]);
        read.advance(HEAD);
        Ok(Some(Opened { kind, length, rest: whole - length }))
    }
}

/// What must not come after a handshake.
pub(super) fn unexpected(kind: ContentType) -> Error {
    let expect_types =
        vec![ContentType::ApplicationData, ContentType::Alert, ContentType::Handshake];
    Error::InappropriateMessage { expect_types, got_type: kind }
}

/// How long the first record of `read` is, once it is whole. What can be no record is as long as
/// what there is of it: whoever opens it refuses it.
pub(super) fn whole(read: &[u8]) -> Option<usize> {
    let [kind, _, _, high, low, ..] = *read else { return None };
    let sealed = usize::from(u16::from_be_bytes([high, low]));
    if matches!(ContentType::from(kind), ContentType::Unknown(_)) || sealed > MAX_SEALED {
        return Some(read.len());
    }
    (read.len() >= HEAD + sealed).then_some(HEAD + sealed)
}

/// Whether a record is an alert, sealed or not: nothing else has a content of two bytes.
pub(super) fn is_alert(record: &[u8]) -> bool {
    match record.first().map(|kind| ContentType::from(*kind)) {
        Some(ContentType::Alert) => true,
        Some(ContentType::ApplicationData) => record.len() == 2 + AROUND,
        _ => false,
    }
}
