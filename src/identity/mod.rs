//! WHO. The people and programs that the gateway knows, and what they may do. Pure data and pure functions: nothing here
//! reads a request, a clock or a store, and nothing here imports another module of ours except the clock's types.

mod account;
mod key;
mod principal;
mod scope;
mod secret;
mod vocabulary;

pub use account::{Account, AccountId, Membership, Status, canonical_login};
pub use key::{ApiKey, KeyId, Networks};
pub use principal::{Caller, CredentialKind, Foreign, Principal, SessionId};
pub use scope::{Scope, ScopeSet};
pub use secret::{Digest, Secret};
pub use vocabulary::{RoleRule, Vocabulary};
