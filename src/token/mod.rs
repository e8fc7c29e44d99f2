//! CREDENTIALS THAT SAY WHAT THEY ARE. JSON Web Tokens that we sign and take back, those of other issuers, and the format of
//! opaque keys. Everything here is a function of its arguments: the time is `now`, keys of others come as bytes, and
//! whether a session, a key or an account still exists is asked elsewhere.

mod claims;
#[cfg(test)]
mod fixture;
mod header;
mod json;
mod jwk;
mod key;
mod key_set;
mod key_source;
mod opaque;
mod profile;
#[cfg(test)]
mod vectors;
mod verified;
mod verifying;

pub use claims::Claims;
pub use header::{MAX_TOKEN_BYTES, issuer_of, kid_of, signer_of};
pub use key::SigningKey;
pub use key_set::KeySet;
pub use key_source::{Fetching, KeyPlace, KeySource, Miss};
pub use opaque::{KeyFormat, KeyName};
pub use profile::{Origin, Profile, Verifier};
pub use verified::{Held, VerifiedCache};
pub use verifying::VerifyingKey;
