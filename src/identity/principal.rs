//! A caller: nobody in particular, or a principal whose credential was verified.

use std::fmt;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::identity::{Account, ApiKey, ScopeSet};

/// The session that a login opened; access and refresh tokens carry it, and ending it ends both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub Arc<str>);

/// What was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CredentialKind {
    /// A JSON Web Token, the gateway's own or an accepted issuer's.
    Jwt,
    ApiKey,
    /// A client's certificate (X.509), verified while the connection began.
    ClientCertificate,
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
    /// Set when another issuer signed the token or the certificate.
    pub foreign: Option<Arc<Foreign>>,
    /// The `jti` of a token, the id of a key, or the serial number of a certificate: names the credential in logs without revealing it.
    pub credential_id: Arc<str>,
    pub expires_at: Option<Timestamp>,
}

/// What another issuer's token or certificate says of its bearer.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// Its `iss`, or what the config calls it.
    pub issuer: Arc<str>,
    /// The issuer and its subject: two issuers may call two people the same. `None` where the subject is an account of the realm.
    pub counted_as: Option<Arc<str>>,
    /// The one tenant that the token is good for, where the issuer's tokens name one.
    pub tenant: Option<Arc<str>>,
    /// What the token may be used for. `None` where its scopes are not read.
    pub scopes: Option<ScopeSet>,
    /// Whether the account's roles must allow it too; otherwise the scopes are all that counts.
    pub roles_bound: bool,
}

impl Principal {
    /// The scopes that the credential itself carries, where it carries any: a key's, or a foreign token's.
    pub fn carried(&self) -> Option<&ScopeSet> {
        match (&self.key, &self.foreign) {
            (Some(key), _) => Some(&key.scopes),
            (None, Some(foreign)) => foreign.scopes.as_ref(),
            (None, None) => None,
        }
    }

    /// Whether the account's roles bound what the credential carries.
    pub fn is_bound_by_roles(&self) -> bool {
        self.foreign.as_ref().is_none_or(|foreign| foreign.roles_bound)
    }

    /// What limits by account count by.
    pub fn counted_as(&self) -> &str {
        let foreign = self.foreign.as_ref().and_then(|foreign| foreign.counted_as.as_deref());
        foreign.unwrap_or(self.account.id.as_str())
    }

    /// Whether the account is one of the realm's, and not known by a token's claims alone.
    pub fn has_record(&self) -> bool {
        self.foreign.as_ref().is_none_or(|foreign| foreign.counted_as.is_none())
    }
}

impl CredentialKind {
    pub const ALL: [Self; 3] = [Self::Jwt, Self::ApiKey, Self::ClientCertificate];
    /// Those that a request carries: a route takes them where it does not say which it takes. A certificate belongs to
    /// the connection, which may be a proxy's, and counts only where a route names it.
    pub const CARRIED: [Self; 2] = [Self::Jwt, Self::ApiKey];

    /// The word that config files, contract files, logs and identity headers use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::ApiKey => "api_key",
            Self::ClientCertificate => "client_certificate",
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
