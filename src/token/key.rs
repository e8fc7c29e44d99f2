//! Keys that sign our own tokens: making, loading, naming. A key has one algorithm for life (RFC 8725, section 3.1).

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::config::{JwsAlgorithm, SigningAlgorithm};
use crate::identity::Secret;
use crate::random;
use crate::rejection::Failure;
use crate::token::verifying::{KeyName, secret_id};
use crate::token::{MAX_TOKEN_BYTES, VerifyingKey};

/// Signs tokens. `Debug` shows algorithm and id only.
pub struct SigningKey {
    algorithm: SigningAlgorithm,
    signing: EncodingKey,
    verifying: VerifyingKey,
}

impl SigningKey {
    /// A new key in the form that [`SigningKey::load`] takes: for HS256 a text of 256 random bits, else a PKCS#8 private
    /// key in PEM (RSA of 2048 bits, P-256, Ed25519).
    ///
    /// # Panics
    /// When the operating system has no randomness or memory to give, as [`random::bytes`] does.
    #[expect(clippy::expect_used, reason = "without randomness no key may be made; stopping is the safe answer")]
    pub fn generate(algorithm: SigningAlgorithm) -> Secret {
        let pkcs8 = match algorithm {
            SigningAlgorithm::Hs256 => return Secret::new(random::token()),
            SigningAlgorithm::Rs256 => RsaKeyPair::generate(KeySize::Rsa2048).and_then(|pair| der(&pair)),
            SigningAlgorithm::Es256 => {
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).and_then(|pair| owned(pair.to_pkcs8v1()?.as_ref()))
            }
            SigningAlgorithm::EdDsa => Ed25519KeyPair::generate().and_then(|pair| der(&pair)),
        };
        pem(&pkcs8.expect("the operating system gives random bytes"))
    }

    /// Loads what [`SigningKey::generate`] made or an operator wrote into a file.
    ///
    /// HS256: the secret is the text as it stands, byte for byte, without one line end at its end (editors add one);
    /// nothing is decoded. It has at least 32 bytes (RFC 7518, section 3.2). The others: one PKCS#8 private key in PEM;
    /// RSA of 2048 to 8192 bits.
    ///
    /// # Errors
    /// Says what is wrong and what would be right, and repeats nothing of the secret.
    pub fn load(algorithm: SigningAlgorithm, secret: &Secret) -> Result<Self, String> {
        install_crypto();
        let text = secret.expose();
        let (signing, verifying) = match algorithm {
            SigningAlgorithm::Hs256 => hs256(secret_of_text(secret))?,
            SigningAlgorithm::Rs256 => rs256(text)?,
            SigningAlgorithm::Es256 => es256(text)?,
            SigningAlgorithm::EdDsa => eddsa(text)?,
        };
        Ok(Self { algorithm, signing, verifying })
    }

    /// 16 hexadecimal digits that name the key and tell nothing of it.
    pub fn kid(&self) -> &str {
        self.verifying.kid()
    }

    pub fn verifying_key(&self) -> VerifyingKey {
        self.verifying.clone()
    }

    /// A compact JWS of the claims (RFC 7515, section 7.1). `alg` and `kid` are this key's; of the header only `typ` is
    /// the caller's.
    ///
    /// # Errors
    /// [`Failure::Internal`] when the header holds more than a `typ`, or the token would be longer than we take back: both
    /// would make tokens that nobody can use.
    pub fn sign(&self, header: &Map<String, Value>, claims: &Map<String, Value>) -> Result<String, Failure> {
        if let Some(name) = header.iter().find(|(name, value)| *name != "typ" || !value.is_string()).map(|(name, _)| name) {
            return Err(internal(format!("the token's header may hold a text `typ` and nothing else, found `{name}`")));
        }
        let mut full = Map::new();
        full.insert("alg".to_owned(), self.algorithm.as_str().into());
        full.extend(header.iter().map(|(name, value)| (name.clone(), value.clone())));
        full.insert("kid".to_owned(), self.kid().into());
        let message = format!("{}.{}", encoded(&full)?, encoded(claims)?);
        let signature = crypto::sign(message.as_bytes(), &self.signing, jose(self.algorithm))
            .map_err(|error| internal(format!("signing a token: {error}")))?;
        let token = format!("{message}.{signature}");
        if token.len() > MAX_TOKEN_BYTES {
            return Err(internal(format!(
                "a token of {} bytes is longer than the {MAX_TOKEN_BYTES} that are taken",
                token.len()
            )));
        }
        Ok(token)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({} {})", self.algorithm.as_str(), self.kid())
    }
}

/// Both halves of a key.
type Halves = (EncodingKey, VerifyingKey);

fn hs256(secret: &[u8]) -> Result<Halves, String> {
    let name = KeyName::Kid(kid(&secret_id(secret)));
    let verifying = VerifyingKey::secret(name, &[JwsAlgorithm::Hs256], secret)?;
    Ok((EncodingKey::from_secret(secret), verifying))
}

fn rs256(text: &str) -> Result<Halves, String> {
    let rejected = |error: KeyRejected| format!("no RSA key of 2048 to 8192 bits in PKCS#8 form ({error})");
    let pair = RsaKeyPair::from_pkcs8(&pkcs8(text)?).map_err(rejected)?;
    if pair.public_modulus_len() < MIN_RSA_BYTES {
        return Err(format!("the RSA key has {} bits; RS256 needs at least 2048", pair.public_modulus_len() * 8));
    }
    let signing = EncodingKey::from_rsa_pem(text.as_bytes()).map_err(|error| format!("no RSA key in PEM ({error})"))?;
    Ok((signing, public(JwsAlgorithm::Rs256, pair.public_key().as_ref())?))
}

fn es256(text: &str) -> Result<Halves, String> {
    let der = pkcs8(text)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der)
        .map_err(|error| format!("no key on the curve P-256 in PKCS#8 form ({error})"))?;
    Ok((EncodingKey::from_ec_der(&der), public(JwsAlgorithm::Es256, pair.public_key().as_ref())?))
}

fn eddsa(text: &str) -> Result<Halves, String> {
    let der = pkcs8(text)?;
    let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(|error| format!("no Ed25519 key in PKCS#8 form ({error})"))?;
    Ok((EncodingKey::from_ed_der(&der), public(JwsAlgorithm::EdDsa, pair.public_key().as_ref())?))
}

/// The key that its own public bytes name.
fn public(algorithm: JwsAlgorithm, encoded: &[u8]) -> Result<VerifyingKey, String> {
    VerifyingKey::public(KeyName::Kid(kid(encoded)), &[algorithm], encoded)
}

/// The text as it stands, byte for byte, without one line end at its end.
pub(super) fn secret_of_text(secret: &Secret) -> &[u8] {
    let text = secret.expose();
    text.strip_suffix('\n').map_or(text, |rest| rest.strip_suffix('\r').unwrap_or(rest)).as_bytes()
}

/// The DER inside a PEM text with exactly one `PRIVATE KEY` (RFC 7468, section 10).
fn pkcs8(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let (_, rest) = text.split_once("-----BEGIN ").ok_or("no PEM: expected a line `-----BEGIN PRIVATE KEY-----`")?;
    let (label, rest) = rest.split_once("-----").ok_or("the PEM line that begins the key does not end")?;
    match label {
        "PRIVATE KEY" => {}
        "ENCRYPTED PRIVATE KEY" => return Err("the key is encrypted; write it without a passphrase".to_owned()),
        "RSA PRIVATE KEY" | "EC PRIVATE KEY" => {
            return Err(format!("found `{label}`; convert it: openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW"));
        }
        _ => return Err("the PEM text holds something else than a `PRIVATE KEY`".to_owned()),
    }
    let (body, rest) = rest.split_once("-----END PRIVATE KEY-----").ok_or("the PEM text has no `-----END PRIVATE KEY-----`")?;
    if rest.contains("-----BEGIN ") {
        return Err("the PEM text holds more than one key".to_owned());
    }
    let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
    STANDARD.decode(body.as_bytes()).map(Zeroizing::new).map_err(|_| "the PEM text is no base64".to_owned())
}

fn pem(pkcs8: &[u8]) -> Secret {
    let body = Zeroizing::new(STANDARD.encode(pkcs8));
    let mut out = String::with_capacity(body.len() + 128);
    out.push_str("-----BEGIN PRIVATE KEY-----");
    for (index, character) in body.chars().enumerate() {
        if index % 64 == 0 {
            out.push('\n');
        }
        out.push(character);
    }
    out.push_str("\n-----END PRIVATE KEY-----\n");
    Secret::new(out)
}

fn der<K: AsDer<Pkcs8V1Der<'static>>>(pair: &K) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    owned(pair.as_der()?.as_ref())
}

fn owned(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    Ok(Zeroizing::new(bytes.to_vec()))
}

/// The first 64 bits of SHA-256.
fn kid(public: &[u8]) -> String {
    digest(&SHA256, public).as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn encoded(part: &Map<String, Value>) -> Result<String, Failure> {
    let text = serde_json::to_vec(part).map_err(|error| internal(format!("writing a token: {error}")))?;
    Ok(URL_SAFE_NO_PAD.encode(text))
}

fn jose(algorithm: SigningAlgorithm) -> Algorithm {
    match algorithm {
        SigningAlgorithm::Hs256 => Algorithm::HS256,
        SigningAlgorithm::Rs256 => Algorithm::RS256,
        SigningAlgorithm::Es256 => Algorithm::ES256,
        SigningAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

/// `jsonwebtoken` panics at the first token when it cannot tell which library to use; a key is needed before any token.
fn install_crypto() {
    // An error says that it is installed already.
    let _ = crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

fn internal(detail: String) -> Failure {
    Failure::Internal { detail }
}

const MIN_RSA_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ALL: [SigningAlgorithm; 4] =
        [SigningAlgorithm::Hs256, SigningAlgorithm::Rs256, SigningAlgorithm::Es256, SigningAlgorithm::EdDsa];

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn load_error(algorithm: SigningAlgorithm, text: &str) -> String {
        SigningKey::load(algorithm, &Secret::new(text)).unwrap_err()
    }

    #[test]
    fn a_generated_key_loads_and_keeps_its_id() {
        for algorithm in ALL {
            let secret = SigningKey::generate(algorithm);
            let (one, other) = (SigningKey::load(algorithm, &secret).unwrap(), SigningKey::load(algorithm, &secret).unwrap());
            assert_eq!(one.kid(), other.kid());
            assert_eq!(one.kid().len(), 16);
            assert_ne!(one.kid(), SigningKey::load(algorithm, &SigningKey::generate(algorithm)).unwrap().kid());
        }
    }

    #[test]
    fn a_signature_verifies_with_its_own_key_over_its_own_message_only() {
        for algorithm in ALL {
            let key = SigningKey::load(algorithm, &SigningKey::generate(algorithm)).unwrap();
            let other = SigningKey::load(algorithm, &SigningKey::generate(algorithm)).unwrap();
            let token = key.sign(&object(&json!({ "typ": "JWT" })), &object(&json!({ "sub": "1" }))).unwrap();
            let (message, signature) = token.rsplit_once('.').unwrap();
            key.verifying_key().verify(algorithm.as_str(), message.as_bytes(), signature).unwrap();
            for (key, message) in [(&other, message.to_owned()), (&key, format!("{message}x"))] {
                let denial = key.verifying_key().verify(algorithm.as_str(), message.as_bytes(), signature).unwrap_err();
                assert_eq!(denial.code(), "token_signature", "{algorithm:?}");
            }
        }
    }

    #[test]
    fn a_token_names_algorithm_type_and_key() {
        let key = SigningKey::load(SigningAlgorithm::Hs256, &Secret::new("0123456789abcdef0123456789abcdef")).unwrap();
        let token = key.sign(&object(&json!({ "typ": "at+jwt" })), &object(&json!({ "b": 1, "a": 2 }))).unwrap();
        let parts: Vec<Vec<u8>> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        let expected = format!(r#"{{"alg":"HS256","typ":"at+jwt","kid":"{}"}}"#, key.kid());
        assert_eq!(String::from_utf8_lossy(&parts[0]), expected);
        assert_eq!(String::from_utf8_lossy(&parts[1]), r#"{"b":1,"a":2}"#);
    }

    #[test]
    fn an_hs256_secret_is_its_text_without_one_line_end() {
        let plain = "0123456789abcdef0123456789abcdef";
        let kid = |text: String| SigningKey::load(SigningAlgorithm::Hs256, &Secret::new(text)).unwrap().kid().to_owned();
        let expected = kid(plain.to_owned());
        assert_eq!(kid(format!("{plain}\n")), expected);
        assert_eq!(kid(format!("{plain}\r\n")), expected);
        for other in [format!("{plain}\n\n"), format!("{plain} "), format!(" {plain}"), format!("{plain}\r")] {
            assert_ne!(kid(other.clone()), expected, "{other:?}");
        }
    }

    #[test]
    fn weak_and_wrong_keys_are_refused_with_what_would_be_right() {
        let short = load_error(SigningAlgorithm::Hs256, "0123456789abcdef0123456789abcde\n");
        assert_eq!(short, "the secret has 31 bytes; HS256 needs at least 32");
        let small = load_error(SigningAlgorithm::Rs256, pem(&STANDARD.decode(RSA_1024).unwrap()).expose());
        assert!(small.starts_with("no RSA key of 2048 to 8192 bits in PKCS#8 form ("), "{small}");
        let ed = SigningKey::generate(SigningAlgorithm::EdDsa);
        for (algorithm, expected) in [
            (SigningAlgorithm::Rs256, "no RSA key of 2048 to 8192 bits in PKCS#8 form ("),
            (SigningAlgorithm::Es256, "no key on the curve P-256 in PKCS#8 form ("),
        ] {
            let found = load_error(algorithm, ed.expose());
            assert!(found.starts_with(expected), "{found}");
        }
        let es = SigningKey::generate(SigningAlgorithm::Es256);
        let found = load_error(SigningAlgorithm::EdDsa, es.expose());
        assert!(found.starts_with("no Ed25519 key in PKCS#8 form ("), "{found}");
    }

    #[test]
    fn pem_texts_that_hold_no_single_plain_key_say_so() {
        let good = SigningKey::generate(SigningAlgorithm::Es256);
        let twice = format!("{0}{0}", good.expose());
        for (text, expected) in [
            ("0123456789abcdef0123456789abcdef", "no PEM: expected a line `-----BEGIN PRIVATE KEY-----`"),
            ("-----BEGIN PRIVATE KEY", "the PEM line that begins the key does not end"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n", "the PEM text has no `-----END PRIVATE KEY-----`"),
            ("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----", "the PEM text is no base64"),
            (
                "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
                "the PEM text holds something else than a `PRIVATE KEY`",
            ),
            (
                "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----",
                "found `EC PRIVATE KEY`; convert it: openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW",
            ),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n", "the key is encrypted; write it without a passphrase"),
            (&twice, "the PEM text holds more than one key"),
        ] {
            assert_eq!(load_error(SigningAlgorithm::Es256, text), expected);
        }
    }

    #[test]
    fn tokens_that_could_not_be_taken_back_are_not_signed() {
        let key = SigningKey::load(SigningAlgorithm::Hs256, &SigningKey::generate(SigningAlgorithm::Hs256)).unwrap();
        let claims = object(&json!({ "sub": "1" }));
        for header in [json!({ "kid": "x" }), json!({ "alg": "none" }), json!({ "typ": 1 }), json!({ "crit": ["x"] })] {
            assert_eq!(key.sign(&object(&header), &claims).unwrap_err().code(), "internal");
        }
        let long = object(&json!({ "sub": "x".repeat(MAX_TOKEN_BYTES) }));
        assert_eq!(key.sign(&Map::new(), &long).unwrap_err().code(), "internal");
    }

    #[test]
    fn debug_output_shows_no_key() {
        let key = SigningKey::load(SigningAlgorithm::Hs256, &Secret::new("0123456789abcdef0123456789abcdef")).unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey(HS256 {})", key.kid()));
        assert_eq!(format!("{:?}", key.verifying_key()), format!("VerifyingKey(HS256 {})", key.kid()));
    }

    // PKCS#8 of an RSA key of 1024 bits, made for this test and used nowhere else.
    const RSA_1024: &str = "MIICeAIBADANBgkqhkiG9w0BAQEFAASCAmIwggJeAgEAAoGBALZq0NembNnIY75yTxsVS3ZG5E8vY3zK9v4Xoh3mjQ93RYTCXamC\
        DjfhYlVW0hZYqN8Twd8WKLoU4KaFzkeXyoFau+//rW+qbxIGHIZD3PjRByiUUqu/6vSAV96SZaxUnG3jbbRjYHpc71fr+BAvMz8f\
        kuFHWNd3fLqxJm3Tu1MFAgMBAAECgYBvL8g/yZcLX5M8X9xLu70VSLycb1wKkoPd+HW+F+rfBGoBM593VGhqMxyGu7auHDhCUH6Z\
        BZ6pXVRY67IB/UlWa4+nzQOVDjXMjyC6kWuuvrmDB9hBb+/f6YodVdd1AtrgioF/OPS2M3VDAHqQlDeftnZ2hGtDmjpjMdnCtof1\
        uQJBANnZgNL6AQZ8zkIrd0WkWMG0GgDGGFWnSdo5Baxe0GmWGkR6zavykO/mBzAHz5xCerLZRokd3z5cAvKikvx1xqMCQQDWXNSu\
        8QTVvHCeuYk0gDi8qfxHAj5IBVmOvdceAfhe17N/jxuCEkK8Xbooemp+j0eBt/hrSn3Bz8Rx0rDChCI3AkEApAXfuPoDS58srSWM\
        6CKVsUKpUWvVZqhOMsA8RUweH2Gk5WqQ8KXx+q53OvKmnkBvobl2Ikcbjxg4H/fIM815gQJBAKPNNdwkYjxtDWXMgvKyVCiegB9G\
        sI7aP7AakqnkeYUHsKr1kOCY0ZQczualfIEPPWX7TYG231fdStBrXhSVYYsCQQCt25juK1YKrVf5ILy5WJ91qnP6pbXzPrnrZD54\
        d6HgukgQ470p6mDDVUhNGxDH383D6UGxBv1ksS7yeIHU7WDL";
}
