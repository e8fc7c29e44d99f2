//! What is known when a template is filled in.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::contract::placeholder::{AccountFact, CallerFact, KeyFact, Placeholder};
use crate::identity::{Account, ApiKey, Principal, ScopeSet};

/// What an API calls itself.
#[derive(Clone, Debug, Default)]
pub struct ApiFacts {
    pub name: Arc<str>,
    pub realm: Arc<str>,
    pub environment: Arc<str>,
    pub public_url: Arc<str>,
}

/// A token that an answer hands out.
#[derive(Clone, Copy, Debug)]
pub struct TokenFacts<'a> {
    pub text: &'a str,
    pub ttl: Duration,
    pub expires_at: Timestamp,
}

/// A key that an answer shows.
#[derive(Clone, Copy, Debug)]
pub struct KeyFacts<'a> {
    pub key: &'a ApiKey,
    /// Only in the answer that creates it.
    pub secret: Option<&'a str>,
    pub last_used_at: Option<Timestamp>,
}

/// Which part of a list an answer shows.
#[derive(Clone, Copy, Debug)]
pub struct PageFacts {
    /// From 1.
    pub number: u64,
    pub size: u64,
    pub total: u64,
}

/// Who a forwarded request comes from.
#[derive(Clone, Copy, Debug)]
pub struct CallerFacts<'a> {
    pub principal: &'a Principal,
    /// With the roles that the credential stands for.
    pub account: &'a Account,
    pub tenant: Option<&'a str>,
    pub permissions: &'a ScopeSet,
}

/// What an error answer says.
#[derive(Clone, Copy, Debug)]
pub struct ErrorFacts<'a> {
    pub code: &'a str,
    pub message: &'a str,
    /// Words about the client's own input; empty when there are none.
    pub reason: &'a str,
    pub status: u16,
    pub request_id: &'a str,
}

/// Everything that a template may ask for. What is absent is `null`.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub api: &'a ApiFacts,
    pub account: Option<&'a Account>,
    pub access: Option<TokenFacts<'a>>,
    pub refresh: Option<TokenFacts<'a>>,
    pub session: Option<&'a str>,
    pub token_id: Option<&'a str>,
    pub key: Option<KeyFacts<'a>>,
    pub keys: &'a [KeyFacts<'a>],
    pub page: Option<PageFacts>,
    pub caller: Option<CallerFacts<'a>>,
    pub error: Option<ErrorFacts<'a>>,
}

impl<'a> Facts<'a> {
    pub fn of(api: &'a ApiFacts) -> Self {
        Self {
            api,
            account: None,
            access: None,
            refresh: None,
            session: None,
            token_id: None,
            key: None,
            keys: &[],
            page: None,
            caller: None,
            error: None,
        }
    }

    /// The value of a placeholder that is a text and stands here as it is: nearly all that a request is told by. `None` where
    /// it is not known, and for what must be made first: [`Self::value`] knows all.
    pub fn text(&self, placeholder: &Placeholder) -> Option<&'a str> {
        use Placeholder as P;
        match placeholder {
            P::ApiName => Some(&self.api.name),
            P::ApiEnvironment => Some(&self.api.environment),
            P::ApiPublicUrl => Some(&self.api.public_url),
            P::ApiRealm => Some(&self.api.realm),
            P::Account(fact) => account_text(self.account?, *fact),
            P::AccountAttribute(name) => self.account?.attributes.get(name).map(String::as_str),
            P::SessionId => self.session,
            P::TokenId => self.token_id,
            P::Key(fact) => key_text(self.key?.key, *fact),
            P::Caller(fact) => caller_text(self.caller?, *fact),
            P::Access | P::AccessExpiresAt | P::AccessExpiresIn => None,
            P::Refresh | P::RefreshExpiresAt | P::RefreshExpiresIn => None,
            P::PageNumber | P::PageSize | P::PageTotal | P::PageCount => None,
            P::Code | P::Message | P::Reason | P::Status | P::RequestId => None,
            P::KeySecret | P::Details | P::Option(_) => None,
        }
    }

    /// The value of a placeholder, of its own type; `null` when it is not known here.
    pub fn value(&self, placeholder: &Placeholder) -> Value {
        use Placeholder as P;
        if let Some(known) = self.text(placeholder) {
            return text(known);
        }
        match placeholder {
            P::ApiName | P::ApiEnvironment | P::ApiPublicUrl | P::ApiRealm => Value::Null,
            P::AccountAttribute(_) | P::SessionId | P::TokenId => Value::Null,
            P::Account(fact) => self.account.map_or(Value::Null, |account| account_value(account, *fact)),
            P::Access => token(self.access, |token| text(token.text)),
            P::AccessExpiresAt => token(self.access, |token| moment(token.expires_at)),
            P::AccessExpiresIn => token(self.access, |token| json!(token.ttl.as_secs())),
            P::Refresh => token(self.refresh, |token| text(token.text)),
            P::RefreshExpiresAt => token(self.refresh, |token| moment(token.expires_at)),
            P::RefreshExpiresIn => token(self.refresh, |token| json!(token.ttl.as_secs())),
            P::Key(fact) => self.key.map_or(Value::Null, |key| key_value(key, *fact)),
            P::KeySecret => json!(self.key.and_then(|key| key.secret)),
            P::PageNumber => self.page.map_or(Value::Null, |page| json!(page.number)),
            P::PageSize => self.page.map_or(Value::Null, |page| json!(page.size)),
            P::PageTotal => self.page.map_or(Value::Null, |page| json!(page.total)),
            P::PageCount => self.page.map_or(Value::Null, |page| json!(page.total.div_ceil(page.size.max(1)))),
            P::Caller(fact) => self.caller.map_or(Value::Null, |caller| caller_value(caller, *fact)),
            P::Code => self.error.map_or(Value::Null, |error| text(error.code)),
            P::Message => self.error.map_or(Value::Null, |error| text(error.message)),
            P::Reason => self.error.map_or(Value::Null, |error| text(error.reason)),
            P::Status => self.error.map_or(Value::Null, |error| json!(error.status)),
            P::RequestId => self.error.map_or(Value::Null, |error| text(error.request_id)),
            // No reason has structured details yet; options were replaced when the contract was compiled.
            P::Details | P::Option(_) => Value::Null,
        }
    }
}

fn account_text(account: &Account, fact: AccountFact) -> Option<&str> {
    use AccountFact as F;
    match fact {
        F::Id => Some(account.id.as_str()),
        F::Username => Some(&account.username),
        F::Email => account.email.as_deref(),
        F::DisplayName => account.display_name.as_deref(),
        F::Status => Some(account.status.as_str()),
        F::Role => account.roles.first().map(|role| &**role),
        F::Roles | F::Tenants | F::TenantIds | F::CreatedAt => None,
    }
}

fn account_value(account: &Account, fact: AccountFact) -> Value {
    use AccountFact as F;
    match fact {
        F::Id | F::Username | F::Email | F::DisplayName | F::Status | F::Role => Value::Null,
        F::Roles => account.roles.iter().map(|role| text(role)).collect(),
        F::Tenants if account.tenants.is_empty() => Value::Null,
        F::Tenants => account.tenants.iter().map(|m| json!({ "id": *m.tenant, "role": *m.role })).collect(),
        F::TenantIds => account.tenants.iter().map(|m| text(&m.tenant)).collect(),
        F::CreatedAt => moment(account.created_at),
    }
}

fn key_text(key: &ApiKey, fact: KeyFact) -> Option<&str> {
    use KeyFact as F;
    match fact {
        F::Id => Some(key.id.as_str()),
        F::Name => Some(&key.name),
        F::Owner => Some(key.owner.as_str()),
        F::Scopes | F::Tenants | F::AllowedIps | F::CreatedAt | F::ExpiresAt | F::LastUsedAt | F::Revoked => None,
    }
}

fn key_value(facts: KeyFacts<'_>, fact: KeyFact) -> Value {
    use KeyFact as F;
    let key = facts.key;
    match fact {
        F::Id | F::Name | F::Owner => Value::Null,
        F::Scopes => scopes(&key.scopes),
        F::Tenants => key.tenants.iter().map(|tenant| text(tenant)).collect(),
        F::AllowedIps => key.allowed_ips.texts().map(Value::String).collect(),
        F::CreatedAt => moment(key.created_at),
        F::ExpiresAt => key.expires_at.map_or(Value::Null, moment),
        F::LastUsedAt => facts.last_used_at.map_or(Value::Null, moment),
        F::Revoked => json!(key.revoked_at.is_some()),
    }
}

fn caller_text(caller: CallerFacts<'_>, fact: CallerFact) -> Option<&str> {
    use CallerFact as F;
    match fact {
        F::Method => Some(caller.principal.kind.as_str()),
        F::TenantId => caller.tenant,
        F::TenantRole => caller.account.roles_in(caller.tenant?).next().map(|role| &**role),
        F::Permissions => None,
        F::CredentialId => Some(&caller.principal.credential_id),
        F::Issuer => caller.principal.foreign.as_ref().map(|foreign| &*foreign.issuer),
    }
}

fn caller_value(caller: CallerFacts<'_>, fact: CallerFact) -> Value {
    use CallerFact as F;
    match fact {
        F::Method | F::TenantId | F::TenantRole | F::CredentialId | F::Issuer => Value::Null,
        F::Permissions => scopes(caller.permissions),
    }
}

fn token(token: Option<TokenFacts<'_>>, value: impl FnOnce(TokenFacts<'_>) -> Value) -> Value {
    token.map_or(Value::Null, value)
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

fn moment(at: Timestamp) -> Value {
    Value::String(at.rfc3339())
}

fn scopes(set: &ScopeSet) -> Value {
    set.iter().map(|scope| text(scope.as_str())).collect()
}
