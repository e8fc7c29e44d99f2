//! `own/jwt_attacks.json`: attacks on tokens, judged by the profile of our own tokens and by that of a foreign issuer.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::config::JwsAlgorithm;
use crate::token::vectors::{key_set, load, outcome};
use crate::token::verifying::KeyName;
use crate::token::{KeySet, Origin, Profile, VerifyingKey};

type Rows = &'static [(&'static str, &'static str)];

/// Where a vector leaves it to the policy, what ours is.
const POLICY: Rows = &[
    // "Only if alg and kty select exactly one key": they do.
    ("kid missing (three keys in set)", "accepted"),
    // "Never raw": what a header may hold is decided where headers are written.
    ("sub non-ASCII", "accepted"),
    ("roles with comma", "accepted"),
    // A list of scopes is one of the two forms that an issuer may have; our own tokens have no such claim.
    ("scope as array", "accepted"),
];

/// Where our own tokens are judged otherwise than the vectors of a general verifier.
const OURS: Rows = &[
    // We sign whole seconds only, so a fraction is not ours.
    ("exp fractional", "token_claim"),
    ("typ JWT used as access token", "token_type"),
];

const STRICT: Rows = &[("typ JWT used as access token", "token_type")];

/// "Only for issuers not configured as RFC 9068", and then access tokens by their own name are nothing they write.
const OF_ANY_TYPE: Rows = &[("typ JWT used as access token", "accepted")];

/// F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11: with the profile of our own tokens.
#[test]
fn attacks_on_our_own_tokens_are_judged_as_the_vectors_say() {
    judge_all(Origin::Ours, &["at+jwt"], OURS);
}

/// F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11: with the profile of a foreign issuer, strict and with tokens of type `JWT`.
#[test]
fn attacks_on_foreign_tokens_are_judged_as_the_vectors_say() {
    judge_all(Origin::Foreign, &["at+jwt"], STRICT);
    judge_all(Origin::Foreign, &["at+jwt", "JWT"], OF_ANY_TYPE);
}

/// F1, G2: what one issuer's keys verify, no other's do: not with its secret, not with its public keys.
#[test]
fn no_vector_passes_with_the_keys_of_another_profile() {
    let Some(vectors) = load("own/jwt_attacks.json") else { return };
    let profile = profile(&vectors, Origin::Foreign, &["at+jwt", "JWT", ""]);
    let (public, secret) = (key_set(&vectors["jwks"]), secret(&vectors));
    for test in vectors["tests"].as_array().unwrap() {
        let others = if test["profile"] == "hs" { &public } else { &secret };
        let judged = profile.verify(others, test["token"].as_str().unwrap(), NOW);
        // The one token that is signed with the secret and sent to the issuer with the RSA key.
        let expected = test["name"] == "HS256 token to RSA issuer (its shared secret)";
        assert_eq!(judged.map_or_else(|denial| denial.code(), |_| "accepted") == "accepted", expected, "{}", test["name"]);
    }
}

fn judge_all(origin: Origin, types: &[&str], otherwise: Rows) {
    let Some(vectors) = load("own/jwt_attacks.json") else { return };
    let profile = profile(&vectors, origin, types);
    let (public, secret) = (key_set(&vectors["jwks"]), secret(&vectors));
    assert_eq!(public.len(), 3, "all three keys are in one set");
    let tests = vectors["tests"].as_array().unwrap();
    assert_eq!(tests.len(), 157);
    let wrong: Vec<String> = tests
        .iter()
        .filter_map(|test| {
            let (name, expected) = (test["name"].as_str().unwrap(), test["expect"].as_str().unwrap());
            let keys = if test["profile"] == "hs" { &secret } else { &public };
            let found = outcome(profile.verify(keys, test["token"].as_str().unwrap(), NOW));
            let right = match otherwise.iter().chain(POLICY).find(|(other, _)| *other == name) {
                Some((_, expected)) => found == *expected,
                None if expected == "accept" => found == "accepted",
                None if expected.starts_with("reject") => found.starts_with("token_"),
                None => false,
            };
            (!right).then(|| format!("{name}: expected {expected}, found {found}"))
        })
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
}

fn profile(vectors: &Value, origin: Origin, types: &[&str]) -> Profile {
    let config = |member: &str| vectors["config"][member].as_str().unwrap().to_owned();
    Profile {
        issuer: Some(config("iss")),
        audience: vec![config("aud")],
        types: types.iter().map(|typ| (*typ).to_owned()).collect(),
        leeway: Duration::from_mins(1),
        required_claims: ["exp", "sub", "iss", "aud"].map(str::to_owned).to_vec(),
        subject_claim: "sub".to_owned(),
        origin,
    }
}

fn secret(vectors: &Value) -> KeySet {
    let secret = URL_SAFE_NO_PAD.decode(vectors["hs256_secret_b64url"].as_str().unwrap()).unwrap();
    KeySet::of(vec![VerifyingKey::secret(KeyName::Any, &[JwsAlgorithm::Hs256], &secret).unwrap()])
}

const NOW: Timestamp = Timestamp(1_800_000_000_000);
