//! The keys that one issuer's tokens may be signed with, found by `kid`. Each issuer has a set of its own: one `kid` at two
//! issuers is two keys. Where the keys come from and how long they are used is decided elsewhere.

use std::collections::{HashMap, HashSet};
use std::fmt;

use aws_lc_rs::digest;

use crate::config::JwsAlgorithm;
use crate::identity::Secret;
use crate::rejection::Denial;
use crate::token::VerifyingKey;
use crate::token::key::secret_of_text;
use crate::token::verifying::{KeyName, shortened};

/// Verification keys of one issuer. Two sets are equal when they accept the same tokens, in whatever order they were
/// written; what was skipped does not count.
#[derive(Clone)]
pub struct KeySet {
    keys: Vec<VerifyingKey>,
    skipped: Vec<String>,
    content: [u8; 32],
}

impl KeySet {
    /// These keys. Different keys of one name are left out, all of them: none can be told to be the right one.
    pub fn of(keys: Vec<VerifyingKey>) -> Self {
        Self::with(keys, Vec::new())
    }

    pub(super) fn with(keys: Vec<VerifyingKey>, mut skipped: Vec<String>) -> Self {
        let mut seen = HashSet::new();
        let mut keys: Vec<_> = keys.into_iter().filter(|key| seen.insert(*key.content())).collect();
        let mut names: HashMap<String, usize> = HashMap::new();
        for key in &keys {
            *names.entry(key.kid().to_owned()).or_default() += 1;
        }
        keys.retain(|key| {
            let is_alone = !matches!(key.name, KeyName::Kid(_)) || names.get(key.kid()) == Some(&1);
            if !is_alone {
                skipped.push(format!("key {:?}: another key has the same kid", shortened(key.kid())));
            }
            is_alone
        });
        let content = content(&keys);
        Self { keys, skipped, content }
    }

    /// The one secret that both sides know, good for every `kid`: the text as it stands, without one line end at its end.
    ///
    /// # Errors
    /// When an algorithm takes no secret or a longer one: 32 bytes for HS256, 48 for HS384, 64 for HS512 (RFC 7518,
    /// section 3.2). Repeats nothing of the secret.
    pub fn secret(secret: &Secret, algorithms: &[JwsAlgorithm]) -> Result<Self, String> {
        Ok(Self::of(vec![VerifyingKey::secret(KeyName::Any, algorithms, secret_of_text(secret))?]))
    }

    /// Whether a key answers to this `kid`. Where none does, newer keys of the issuer may.
    pub fn knows(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.name.answers_to(Some(kid)))
    }

    /// Whether a key could have signed a token with such a header.
    pub fn answers(&self, kid: Option<&str>, alg: &str) -> bool {
        self.keys.iter().any(|key| key.name.answers_to(kid) && key.serves(alg))
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no token can be verified.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Why keys were left out, one line for each. Holds no key; texts of the set stand there escaped and cut.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Each key's `kid` (empty where it has none) and what it verifies.
    pub fn describe(&self) -> Vec<(String, Vec<JwsAlgorithm>)> {
        self.keys.iter().map(|key| (key.kid().to_owned(), key.algorithms().collect())).collect()
    }

    /// Whether the key that the header names made `signature` (base64url) over `message`. A token without `kid` is taken
    /// where one key alone could have signed it.
    pub(super) fn verify(&self, kid: Option<&str>, alg: &str, message: &[u8], signature: &str) -> Result<(), Denial> {
        let unknown = || Denial::TokenKeyUnknown { kid: shortened(kid.unwrap_or_default()) };
        let named = || self.keys.iter().filter(|key| key.name.answers_to(kid));
        let mut fitting = named().filter(|key| key.serves(alg));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => key.verify(alg, message, signature),
            (None, _) if named().next().is_some() => Err(Denial::TokenAlgorithm { found: shortened(alg) }),
            (None | Some(_), _) => Err(unknown()),
        }
    }
}

impl From<Vec<VerifyingKey>> for KeySet {
    fn from(keys: Vec<VerifyingKey>) -> Self {
        Self::of(keys)
    }
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

impl Eq for KeySet {}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.keys).finish()
    }
}

fn content(keys: &[VerifyingKey]) -> [u8; 32] {
    let mut contents: Vec<_> = keys.iter().map(VerifyingKey::content).collect();
    contents.sort();
    let mut out = [0; 32];
    out.copy_from_slice(
        digest::digest(&digest::SHA256, contents.into_iter().flatten().copied().collect::<Vec<u8>>().as_slice()).as_ref(),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::fixture::{PUBLIC, Pair, SECRET, encoded, jwks};

    fn secret_set(text: &str, algorithms: &[JwsAlgorithm]) -> Result<KeySet, String> {
        KeySet::secret(&Secret::new(text), algorithms)
    }

    fn signature(text: &str) -> String {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, text.as_bytes());
        encoded(aws_lc_rs::hmac::sign(&key, b"message").as_ref())
    }

    fn judged(keys: &KeySet, kid: Option<&str>, alg: &str, signature: &str) -> &'static str {
        keys.verify(kid, alg, b"message", signature).map_or_else(|denial| denial.code(), |()| "accepted")
    }

    /// F1: a token chooses among the key's algorithms only.
    #[test]
    fn a_secret_is_good_for_every_kid_and_for_its_algorithms_only() {
        let text = "0123456789abcdef0123456789abcdef";
        let keys = secret_set(&format!("{text}\r\n"), &[JwsAlgorithm::Hs256]).unwrap();
        assert_eq!(keys.describe(), [(String::new(), vec![JwsAlgorithm::Hs256])]);
        for kid in [None, Some(""), Some("theirs")] {
            assert_eq!(judged(&keys, kid, "HS256", &signature(text)), "accepted", "{kid:?}");
            assert_eq!(judged(&keys, kid, "HS384", &signature(text)), "token_algorithm", "{kid:?}");
        }
        assert!(keys.knows("theirs"));
        assert_eq!(judged(&keys, None, "HS256", &signature("0123456789abcdef0123456789abcdeX")), "token_signature");
        assert_eq!(keys, secret_set(text, &[JwsAlgorithm::Hs256]).unwrap());
        assert_ne!(keys, secret_set(&format!("{text} "), &[JwsAlgorithm::Hs256]).unwrap());
    }

    /// F1: no public key becomes a secret and no secret a public key.
    #[test]
    fn a_secret_that_is_too_short_or_for_other_algorithms_is_refused() {
        for (algorithm, least) in SECRET.into_iter().zip([32, 48, 64]) {
            let short = secret_set(&"x".repeat(least - 1), &[algorithm]).unwrap_err();
            let expected = format!("the secret has {} bytes; {} needs at least {least}", least - 1, algorithm.as_str());
            assert_eq!(short, expected);
            assert_eq!(secret_set(&"x".repeat(least), &[algorithm]).unwrap().len(), 1);
        }
        for algorithm in PUBLIC {
            let found = secret_set(&"x".repeat(64), &[JwsAlgorithm::Hs256, algorithm]).unwrap_err();
            assert_eq!(found, format!("{} takes a public key and no secret", algorithm.as_str()));
        }
        assert_eq!(secret_set(&"x".repeat(64), &[]).unwrap_err(), "no algorithm that the issuer may use goes with it");
    }

    /// F11: one signature has one spelling.
    #[test]
    fn a_signature_has_one_spelling() {
        let text = "0123456789abcdef0123456789abcdef";
        let keys = secret_set(text, &[JwsAlgorithm::Hs256]).unwrap();
        let good = signature(text);
        // 256 bits leave two bits over in the last of 43 characters: a second spelling of the same signature.
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = good.chars().last().unwrap();
        let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
        let respelled = format!("{}{next}", good.strip_suffix(last).unwrap());
        for other in [format!("{good}="), format!(" {good}"), format!("{good}\n"), respelled] {
            assert_eq!(judged(&keys, None, "HS256", &other), "token_malformed", "{other:?}");
        }
        for other in [String::new(), good.get(..40).unwrap().to_owned(), format!("{good}A")] {
            assert_eq!(judged(&keys, None, "HS256", &other), "token_signature", "{other:?}");
        }
    }

    #[test]
    fn debug_output_shows_names_and_no_key() {
        let keys = secret_set("0123456789abcdef0123456789abcdef", &[JwsAlgorithm::Hs256]).unwrap();
        assert_eq!(format!("{keys:?}"), "[VerifyingKey(HS256 )]");
        let keys = KeySet::parse(&jwks(&[Pair::p256().jwk(Some("k"))]), &PUBLIC).unwrap();
        assert_eq!(format!("{keys:?}"), "[VerifyingKey(ES256 k)]");
    }
}
