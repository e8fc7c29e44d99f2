//! Runs the shared attack vectors (`own/jwt_attacks.json`) against the verifier of our own tokens.
//!
//! Their folder is named by `GATEWARD_VECTORS`, by default `../shared/data` beside the crate.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::config::JwsAlgorithm;
use crate::token::verifying::KeyName;
use crate::token::{KeySet, Profile, Verifier, VerifyingKey};

/// Where our own tokens are judged otherwise than the vectors of a general verifier, and why.
const OTHERWISE: &[(&str, &str)] = &[
    // We sign whole seconds only, so a fraction is not ours.
    ("exp fractional", "token_claim"),
    // The policy is "only where one key fits": this verifier has one key.
    ("kid missing (three keys in set)", "accepted"),
    // The policy is "never raw": what a header may hold is decided where headers are written.
    ("sub non-ASCII", "accepted"),
    ("roles with comma", "accepted"),
    // Rights come from the account, never from this claim of our own tokens: nothing reads it.
    ("scope as array", "accepted"),
    // The profile of the vectors is RFC 9068.
    ("typ JWT used as access token", "token_type"),
];

#[test]
fn the_attack_vectors_are_judged_as_they_say() {
    let Some(vectors) = load("own/jwt_attacks.json") else { return };
    let tests = vectors["tests"].as_array().unwrap();
    assert_eq!(tests.len(), 157);
    let wrong: Vec<String> = tests
        .iter()
        .filter_map(|test| {
            let (name, expected) = (test["name"].as_str().unwrap(), test["expect"].as_str().unwrap());
            let verifier = verifier(&vectors, test["profile"].as_str().unwrap());
            let judged = verifier.verify(test["token"].as_str().unwrap(), Timestamp::from_seconds(1_800_000_000));
            let found = judged.map(|_| "accepted").unwrap_or_else(|denial| denial.code());
            let right = match OTHERWISE.iter().find(|(other, _)| *other == name) {
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

/// The vectors' keys as if they were ours. Each profile has one key.
fn verifier(vectors: &Value, profile: &str) -> Verifier {
    let config = |member: &str| vectors["config"][member].as_str().unwrap().to_owned();
    let keys = |at: usize| {
        let set = json!({ "keys": [vectors["jwks"]["keys"][at]] }).to_string();
        let asymmetric = [JwsAlgorithm::Rs256, JwsAlgorithm::Es256, JwsAlgorithm::EdDsa];
        KeySet::parse(set.as_bytes(), &asymmetric).unwrap()
    };
    let keys = match profile {
        "rsa" => keys(0),
        "ec" => keys(1),
        "ed" => keys(2),
        "hs" => {
            let secret = URL_SAFE_NO_PAD.decode(vectors["hs256_secret_b64url"].as_str().unwrap()).unwrap();
            let name = KeyName::Kid("hs1".to_owned());
            KeySet::of(vec![VerifyingKey::secret(name, &[JwsAlgorithm::Hs256], &secret).unwrap()])
        }
        other => panic!("the vectors have a new profile {other}"),
    };
    let profile = Profile {
        issuer: Some(config("iss")),
        audience: vec![config("aud")],
        leeway: Duration::from_mins(1),
        ..Profile::ours("", "at+jwt")
    };
    Verifier::new(keys, profile)
}

/// `None`, with a message, where the vectors are not installed; never under `CI=true`.
#[expect(clippy::disallowed_methods, reason = "a test is told by its environment where the vectors are")]
fn load(file: &str) -> Option<Value> {
    let folder = std::env::var_os("GATEWARD_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let path = folder.join(file);
    match std::fs::read(&path) {
        Ok(text) => Some(serde_json::from_slice(&text).unwrap()),
        Err(error) => {
            let message = format!("no vectors at {}: {error}; set GATEWARD_VECTORS to their folder", path.display());
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
            println!("{message}");
            None
        }
    }
}
