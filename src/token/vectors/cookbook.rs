//! The worked examples of RFC 7520, RFC 7797 and RFC 8037.

use serde_json::Value;

use crate::token::KeySet;
use crate::token::fixture::{PUBLIC, jwks};
use crate::token::vectors::{key_set, load, outcome, verify_jws};

/// F16: examples of signatures, with what is signed beside them.
#[test]
fn worked_examples_verify_where_they_are_tokens() {
    let accepted: &[&str] = &["accepted"];
    for (file, expected) in [
        ("jws/4_1.rsa_v15_signature.json", accepted),
        ("jws/4_2.rsa-pss_signature.json", accepted),
        // ES512.
        ("jws/4_3.ecdsa_signature.json", &["token_key_unknown"]),
        ("jws/4_4.hmac-sha2_integrity_protection.json", accepted),
        ("jws/4_5.signature_with_detached_content.json", accepted),
        // Its kid is not protected: as a token it has none.
        ("jws/4_6.protecting_specific_header_fields.json", accepted),
        // Nothing of its header is protected.
        ("jws/4_7.protecting_content_only.json", &["token_malformed"]),
        ("jws/4_8.multiple_signatures.json", &["accepted", "token_malformed", "accepted"]),
        ("curve25519/jws.json", accepted),
        // `b64` (RFC 7797): the payload stands there as it is.
        ("rfc7797/4.2.hmac-sha2_b64_false.json", &["token_malformed"]),
        ("rfc7797/hmac-sha2_b64_false.json", &["token_malformed"]),
    ] {
        let Some(example) = load(&format!("jose-cookbook/{file}")) else { return };
        let found: Vec<&str> = listed(&example["signing"])
            .iter()
            .zip(listed(&example["input"]["key"]))
            .map(|(signing, key)| {
                let token = format!("{}.{}", signing["sig-input"].as_str().unwrap(), signing["sig"].as_str().unwrap());
                outcome(verify_jws(&key_set(&public(key)), &token))
            })
            .collect();
        assert_eq!(found, expected, "{file}");
        if let Some(compact) = example["output"]["compact"].as_str().filter(|_| *expected == ["accepted"]) {
            let is_whole = !compact.contains("..");
            let found = outcome(verify_jws(&key_set(&public(&example["input"]["key"])), compact));
            assert_eq!(found, if is_whole { "accepted" } else { "token_signature" }, "{file}");
        }
    }
}

/// G4: of the examples of keys, the public ones of our kinds are taken.
#[test]
fn worked_examples_of_keys_are_taken_where_they_are_public_and_of_our_kinds() {
    for (file, expected) in [
        ("3_1.ec_public_key.json", Err("its curve \"P-521\" is not known")),
        ("3_2.ec_private_key.json", Err("it holds the PRIVATE key (`d`)")),
        ("3_3.rsa_public_key.json", Ok(6)),
        ("3_4.rsa_private_key.json", Err("it holds the PRIVATE key (`d`)")),
        ("3_5.symmetric_key_mac_computation.json", Err("a secret (`oct`) is never taken from a key set")),
        ("3_6.symmetric_key_encryption.json", Err("a secret (`oct`) is never taken from a key set")),
    ] {
        let Some(jwk) = load(&format!("jose-cookbook/jwk/{file}")) else { return };
        let keys = KeySet::parse(&jwks(&[jwk]), &PUBLIC).unwrap();
        match expected {
            Ok(algorithms) => assert_eq!(keys.describe().iter().map(|(_, served)| served.len()).sum::<usize>(), algorithms),
            Err(reason) => assert!(keys.skipped().iter().any(|line| line.contains(reason)), "{file}: {:?}", keys.skipped()),
        }
        assert_eq!(keys.len() + keys.skipped().len(), 1, "{file}");
    }
}

/// The key as its issuer would publish it. Secrets stay as they are.
fn public(key: &Value) -> Value {
    let mut key = key.clone();
    for member in ["d", "p", "q", "dp", "dq", "qi"] {
        key.as_object_mut().unwrap().shift_remove(member);
    }
    key
}

fn listed(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}
