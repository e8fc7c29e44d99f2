//! Our own tokens: what the verifier accepts is what was signed, and is read in one way only.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::clock::Timestamp;
use crate::config::SigningAlgorithm;
use crate::identity::Secret;
use crate::token::{Profile, SigningKey, Verifier};

const NOW: u64 = 1_800_000_000;
const KEY: &str = "a key for nothing but these checks";

/// One key with a token that it has signed.
struct Signed {
    verifier: Verifier,
    token: String,
}

static SIGNED: LazyLock<Vec<Signed>> = LazyLock::new(|| {
    use SigningAlgorithm::{EdDsa, Es256, Hs256, Rs256};
    let generated = [Rs256, Es256, EdDsa].map(|algorithm| (algorithm, SigningKey::generate(algorithm)));
    [(Hs256, Secret::new(KEY))].into_iter().chain(generated).filter_map(|(algorithm, secret)| sign(algorithm, &secret)).collect()
});

/// # Panics
/// When the verifier accepts what was not signed, or reads in a token what another reader would not.
pub fn token(input: &[u8]) {
    let now = Timestamp::from_seconds(NOW);
    assert_eq!(SIGNED.len(), 4);
    for signed in SIGNED.iter() {
        assert!(signed.verifier.verify(&signed.token, now).is_ok(), "{}", signed.token);
        for text in [String::from_utf8_lossy(input).into_owned(), edited(&signed.token, input)] {
            let accepted = signed.verifier.verify(&text, now).is_ok();
            assert_eq!(accepted, text == signed.token, "{text} beside {}", signed.token);
        }
    }
    if let Some(signed) = SIGNED.first() {
        what_is_signed_is_read_in_one_way(&signed.verifier, input, now);
    }
}

fn sign(algorithm: SigningAlgorithm, secret: &Secret) -> Option<Signed> {
    let key = SigningKey::load(algorithm, secret).ok()?;
    let header = Map::from_iter([("typ".to_owned(), json!("at+jwt"))]);
    let claims = json!({ "iss": "i", "aud": "a", "sub": "s", "jti": "t", "iat": NOW - 10, "exp": NOW + 10 });
    let token = key.sign(&header, claims.as_object()?).ok()?;
    let profile = Profile { audience: vec!["a".to_owned()], ..Profile::ours("i", "at+jwt") };
    Some(Signed { verifier: Verifier::new(vec![key.verifying_key()], profile), token })
}

/// The token after edits of three bytes each: where, what to do there, and with which byte.
fn edited(token: &str, edits: &[u8]) -> String {
    let mut bytes = token.as_bytes().to_vec();
    for edit in edits.as_chunks::<3>().0 {
        let [at, action, byte] = *edit;
        // A token is longer than 256 bytes: the other half of the positions counts from the end.
        let at = if action & 4 == 0 { usize::from(at) } else { bytes.len().saturating_sub(usize::from(at)) };
        if at > bytes.len() {
            continue;
        }
        match action & 3 {
            0 => bytes.insert(at, byte),
            1 => bytes.truncate(at),
            _ => drop(bytes.splice(at..bytes.len().min(at + usize::from(action & 1)), [byte])),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The first line is a header and the rest claims, both signed by our key whatever they are.
fn what_is_signed_is_read_in_one_way(verifier: &Verifier, input: &[u8], now: Timestamp) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (header, rest) = input.split_at(end);
    let claims = rest.get(1..).unwrap_or_default();
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes()), message.as_bytes());
    let Ok(found) = verifier.verify(&format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag)), now) else { return };
    let header: Map<String, Value> = serde_json::from_slice(header).unwrap_or_default();
    assert!(header.keys().all(|name| ["alg", "typ", "kid"].contains(&name.as_str())), "{header:?}");
    assert_eq!(header.get("alg"), Some(&json!("HS256")));
    let all: Map<String, Value> = serde_json::from_slice(claims).unwrap_or_default();
    assert_eq!(found.all, all, "another reader sees other claims");
    let text = |name: &str| all.get(name).and_then(Value::as_str);
    assert_eq!((text("iss"), text("sub"), text("jti")), (Some("i"), Some(&*found.subject), found.id.as_deref()));
    assert_eq!(text("sid"), found.session.as_deref());
    assert!(!found.subject.is_empty() && !found.subject.contains(char::is_control), "{:?}", found.subject);
    assert!(found.expires_at > now, "{:?}", found.expires_at);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edits_that_change_nothing_are_the_token_itself() {
        let signed = &SIGNED[0];
        assert_eq!(edited(&signed.token, &[]), signed.token);
        let last = *signed.token.as_bytes().last().unwrap();
        assert_eq!(edited(&signed.token, &[1, 4 | 3, last]), signed.token);
        assert_ne!(edited(&signed.token, &[1, 4 | 3, b'!']), signed.token);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn only_what_was_signed_passes(edits in prop::collection::vec(any::<[u8; 3]>(), 0..3)) {
            token(&edits.concat());
            prop_assert!(edits.len() < 3);
        }

        #[test]
        fn claims_are_read_in_one_way(more in r#"(,"(sub|exp|x|s\\u0075b|nbf)":(1|"s"|1\.5|null|\[\]|\{"a":1,"a":2\}|99999999999)){0,3}"#) {
            let claims = r#"{"iss":"i","aud":"a","sub":"s","jti":"t","iat":1799999990,"exp":1800000010"#;
            token(format!("{{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}}\n{claims}{more}}}").as_bytes());
            prop_assert!(more.len() < 200);
        }
    }
}
