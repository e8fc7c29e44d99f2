//! THE CREDENTIALS THAT WE MAKE. JSON Web Tokens that we sign and take back, and the format of opaque keys. Everything
//! here is a function of its arguments: the time is `now`, and whether a session, a key or an account still exists is
//! asked elsewhere. Tokens of other issuers are not read here.

mod json;
mod jwk;
mod jwt;
mod key;
mod key_source;
mod opaque;
#[cfg(test)]
mod vectors;

pub use jwk::KeySet;
pub use jwt::{MAX_TOKEN_BYTES, Profile, Verifier};
pub use key::{SigningKey, VerifyingKey};
pub use key_source::{Fetching, KeyLine, KeyPlace, KeySource, KeyStatus, Keys, Miss, NoKeys};
pub use opaque::KeyFormat;
