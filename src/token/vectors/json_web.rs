//! Wycheproof's JSON web signatures and keys, judged as signatures over any bytes: the payloads are no claims.

use serde_json::Value;

use crate::token::vectors::{key_set, load, outcome, verify_jws};

/// F16: JSON web signatures.
#[test]
fn json_web_signatures_are_judged_as_wycheproof_says() {
    const OTHERWISE: &[(u64, &str, &str)] = &[
        // ES512 is none of our algorithms: key and token are refused.
        (347, "valid", "token_key_unknown"),
        (351, "valid", "token_key_unknown"),
        // The JWK says PS256, the token PS384: the `alg` of a key is the one that it is for (RFC 7517, section 4.4).
        (346, "valid", "token_algorithm"),
        (350, "valid", "token_algorithm"),
        // A `?` inside base64url is nothing to overlook (RFC 7515, section 2).
        (372, "valid", "token_malformed"),
        (373, "valid", "token_malformed"),
        // Named after a padding that they lost: byte for byte they are 357, which is valid.
        (367, "invalid", "accepted"),
        (370, "invalid", "accepted"),
    ];
    judge_all("wycheproof/json_web_signature_test.json", 401, OTHERWISE);
}

/// F16, F11: two vectors that are called wrong are the right one over again; with the padding of their name they are refused.
#[test]
fn padding_that_vectors_lost_is_refused_where_it_is_there() {
    let Some(vectors) = load("wycheproof/json_web_signature_test.json") else { return };
    let groups = vectors["testGroups"].as_array().unwrap();
    let group = groups.iter().find(|group| group["comment"] == "base64").unwrap();
    let token = |wanted: u64| text(group["tests"].as_array().unwrap().iter().find(|test| number(test) == wanted).unwrap());
    let (good, keys) = (token(357), key_set(&group["private"]));
    assert_eq!([token(367), token(370)], [good.as_str(), good.as_str()]);
    for padded in [format!("{good}="), good.replacen("VGVzdA", "VGVzdA==", 1), good.replacen('.', "==.", 1)] {
        assert_eq!(outcome(verify_jws(&keys, &padded)), "token_malformed", "{padded}");
    }
}

/// F16, F1: the same signatures verify where the JWK does not pin the other algorithm, so nothing but the pin refused them.
#[test]
fn a_signature_that_its_keys_alg_refuses_verifies_without_it() {
    let Some(vectors) = load("wycheproof/json_web_signature_test.json") else { return };
    let mut verified = 0;
    for group in vectors["testGroups"].as_array().unwrap() {
        for test in group["tests"].as_array().unwrap().iter().filter(|test| [346, 350].contains(&number(test))) {
            let mut key = group["public"].clone();
            key.as_object_mut().unwrap().shift_remove("alg");
            assert_eq!(outcome(verify_jws(&key_set(&key), test["jws"].as_str().unwrap())), "accepted");
            verified += 1;
        }
    }
    assert_eq!(verified, 2);
}

/// F16, G4: JSON web keys, among them weak ones, ones for encryption, and sets that hold a secret beside a public key.
#[test]
fn json_web_keys_are_judged_as_wycheproof_says() {
    judge_all("wycheproof/json_web_key_test.json", 26, &[]);
}

/// F16: signatures and encrypted tokens side by side.
#[test]
fn json_web_crypto_is_judged_as_wycheproof_says() {
    const OTHERWISE: &[(u64, &str, &str)] = &[
        // Encrypted tokens: none are taken.
        (50, "valid", "token_malformed"),
        (67, "valid", "token_malformed"),
    ];
    judge_all("wycheproof/json_web_crypto_test.json", 83, OTHERWISE);
}

/// F16: encrypted tokens are no tokens here, right or wrong.
#[test]
fn every_encrypted_token_is_refused() {
    let Some(vectors) = load("wycheproof/json_web_encryption_test.json") else { return };
    let mut refused = 0;
    for group in vectors["testGroups"].as_array().unwrap() {
        let keys = key_set(group.get("public").unwrap_or(&group["private"]));
        for test in group["tests"].as_array().unwrap() {
            let found = outcome(verify_jws(&keys, &text(test)));
            assert_eq!(found, "token_malformed", "{}", test["tcId"]);
            refused += 1;
        }
    }
    assert_eq!(refused, 139);
}

/// Every test of a file, by its number: as it says, or as the row says that decides otherwise.
fn judge_all(file: &str, tests: u64, otherwise: &[(u64, &str, &str)]) {
    let Some(vectors) = load(file) else { return };
    let (mut judged, mut rows) = (0, 0);
    let mut wrong = Vec::new();
    for group in vectors["testGroups"].as_array().unwrap() {
        let keys = key_set(group.get("public").unwrap_or(&group["private"]));
        for test in group["tests"].as_array().unwrap() {
            let found = outcome(verify_jws(&keys, &text(test)));
            let expected = test["result"].as_str().unwrap();
            let row = otherwise.iter().find(|(row, stated, _)| *row == number(test) && *stated == expected);
            let right = match (row, expected) {
                (Some((_, _, ours)), _) => found == *ours,
                (None, "valid") => found == "accepted",
                (None, "invalid") => found.starts_with("token_"),
                (None, _) => false,
            };
            if !right {
                wrong.push(format!(
                    "{} {} {}: expected {expected}, found {found}",
                    test["tcId"], group["comment"], test["comment"]
                ));
            }
            judged += 1;
            rows += usize::from(row.is_some());
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!((judged, rows), (tests, otherwise.len()));
    assert_eq!(vectors["numberOfTests"], judged);
}

fn number(test: &Value) -> u64 {
    test["tcId"].as_u64().unwrap()
}

/// Some tests hold a JSON serialisation, which is no compact token.
fn text(test: &Value) -> String {
    let token = test.get("jws").or_else(|| test.get("jwe")).unwrap();
    token.as_str().map_or_else(|| token.to_string(), str::to_owned)
}
