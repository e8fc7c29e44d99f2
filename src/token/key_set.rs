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
    pub(super) fn verify(&self, kid: Option<&str>, alg: &str, message: &str, signature: &str) -> Result<(), Denial> {
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
