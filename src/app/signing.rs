//! What an API signs and verifies with: its signing key from a file or the store, and the checks that go with it. The
//! server and `gateward token inspect` both start here, so that they judge alike.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::SigningAlgorithm;
use crate::contract::Api;
use crate::identity::Secret;
use crate::rejection::Failure;
use crate::store::Store;
use crate::token::{KeyFormat, Profile, SigningKey, Verifier};

/// Why an API has no signing key. Repeats nothing of a secret.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    #[error("API {api}: the signing key file {}: {what}", path.display())]
    File { api: Arc<str>, path: PathBuf, what: String },
    #[error("API {api}: its contract signs with {algorithm}, which takes `{right}`, not `{wrong}`")]
    OtherKey { api: Arc<str>, algorithm: &'static str, right: &'static str, wrong: &'static str },
    #[error("API {api}: the signing key in the store cannot be used: {what}")]
    Stored { api: Arc<str>, what: String },
    #[error("API {api}: {failure}")]
    Store { api: Arc<str>, failure: Failure },
}

/// The key that an API signs its tokens with: of the file that the config names, else the one in the store, which is
/// made when it is first asked for.
///
/// # Errors
/// Says which file or which API, and what would be right.
pub async fn signing_key(api: &Api, store: &Store) -> Result<SigningKey, SigningError> {
    let (name, algorithm) = (&api.facts.name, api.tokens.algorithm);
    if let Some(path) = key_file(api)? {
        let refused = |what: String| SigningError::File { api: name.clone(), path: path.to_owned(), what };
        let secret = read(path).map_err(|error| refused(error.to_string()))?;
        return SigningKey::load(algorithm, &secret).map_err(refused);
    }
    let kept = store.signing_key(name, algorithm.as_str(), move || SigningKey::generate(algorithm)).await;
    let kept = kept.map_err(|failure| SigningError::Store { api: name.clone(), failure })?;
    SigningKey::load(algorithm, &kept).map_err(|what| SigningError::Stored { api: name.clone(), what })
}

/// What takes an API's own tokens back. They are signed by its key, for itself.
pub fn verifier(api: &Api, key: &SigningKey) -> Verifier {
    let profile = Profile::ours(api.facts.public_url.as_ref(), &api.tokens.media_type);
    Verifier::new(vec![key.verifying_key()], profile)
}

/// How an API's keys look.
pub fn key_format(api: &Api) -> KeyFormat {
    let tokens = &api.tokens;
    KeyFormat {
        prefix: tokens.key_prefix.whole.clone(),
        also: tokens.also_key_prefixes.clone(),
        family: tokens.key_prefix.family().to_owned(),
        foreign: tokens.foreign_key_prefixes.clone(),
    }
}

/// The file of the config. Which of the two an algorithm takes is known only now, where the contract chose it.
fn key_file(api: &Api) -> Result<Option<&Path>, SigningError> {
    let (secret_file, key_file) = (api.tokens.secret_file.as_deref(), api.tokens.key_file.as_deref());
    let (right, wrong) = match api.tokens.algorithm {
        SigningAlgorithm::Hs256 => (("secret_file", secret_file), ("key_file", key_file)),
        SigningAlgorithm::Rs256 | SigningAlgorithm::Es256 | SigningAlgorithm::EdDsa => {
            (("key_file", key_file), ("secret_file", secret_file))
        }
    };
    match wrong.1 {
        Some(_) => Err(SigningError::OtherKey {
            api: api.facts.name.clone(),
            algorithm: api.tokens.algorithm.as_str(),
            right: right.0,
            wrong: wrong.0,
        }),
        None => Ok(right.1),
    }
}

/// A secret of a file, whole. Not longer than any key.
pub fn read(path: &Path) -> io::Result<Secret> {
    // With room for all of it: a text that grows leaves copies of the secret behind.
    let mut text = String::with_capacity(MAX_KEY_BYTES + 1);
    File::open(path)?.take(MAX_KEY_BYTES as u64 + 1).read_to_string(&mut text)?;
    let secret = Secret::new(text);
    match secret.expose().len() > MAX_KEY_BYTES {
        true => Err(io::Error::other("it is larger than any key")),
        false => Ok(secret),
    }
}

/// An RSA key of 8192 bits in PEM has about 6.5 KB.
const MAX_KEY_BYTES: usize = 32 << 10;
