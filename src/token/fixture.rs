//! Issuers for tests: key pairs that write their own JWK and sign whatever a test wants, right or wrong.

use aws_lc_rs::rand::SecureRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::config::JwsAlgorithm;

/// Every algorithm with a public key.
pub const PUBLIC: [JwsAlgorithm; 9] = [
    JwsAlgorithm::Rs256,
    JwsAlgorithm::Rs384,
    JwsAlgorithm::Rs512,
    JwsAlgorithm::Ps256,
    JwsAlgorithm::Ps384,
    JwsAlgorithm::Ps512,
    JwsAlgorithm::Es256,
    JwsAlgorithm::Es384,
    JwsAlgorithm::EdDsa,
];

pub const SECRET: [JwsAlgorithm; 3] = [JwsAlgorithm::Hs256, JwsAlgorithm::Hs384, JwsAlgorithm::Hs512];

pub enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Pair {
    /// Of 2048 bits.
    pub fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub fn p384() -> Self {
        Self::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    pub fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    /// What it can sign with.
    pub fn algorithms(&self) -> &'static [JwsAlgorithm] {
        match self {
            Self::Rsa(_) => &PUBLIC[..6],
            Self::P256(_) => &PUBLIC[6..7],
            Self::P384(_) => &PUBLIC[7..8],
            Self::Ed25519(_) => &PUBLIC[8..],
        }
    }

    /// Its public JWK with nothing but the kind, and the kid if there is one.
    pub fn jwk(&self, kid: Option<&str>) -> Value {
        let mut jwk = match self {
            // PKCS#1 DER of 2048 bits: nine bytes of framing, the modulus, two bytes of framing, the exponent.
            Self::Rsa(pair) => {
                let der = pair.public_key().as_ref();
                json!({ "kty": "RSA", "n": encoded(&der[9..265]), "e": encoded(&der[267..]) })
            }
            Self::P256(pair) => point("P-256", pair),
            Self::P384(pair) => point("P-384", pair),
            Self::Ed25519(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(pair.public_key().as_ref()) }),
        };
        if let Some(kid) = kid {
            jwk["kid"] = kid.into();
        }
        jwk
    }

    /// A token with this header and these claims. What is signed with is what the header's `alg` says, else what the key
    /// can.
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        self.raw(&header.to_string(), claims.to_string().as_bytes())
    }

    pub fn raw(&self, header: &str, claims: &[u8]) -> String {
        let alg = serde_json::from_str::<Value>(header).ok().and_then(|header| Some(header["alg"].as_str()?.to_owned()));
        let message = format!("{}.{}", encoded(header.as_bytes()), encoded(claims));
        let signature = match self {
            Self::Rsa(pair) => rsa_signature(pair, alg.as_deref().unwrap_or_default(), message.as_bytes()),
            Self::P256(pair) | Self::P384(pair) => pair.sign(&random(), message.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", encoded(&signature))
    }
}

/// A JWK set of these keys.
pub fn jwks(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

pub fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn point(curve: &str, pair: &EcdsaKeyPair) -> Value {
    let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
    json!({ "kty": "EC", "crv": curve, "x": encoded(x), "y": encoded(y) })
}

fn rsa_signature(pair: &RsaKeyPair, alg: &str, message: &[u8]) -> Vec<u8> {
    let padding: &'static dyn RsaEncoding = match alg {
        "RS384" => &RSA_PKCS1_SHA384,
        "RS512" => &RSA_PKCS1_SHA512,
        "PS256" => &RSA_PSS_SHA256,
        "PS384" => &RSA_PSS_SHA384,
        "PS512" => &RSA_PSS_SHA512,
        _ => &RSA_PKCS1_SHA256,
    };
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(padding, &random(), message, &mut signature).unwrap();
    signature
}

#[expect(clippy::disallowed_methods, reason = "the library wants its own source of randomness to sign with")]
fn random() -> impl SecureRandom {
    aws_lc_rs::rand::SystemRandom::new()
}
