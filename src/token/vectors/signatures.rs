//! Wycheproof's vectors of bare signatures, through our keys: a JWK is made of the vector's key and its signature is judged.

use serde_json::{Value, json};

use crate::token::fixture::{PUBLIC, encoded, jwks};
use crate::token::vectors::{algorithm, load, outcome};
use crate::token::verifying::KeyName;
use crate::token::{KeySet, VerifyingKey};

/// How many vectors were accepted and how many refused.
type Count = (u32, u32);

/// F16, F5: signatures of elliptic curves as tokens have them, two numbers of full length.
#[test]
fn signatures_of_elliptic_curves_are_judged_as_wycheproof_says() {
    assert_count("ecdsa_secp256r1_sha256_p1363", (173, 89), |group| point(group, "P-256"), |_| "ES256");
    assert_count("ecdsa_secp384r1_sha384_p1363", (193, 87), |group| point(group, "P-384"), |_| "ES384");
}

/// F16, F5: the same numbers as DER are no signature of a token, right or wrong.
#[test]
fn signatures_in_der_are_refused() {
    refuse_all("ecdsa_secp256r1_sha256", 484, |group| point(group, "P-256"), "ES256");
    refuse_all("ecdsa_secp384r1_sha384", 504, |group| point(group, "P-384"), "ES384");
}

/// F16: a curve that is none of ours gives no key.
#[test]
fn keys_of_other_curves_are_left_out() {
    let Some(vectors) = load("wycheproof/ecdsa_secp256k1_sha256_p1363_test.json") else { return };
    for group in vectors["testGroups"].as_array().unwrap() {
        for curve in ["secp256k1", "P-256K"] {
            assert_eq!(keys(&point(group, curve)).len(), 0);
        }
        assert_eq!(keys(&point(group, "P-256")).skipped(), ["key 1 (without kid): it is no key for ES256 (InvalidEncoding)"]);
    }
}

/// F16: Edwards curves.
#[test]
fn signatures_of_ed25519_are_judged_as_wycheproof_says() {
    let jwk = |group: &Value| json!({ "kty": "OKP", "crv": "Ed25519", "x": hex_encoded(&group["publicKey"]["pk"]) });
    assert_count("ed25519", (88, 63), jwk, |_| "EdDSA");
}

/// F16: RSA of PKCS#1. The one "acceptable" vector of each file leaves out a NULL, and is refused.
#[test]
fn signatures_of_rsa_are_judged_as_wycheproof_says() {
    for (file, alg, count) in [
        ("rsa_signature_2048_sha256", "RS256", (9, 250)),
        ("rsa_signature_2048_sha384", "RS384", (7, 251)),
        ("rsa_signature_2048_sha512", "RS512", (8, 251)),
        ("rsa_signature_3072_sha256", "RS256", (8, 251)),
        ("rsa_signature_4096_sha256", "RS256", (7, 251)),
    ] {
        assert_count(file, count, rsa, |_| alg);
    }
}

/// F16: RSA-PSS with the parameters that tokens have.
#[test]
fn signatures_of_rsa_pss_are_judged_as_wycheproof_says() {
    assert_count("rsa_pss_2048_sha256_mgf1_32", (63, 45), rsa, |_| "PS256");
    assert_count("rsa_pss_4096_sha384_mgf1_48", (95, 46), rsa, |_| "PS384");
    assert_count("rsa_pss_4096_sha512_mgf1_64", (132, 47), rsa, |_| "PS512");
}

/// F16: RSA-PSS has other hashes and salts too, which tokens have not: of 150 sound signatures three are such as theirs.
#[test]
fn rsa_pss_with_other_parameters_is_refused() {
    let Some(vectors) = load("wycheproof/rsa_pss_misc_test.json") else { return };
    let mut accepted = Vec::new();
    for group in vectors["testGroups"].as_array().unwrap() {
        let keys = keys(&rsa(group));
        for test in group["tests"].as_array().unwrap() {
            for alg in ["PS256", "PS384", "PS512", "RS256", "RS384", "RS512"] {
                if judge(&keys, alg, test, "sig") == "accepted" {
                    accepted.push((group["sha"].clone(), group["mgfSha"].clone(), group["sLen"].clone(), alg));
                }
            }
        }
    }
    let own = |hash: &str, salt: u8, alg| (json!(hash), json!(hash), json!(salt), alg);
    assert_eq!(accepted, [own("SHA-256", 32, "PS256"), own("SHA-384", 48, "PS384"), own("SHA-512", 64, "PS512")]);
}

/// F16: HMAC. A tag that is cut is no tag, and a key that is shorter than the hash makes no secret.
#[test]
fn tags_of_hmac_are_judged_as_wycheproof_says() {
    for (hash, alg, least) in [("256", "HS256", 32), ("384", "HS384", 48), ("512", "HS512", 64)] {
        let Some(vectors) = load(&format!("wycheproof/hmac_sha{hash}_test.json")) else { return };
        let (mut judged, mut accepted) = (0, 0);
        for group in vectors["testGroups"].as_array().unwrap() {
            let is_whole = group["tagSize"] == least * 8;
            for test in group["tests"].as_array().unwrap() {
                judged += 1;
                let secret = bytes(&test["key"]);
                let key = VerifyingKey::secret(KeyName::Any, &[algorithm(alg)], &secret);
                if secret.len() < least {
                    let expected = format!("the secret has {} bytes; {alg} needs at least {least}", secret.len());
                    assert_eq!(key.unwrap_err(), expected);
                    continue;
                }
                let found = judge(&KeySet::of(vec![key.unwrap()]), alg, test, "tag");
                let expected = if is_whole && test["result"] == "valid" { "accepted" } else { "token_signature" };
                assert_eq!(found, expected, "{alg} {}", test["tcId"]);
                accepted += u32::from(found == "accepted");
            }
        }
        assert_eq!((judged, vectors["numberOfTests"].as_u64()), (174, Some(174)));
        assert_eq!(accepted, 30, "{alg}");
    }
}

/// Judges every vector of a file as it says, with the key and the algorithm of its group.
fn assert_count(file: &str, expected: Count, jwk: impl Fn(&Value) -> Value, alg: impl Fn(&Value) -> &'static str) {
    let Some(vectors) = load(&format!("wycheproof/{file}_test.json")) else { return };
    let (mut accepted, mut refused) = (0, 0);
    for group in vectors["testGroups"].as_array().unwrap() {
        let keys = keys(&jwk(group));
        assert_eq!((keys.len(), keys.skipped()), (1, &[][..]), "{file}");
        for test in group["tests"].as_array().unwrap() {
            let found = judge(&keys, alg(group), test, "sig");
            let right = if test["result"] == "valid" { "accepted" } else { "token_signature" };
            assert_eq!(found, right, "{file} {} {}", test["tcId"], test["comment"]);
            if found == "accepted" { accepted += 1 } else { refused += 1 }
        }
    }
    assert_eq!((accepted, refused), expected, "{file}");
    assert_eq!(vectors["numberOfTests"], accepted + refused);
}

fn refuse_all(file: &str, tests: u32, jwk: impl Fn(&Value) -> Value, alg: &str) {
    let Some(vectors) = load(&format!("wycheproof/{file}_test.json")) else { return };
    let mut refused = 0;
    for group in vectors["testGroups"].as_array().unwrap() {
        let keys = keys(&jwk(group));
        for test in group["tests"].as_array().unwrap() {
            assert_eq!(judge(&keys, alg, test, "sig"), "token_signature", "{file} {}", test["tcId"]);
            refused += 1;
        }
    }
    assert_eq!(refused, tests, "{file}");
}

fn judge(keys: &KeySet, alg: &str, test: &Value, member: &str) -> &'static str {
    outcome(keys.verify(None, alg, &bytes(&test["msg"]), &hex_encoded(&test[member])))
}

fn keys(jwk: &Value) -> KeySet {
    KeySet::parse(&jwks(std::slice::from_ref(jwk)), &PUBLIC).unwrap()
}

fn point(group: &Value, curve: &str) -> Value {
    let point = bytes(&group["publicKey"]["uncompressed"]);
    let (x, y) = point[1..].split_at(point.len() / 2);
    json!({ "kty": "EC", "crv": curve, "x": encoded(x), "y": encoded(y) })
}

fn rsa(group: &Value) -> Value {
    let number = |member: &str| {
        let bytes = bytes(&group["publicKey"][member]);
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        encoded(&bytes[zeros..])
    };
    json!({ "kty": "RSA", "n": number("modulus"), "e": number("publicExponent") })
}

fn hex_encoded(hex: &Value) -> String {
    encoded(&bytes(hex))
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2).unwrap(), 16).unwrap()).collect()
}
