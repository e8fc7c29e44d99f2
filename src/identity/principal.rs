//! A caller: nobody in particular, or a principal whose credential was verified.

use std::fmt;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::identity::{Account, ApiKey};

/// The session that a login opened; access and refresh tokens carry it, and ending it ends both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub Arc<str>);

/// What was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CredentialKind {
    /// A JSON Web Token, the gateway's own or an accepted issuer's.
    Jwt,
    ApiKey,
}

/// Who a request comes from.
#[derive(Clone, Debug)]
pub enum Caller {
    Anonymous,
    Known(Arc<Principal>),
}

/// Who a verified credential stands for. Says nothing about what this request may do: that is `authorize`'s.
#[derive(Clone, Debug)]
pub struct Principal {
    pub account: Arc<Account>,
    pub kind: CredentialKind,
    /// Set when `kind` is `ApiKey`.
    pub key: Option<Arc<ApiKey>>,
    /// Set when the credential belongs to a login session.
    pub session: Option<SessionId>,
    /// The `jti` of a token, or the id of a key: names the credential in logs without revealing it.
    pub credential_id: Arc<str>,
    pub expires_at: Option<Timestamp>,
}

impl CredentialKind {
    pub const ALL: [Self; 2] = [Self::Jwt, Self::ApiKey];

    /// The word that config files, contract files, logs and identity headers use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::ApiKey => "api_key",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl SessionId {
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
