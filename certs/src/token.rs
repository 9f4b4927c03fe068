//! Join tokens: how a sidecar proves who it is where there is no Kubernetes to ask.
//!
//! A token is a JWT signed with ES256 (RFC 7515, RFC 7519) by `token.key` of the control plane's
//! state directory. It also carries the fingerprint of the root, so that its holder knows the
//! control plane before it has any certificate.

use std::path::Path;
use std::time::{Duration, SystemTime};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, dangerous};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde::{Deserialize, Serialize};

use crate::ca::random_name;
use crate::clock;
use crate::fingerprint::Fingerprint;
use crate::service_account::{ServiceAccount, ServiceAccountError};
use crate::state::{ROOT, StateDir, StateError, TOKEN_KEY};

/// The longest token in bytes.
pub const MAX_TOKEN: usize = 4096;

/// How long after its end a token is still taken, for clocks that differ.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(5);

const ISSUED_BY: &str = "pillion";
const AUDIENCE: &str = "pillion-control-plane";

/// What stands in a token (RFC 7519 §4.1).
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: u64,
    exp: u64,
    jti: String,
    /// The SHA-256 of the root certificate.
    root: Fingerprint,
}

/// Why a token is refused, cannot be made or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The state directory is not as it should be.
    #[error(transparent)]
    State(#[from] StateError),
    /// `token.key` is no P-256 key, or cannot sign.
    #[error("token.key cannot sign tokens: {0}")]
    Key(String),
    /// It stands for no service account.
    #[error(transparent)]
    ServiceAccount(#[from] ServiceAccountError),
    /// It is no JWT, or a claim is missing or of the wrong kind.
    #[error("the token cannot be read: {0}")]
    Malformed(String),
    /// It is not signed with our key, or not with ES256.
    #[error("the token is not signed by this control plane")]
    NotOurs,
    /// It is for another audience, or by another issuer.
    #[error("the token is not made for the control plane (its issuer or audience is another)")]
    WrongAudience,
    /// Its time is over.
    #[error("the token expired at {}", clock::show(*.0))]
    Expired(SystemTime),
}

/// What is read of a token without being able to check it: a join token's claims, or those of a
/// service account's token, which names no root and has more than one audience.
#[derive(Deserialize)]
struct Shown {
    sub: String,
    exp: u64,
    root: Option<Fingerprint>,
}

/// Makes join tokens, beside a running control plane.
pub struct TokenSigner {
    key: EncodingKey,
    root: Fingerprint,
}

/// Checks the join tokens that sidecars bring.
pub struct TokenVerifier {
    key: DecodingKey,
}

/// What a sidecar reads in its own token, without being able to check it: in a join token, or in
/// the token of a Kubernetes service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPin {
    /// The root by which the control plane proves itself; a service account's token names none.
    pub root_sha256: Option<Fingerprint>,
    /// Whom the token stands for.
    pub service_account: ServiceAccount,
    /// When it ends.
    pub expires: SystemTime,
}

impl TokenSigner {
    /// Reads the key and the root of a control plane's state directory.
    pub fn open(dir: &Path) -> Result<Self, TokenError> {
        let state = StateDir::new(dir);
        let key = EncodingKey::from_ec_der(token_key(&state)?.serialized_der());
        let root = Fingerprint::of(&state.certificates(ROOT)?[0]);
        Ok(Self { key, root })
    }

    /// Makes a token for a service account, good for `ttl` from `now`.
    pub fn mint(
        &self,
        account: &ServiceAccount,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<String, TokenError> {
        let claims = Claims {
            iss: ISSUED_BY.into(),
            aud: AUDIENCE.into(),
            sub: account.to_string(),
            iat: clock::seconds(now),
            exp: clock::seconds(now).saturating_add(ttl.as_secs()),
            jti: random_name().map_err(|error| TokenError::Key(error.to_string()))?,
            root: self.root,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.key)
            .map_err(|error| TokenError::Key(error.to_string()))
    }
}

impl TokenVerifier {
    /// Reads the key of a control plane's state directory.
    pub fn open(dir: &Path) -> Result<Self, TokenError> {
        let key = token_key(&StateDir::new(dir))?;
        Ok(Self { key: DecodingKey::from_ec_der(key.der_bytes()) })
    }

    /// Checks a token's signature, then what it says, and gives whom it stands for.
    ///
    /// The only algorithm is ES256, whatever the token says of itself (RFC 8725 §3.1).
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<ServiceAccount, TokenError> {
        let token = bounded(token)?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.set_issuer(&[ISSUED_BY]);
        validation.set_audience(&[AUDIENCE]);
        // The library would ask the system for the time; we compare with `now` below.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.key, &validation)
            .map_err(|error| refusal(&error))?
            .claims;
        let expires = clock::system(claims.exp);
        if now > expires + TOKEN_LEEWAY {
            return Err(TokenError::Expired(expires));
        }
        Ok(claims.sub.parse()?)
    }
}

impl TokenPin {
    /// Reads a token without checking its signature, which only the control plane can.
    pub fn read(token: &str) -> Result<Self, TokenError> {
        let claims: Shown = dangerous::insecure_decode_claims(bounded(token)?)
            .map_err(|error| TokenError::Malformed(error.to_string()))?;
        let service_account = claims.sub.parse()?;
        Ok(Self { root_sha256: claims.root, service_account, expires: clock::system(claims.exp) })
    }
}

fn token_key(state: &StateDir) -> Result<KeyPair, TokenError> {
    let key = state.key(TOKEN_KEY)?;
    if key.algorithm() == &PKCS_ECDSA_P256_SHA256 {
        Ok(key)
    } else {
        Err(TokenError::Key("it is no P-256 key".into()))
    }
}

/// The token without the white space around it, as from a file; refused if it is too long.
fn bounded(token: &str) -> Result<&str, TokenError> {
    let token = token.trim();
    if token.len() > MAX_TOKEN {
        return Err(TokenError::Malformed(format!("it is {} bytes long", token.len())));
    }
    Ok(token)
}

fn refusal(error: &jsonwebtoken::errors::Error) -> TokenError {
    match error.kind() {
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenError::NotOurs,
        ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => TokenError::WrongAudience,
        _ => TokenError::Malformed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;
    use std::time::UNIX_EPOCH;

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn account() -> ServiceAccount {
        "system:serviceaccount:shop:api".parse().unwrap()
    }

    fn state() -> (tempfile::TempDir, Authority) {
        let dir = tempfile::tempdir().unwrap();
        let domain = "example.org".parse().unwrap();
        let authority = Authority::open_or_create(dir.path(), &domain, now()).unwrap();
        (dir, authority)
    }

    fn claims() -> Claims {
        Claims {
            iss: ISSUED_BY.into(),
            aud: AUDIENCE.into(),
            sub: account().to_string(),
            iat: 0,
            exp: clock::seconds(now() + HOUR),
            jti: String::new(),
            root: Fingerprint::of(b""),
        }
    }

    #[test]
    fn a_token_stands_for_its_service_account() {
        let (dir, authority) = state();
        let signer = TokenSigner::open(dir.path()).unwrap();
        let token = signer.mint(&account(), HOUR, now()).unwrap();
        let verifier = TokenVerifier::open(dir.path()).unwrap();
        assert_eq!(verifier.verify(&format!("{token}\n"), now()).unwrap(), account());
        let pin = TokenPin::read(&format!(" {token}\n")).unwrap();
        assert_eq!(pin.root_sha256, Some(Fingerprint::of(&authority.roots()[0])));
        assert_eq!(pin.service_account, account());
        assert_eq!(pin.expires, now() + HOUR);
        assert_ne!(token, signer.mint(&account(), HOUR, now()).unwrap(), "jti differs");
    }

    /// As the API server makes it for the volume of a pod: two audiences, a key and claims of its own.
    #[test]
    fn a_service_accounts_token_is_read_and_names_no_root() {
        let foreign = EncodingKey::from_secret(b"of the API server");
        let token = |claims: &serde_json::Value| {
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &foreign).unwrap()
        };
        let mut claims = serde_json::json!({
            "aud": ["pillion.dev", "other"],
            "exp": clock::seconds(now() + HOUR),
            "iat": clock::seconds(now()),
            "iss": "https://kubernetes.default.svc.cluster.local",
            "kubernetes.io": {"namespace": "shop", "pod": {"name": "api-1", "uid": "u"}},
            "sub": account().to_string(),
        });
        let pin = TokenPin::read(&token(&claims)).unwrap();
        let expires = now() + HOUR;
        assert_eq!(pin, TokenPin { root_sha256: None, service_account: account(), expires });
        // Where a root is named, it must be one.
        claims["root"] = "x".into();
        assert!(matches!(TokenPin::read(&token(&claims)), Err(TokenError::Malformed(_))));
        let (dir, _) = state();
        let refused = TokenVerifier::open(dir.path()).unwrap().verify(&token(&claims), now());
        assert!(matches!(refused, Err(TokenError::NotOurs)), "{refused:?}");
    }

    #[test]
    fn a_token_ends_with_its_time_and_the_leeway() {
        let (dir, _) = state();
        let token = TokenSigner::open(dir.path()).unwrap().mint(&account(), HOUR, now()).unwrap();
        let verifier = TokenVerifier::open(dir.path()).unwrap();
        let end = now() + HOUR;
        verifier.verify(&token, end + TOKEN_LEEWAY).unwrap();
        let late = verifier.verify(&token, end + TOKEN_LEEWAY + Duration::from_millis(1));
        assert!(matches!(late, Err(TokenError::Expired(at)) if at == end));
    }

    #[test]
    fn a_token_of_another_control_plane_is_not_ours() {
        let ((dir, _), (other, _)) = (state(), state());
        let token = TokenSigner::open(other.path()).unwrap().mint(&account(), HOUR, now());
        let refused = TokenVerifier::open(dir.path()).unwrap().verify(&token.unwrap(), now());
        assert!(matches!(refused, Err(TokenError::NotOurs)), "{refused:?}");
    }

    #[test]
    fn a_token_whose_claims_were_changed_is_not_ours() {
        let (dir, _) = state();
        let signer = TokenSigner::open(dir.path()).unwrap();
        let token = signer.mint(&account(), HOUR, now()).unwrap();
        let other = "system:serviceaccount:shop:admin".parse().unwrap();
        let admin = signer.mint(&other, HOUR, now()).unwrap();
        let part = |token: &str, n| token.split('.').nth(n).unwrap().to_owned();
        let mixed = format!("{}.{}.{}", part(&token, 0), part(&admin, 1), part(&token, 2));
        let refused = TokenVerifier::open(dir.path()).unwrap().verify(&mixed, now());
        assert!(matches!(refused, Err(TokenError::NotOurs)), "{refused:?}");
    }

    #[test]
    fn only_es256_is_taken_whatever_the_token_says() {
        let (dir, _) = state();
        let verifier = TokenVerifier::open(dir.path()).unwrap();
        let public = token_key(&StateDir::new(dir.path())).unwrap().der_bytes().to_vec();
        let hmac = EncodingKey::from_secret(&public);
        let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &hmac);
        let refused = verifier.verify(&forged.unwrap(), now());
        assert!(matches!(refused, Err(TokenError::NotOurs)), "{refused:?}");
        // {"alg":"none"} with an empty signature.
        let signer = TokenSigner::open(dir.path()).unwrap();
        let good = signer.mint(&account(), HOUR, now()).unwrap();
        let none = format!("eyJhbGciOiJub25lIn0.{}.", good.split('.').nth(1).unwrap());
        assert!(matches!(verifier.verify(&none, now()), Err(TokenError::Malformed(_))));
    }

    #[test]
    fn a_token_for_somebody_else_is_refused() {
        let (dir, _) = state();
        let signer = TokenSigner::open(dir.path()).unwrap();
        let verifier = TokenVerifier::open(dir.path()).unwrap();
        let sign = |claims| {
            jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &signer.key).unwrap()
        };
        verifier.verify(&sign(claims()), now()).unwrap();
        for wrong in [
            Claims { aud: "kubernetes".into(), ..claims() },
            Claims { iss: "somebody".into(), ..claims() },
        ] {
            let refused = verifier.verify(&sign(wrong), now());
            assert!(matches!(refused, Err(TokenError::WrongAudience)), "{refused:?}");
        }
        let node = Claims { sub: "system:node:one".into(), ..claims() };
        let refused = verifier.verify(&sign(node), now());
        assert!(matches!(refused, Err(TokenError::ServiceAccount(_))), "{refused:?}");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let (dir, _) = state();
        let verifier = TokenVerifier::open(dir.path()).unwrap();
        let giant = "a.".repeat(MAX_TOKEN);
        for bad in ["", "a", "a.b", "a.b.c", "....", "ä.ä.ä", &giant] {
            let malformed = |error| matches!(error, TokenError::Malformed(_));
            assert!(malformed(verifier.verify(bad, now()).unwrap_err()), "{bad:.20}");
            assert!(malformed(TokenPin::read(bad).unwrap_err()), "{bad:.20}");
        }
    }

    #[test]
    fn a_directory_without_an_authority_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = TokenSigner::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("token.key"), "{error}");
    }
}
