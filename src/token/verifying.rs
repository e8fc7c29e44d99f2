//! Keys that verify signatures, ours and others'. A key serves the algorithms that it was made for (RFC 8725, section 3.1):
//! the token's `alg` only says which of them, so that no token makes a public key a secret.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::JwsAlgorithm;
use crate::rejection::Denial;

/// Verifies what one key signed. `Debug` shows name and algorithms only.
#[derive(Clone)]
pub struct VerifyingKey {
    pub(super) name: KeyName,
    checks: Vec<(JwsAlgorithm, Material)>,
    content: [u8; 32],
}

/// Which tokens a key answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyName {
    /// Those with this `kid`, and those without any.
    Kid(String),
    /// Those without `kid`.
    Unnamed,
    /// All: both sides know one secret, and what the other calls it says nothing.
    Any,
}

/// What an algorithm verifies with.
#[derive(Clone)]
enum Material {
    Public(ParsedPublicKey),
    /// With what the hash makes of the secret beforehand: a kilobyte.
    Secret(Box<hmac::Key>),
}

enum Primitive {
    Public(&'static dyn VerificationAlgorithm),
    Mac(hmac::Algorithm),
}

impl VerifyingKey {
    /// A public key: for RSA the DER of PKCS#1 or of X.509, for the curves of NIST an uncompressed point, for Ed25519 its
    /// 32 bytes. Sizes of RSA keys are the caller's to judge.
    ///
    /// # Errors
    /// When the bytes are no key for one of the algorithms, or there is none.
    pub(super) fn public(name: KeyName, algorithms: &[JwsAlgorithm], encoded: &[u8]) -> Result<Self, String> {
        let material = |algorithm: JwsAlgorithm| match primitive(algorithm) {
            Primitive::Public(primitive) => ParsedPublicKey::new(primitive, encoded)
                .map(Material::Public)
                .map_err(|error| format!("it is no key for {} ({error})", algorithm.as_str())),
            Primitive::Mac(_) => Err(format!("{} takes a secret and no public key", algorithm.as_str())),
        };
        Self::assemble(name, algorithms, encoded, material)
    }

    /// A secret that both sides know.
    ///
    /// # Errors
    /// When it is shorter than what an algorithm needs (RFC 7518, section 3.2), or an algorithm takes no secret.
    pub(super) fn secret(name: KeyName, algorithms: &[JwsAlgorithm], secret: &[u8]) -> Result<Self, String> {
        let material = |algorithm: JwsAlgorithm| match primitive(algorithm) {
            Primitive::Mac(mac) if secret.len() >= mac.digest_algorithm().output_len() => {
                Ok(Material::Secret(Box::new(hmac::Key::new(mac, secret))))
            }
            Primitive::Mac(mac) => Err(format!(
                "the secret has {} bytes; {} needs at least {}",
                secret.len(),
                algorithm.as_str(),
                mac.digest_algorithm().output_len()
            )),
            Primitive::Public(_) => Err(format!("{} takes a public key and no secret", algorithm.as_str())),
        };
        Self::assemble(name, algorithms, &secret_id(secret), material)
    }

    fn assemble(
        name: KeyName,
        algorithms: &[JwsAlgorithm],
        public: &[u8],
        material: impl Fn(JwsAlgorithm) -> Result<Material, String>,
    ) -> Result<Self, String> {
        if algorithms.is_empty() {
            return Err("no algorithm that the issuer may use goes with it".to_owned());
        }
        let checks = algorithms.iter().map(|&algorithm| Ok((algorithm, material(algorithm)?)));
        let checks: Vec<_> = checks.collect::<Result<_, String>>()?;
        let content = content(&name, algorithms, public);
        Ok(Self { name, checks, content })
    }

    /// Whether `signature` (base64url) is this key's over `message`, made with `alg`.
    pub(super) fn verify(&self, alg: &str, message: &[u8], signature: &str) -> Result<(), Denial> {
        let fitting = self.checks.iter().find(|(algorithm, _)| algorithm.as_str() == alg);
        let (_, material) = fitting.ok_or_else(|| Denial::TokenAlgorithm { found: shortened(alg) })?;
        // The engine takes one spelling of every text: no padding, no other alphabet, no left-over bits.
        let what = "the signature is no base64url";
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Denial::TokenMalformed { what })?;
        let verdict = match material {
            Material::Public(key) => key.verify_sig(message, &signature),
            Material::Secret(key) => hmac::verify(key, message, &signature),
        };
        verdict.map_err(|_| Denial::TokenSignature)
    }

    /// `alg` as a token writes it.
    pub(super) fn serves(&self, alg: &str) -> bool {
        self.algorithms().any(|algorithm| algorithm.as_str() == alg)
    }

    pub(super) fn algorithms(&self) -> impl Iterator<Item = JwsAlgorithm> {
        self.checks.iter().map(|(algorithm, _)| *algorithm)
    }

    /// Empty where the key has no `kid`.
    pub fn kid(&self) -> &str {
        if let KeyName::Kid(kid) = &self.name { kid } else { "" }
    }

    /// SHA-256 over name, algorithms and key: equal where two keys accept the same tokens.
    pub(super) fn content(&self) -> &[u8; 32] {
        &self.content
    }
}

impl KeyName {
    pub(super) fn answers_to(&self, kid: Option<&str>) -> bool {
        match (self, kid) {
            (Self::Kid(own), Some(kid)) => own == kid,
            (Self::Unnamed, Some(_)) => false,
            (Self::Any, _) | (Self::Kid(_) | Self::Unnamed, None) => true,
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifyingKey(")?;
        self.algorithms().try_for_each(|algorithm| write!(f, "{} ", algorithm.as_str()))?;
        write!(f, "{})", self.kid())
    }
}

/// Bytes that stand for a secret and tell nothing of it.
pub(super) fn secret_id(secret: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"gateward token key id").as_ref());
    out
}

/// As much of a text from outside as a log line needs.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

fn primitive(algorithm: JwsAlgorithm) -> Primitive {
    match algorithm {
        JwsAlgorithm::Hs256 => Primitive::Mac(hmac::HMAC_SHA256),
        JwsAlgorithm::Hs384 => Primitive::Mac(hmac::HMAC_SHA384),
        JwsAlgorithm::Hs512 => Primitive::Mac(hmac::HMAC_SHA512),
        JwsAlgorithm::Rs256 => Primitive::Public(&RSA_PKCS1_2048_8192_SHA256),
        JwsAlgorithm::Rs384 => Primitive::Public(&RSA_PKCS1_2048_8192_SHA384),
        JwsAlgorithm::Rs512 => Primitive::Public(&RSA_PKCS1_2048_8192_SHA512),
        // The salt is as long as the hash (RFC 7518, section 3.5).
        JwsAlgorithm::Ps256 => Primitive::Public(&RSA_PSS_2048_8192_SHA256),
        JwsAlgorithm::Ps384 => Primitive::Public(&RSA_PSS_2048_8192_SHA384),
        JwsAlgorithm::Ps512 => Primitive::Public(&RSA_PSS_2048_8192_SHA512),
        // Two numbers of the curve's size one after the other (section 3.4), never DER.
        JwsAlgorithm::Es256 => Primitive::Public(&ECDSA_P256_SHA256_FIXED),
        JwsAlgorithm::Es384 => Primitive::Public(&ECDSA_P384_SHA384_FIXED),
        JwsAlgorithm::EdDsa => Primitive::Public(&ED25519),
    }
}

fn content(name: &KeyName, algorithms: &[JwsAlgorithm], public: &[u8]) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    let (kind, kid) = match name {
        KeyName::Kid(kid) => (b'k', kid.as_str()),
        KeyName::Unnamed => (b'u', ""),
        KeyName::Any => (b'a', ""),
    };
    hash.update(&[kind]);
    // Each part after its length: no two lists of parts are one row of bytes.
    let parts = std::iter::once(kid).chain(algorithms.iter().map(|algorithm| algorithm.as_str())).map(str::as_bytes);
    for part in parts.chain(std::iter::once(public)) {
        hash.update(&part.len().to_be_bytes());
        hash.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(hash.finish().as_ref());
    out
}
