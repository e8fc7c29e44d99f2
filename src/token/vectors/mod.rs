//! Runs shared vectors against the verifier: what others found that verifiers get wrong, with a known answer for each.

mod attacks;
mod cookbook;
mod json_web;
mod signatures;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::config::JwsAlgorithm;
use crate::rejection::Denial;
use crate::token::fixture::{PUBLIC, SECRET};
use crate::token::header::{Header, Parts};
use crate::token::verifying::KeyName;
use crate::token::{KeySet, Origin, VerifyingKey};
use crate::vectors::vectors as load;

/// The keys of a vector as an issuer's: a JWK set is parsed, with all algorithms that there are, and secrets are taken as
/// if each were configured. Public keys and secrets in one set are what no issuer has here: the secrets are left out.
fn key_set(jwk_or_set: &Value) -> KeySet {
    let set = if jwk_or_set.get("keys").is_some() { jwk_or_set.clone() } else { json!({ "keys": [jwk_or_set] }) };
    let keys = set["keys"].as_array().unwrap();
    match keys.iter().all(|key| key["kty"] == "oct") {
        true => KeySet::of(keys.iter().filter_map(secret).collect()),
        false => KeySet::parse(set.to_string().as_bytes(), &PUBLIC).unwrap(),
    }
}

/// Left-over bits are overlooked in the vectors' own secrets: one of them has some by mistake.
fn secret(jwk: &Value) -> Option<VerifyingKey> {
    let algorithm = SECRET.into_iter().find(|algorithm| jwk["alg"] == algorithm.as_str())?;
    let name = jwk["kid"].as_str().map_or(KeyName::Unnamed, |kid| KeyName::Kid(kid.to_owned()));
    VerifyingKey::secret(name, &[algorithm], &FORGIVING.decode(jwk["k"].as_str()?).ok()?).ok()
}

/// A token as a signature over any bytes, its claims unread (RFC 7515, section 5.2).
fn verify_jws(keys: &KeySet, token: &str) -> Result<(), Denial> {
    let parts = Parts::of(token)?;
    let header = Header::read(parts.header, Origin::Foreign)?;
    let what = "the payload is no base64url";
    URL_SAFE_NO_PAD.decode(parts.claims).map_err(|_| Denial::TokenMalformed { what })?;
    keys.verify(header.kid.as_deref(), &header.alg, parts.message.as_bytes(), parts.signature)
}

fn outcome<T>(judged: Result<T, Denial>) -> &'static str {
    judged.map_or_else(|denial| denial.code(), |_| "accepted")
}

fn algorithm(name: &str) -> JwsAlgorithm {
    PUBLIC.into_iter().chain(SECRET).find(|algorithm| algorithm.as_str() == name).unwrap()
}

const FORGIVING: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));
