//! What is known when a template is filled in.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::contract::placeholder::Placeholder;
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

    /// The value of a placeholder, of its own type; `null` when it is not known here.
    pub fn value(&self, placeholder: &Placeholder) -> Value {
        use Placeholder as P;
        match placeholder {
            P::ApiName => text(&self.api.name),
            P::ApiEnvironment => text(&self.api.environment),
            P::ApiPublicUrl => text(&self.api.public_url),
            P::ApiRealm => text(&self.api.realm),
            P::AccountId
            | P::AccountUsername
            | P::AccountEmail
            | P::AccountDisplayName
            | P::AccountStatus
            | P::AccountRole
            | P::AccountRoles
            | P::AccountTenants
            | P::AccountTenantIds
            | P::AccountCreatedAt
            | P::AccountAttribute(_) => self.account.map_or(Value::Null, |account| account_value(account, placeholder)),
            P::Access => token(self.access, |token| text(token.text)),
            P::AccessExpiresAt => token(self.access, |token| moment(token.expires_at)),
            P::AccessExpiresIn => token(self.access, |token| json!(token.ttl.as_secs())),
            P::Refresh => token(self.refresh, |token| text(token.text)),
            P::RefreshExpiresAt => token(self.refresh, |token| moment(token.expires_at)),
            P::RefreshExpiresIn => token(self.refresh, |token| json!(token.ttl.as_secs())),
            P::SessionId => self.session.map_or(Value::Null, text),
            P::TokenId => self.token_id.map_or(Value::Null, text),
            P::KeyId
            | P::KeyName
            | P::KeySecret
            | P::KeyOwner
            | P::KeyScopes
            | P::KeyTenants
            | P::KeyAllowedIps
            | P::KeyCreatedAt
            | P::KeyExpiresAt
            | P::KeyLastUsedAt
            | P::KeyRevoked => self.key.map_or(Value::Null, |key| key_value(key, placeholder)),
            P::PageNumber => self.page.map_or(Value::Null, |page| json!(page.number)),
            P::PageSize => self.page.map_or(Value::Null, |page| json!(page.size)),
            P::PageTotal => self.page.map_or(Value::Null, |page| json!(page.total)),
            P::PageCount => self.page.map_or(Value::Null, |page| json!(page.total.div_ceil(page.size.max(1)))),
            P::Method | P::TenantId | P::TenantRole | P::Permissions | P::CredentialId => {
                self.caller.map_or(Value::Null, |caller| caller_value(caller, placeholder))
            }
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

fn account_value(account: &Account, placeholder: &Placeholder) -> Value {
    use Placeholder as P;
    match placeholder {
        P::AccountId => text(account.id.as_str()),
        P::AccountUsername => text(&account.username),
        P::AccountEmail => json!(account.email),
        P::AccountDisplayName => json!(account.display_name),
        P::AccountStatus => text(account.status.as_str()),
        P::AccountRole => account.roles.first().map_or(Value::Null, |role| text(role)),
        P::AccountRoles => account.roles.iter().map(|role| text(role)).collect(),
        P::AccountTenants if account.tenants.is_empty() => Value::Null,
        P::AccountTenants => account.tenants.iter().map(|m| json!({ "id": *m.tenant, "role": *m.role })).collect(),
        P::AccountTenantIds => account.tenants.iter().map(|m| text(&m.tenant)).collect(),
        P::AccountCreatedAt => moment(account.created_at),
        P::AccountAttribute(name) => json!(account.attributes.get(name)),
        #[expect(clippy::wildcard_enum_match_arm, reason = "the caller passes placeholders of the account only")]
        _ => Value::Null,
    }
}

fn key_value(facts: KeyFacts<'_>, placeholder: &Placeholder) -> Value {
    use Placeholder as P;
    let key = facts.key;
    match placeholder {
        P::KeyId => text(key.id.as_str()),
        P::KeyName => text(&key.name),
        P::KeySecret => json!(facts.secret),
        P::KeyOwner => text(key.owner.as_str()),
        P::KeyScopes => scopes(&key.scopes),
        P::KeyTenants => key.tenants.iter().map(|tenant| text(tenant)).collect(),
        P::KeyAllowedIps => key.allowed_ips.iter().map(|network| text(&shown(network))).collect(),
        P::KeyCreatedAt => moment(key.created_at),
        P::KeyExpiresAt => key.expires_at.map_or(Value::Null, moment),
        P::KeyLastUsedAt => facts.last_used_at.map_or(Value::Null, moment),
        P::KeyRevoked => json!(key.revoked_at.is_some()),
        #[expect(clippy::wildcard_enum_match_arm, reason = "the caller passes placeholders of the key only")]
        _ => Value::Null,
    }
}

fn caller_value(caller: CallerFacts<'_>, placeholder: &Placeholder) -> Value {
    use Placeholder as P;
    let role = || caller.tenant.and_then(|tenant| caller.principal.account.role_in(tenant));
    match placeholder {
        P::Method => text(caller.principal.kind.as_str()),
        P::TenantId => caller.tenant.map_or(Value::Null, text),
        P::TenantRole => role().map_or(Value::Null, |role| text(role)),
        P::Permissions => scopes(caller.permissions),
        P::CredentialId => text(&caller.principal.credential_id),
        #[expect(clippy::wildcard_enum_match_arm, reason = "the caller passes placeholders of the caller only")]
        _ => Value::Null,
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

/// A single address is shown as the client wrote it, without the prefix length of its network.
fn shown(network: &ipnet::IpNet) -> String {
    match network.prefix_len() == network.max_prefix_len() {
        true => network.addr().to_string(),
        false => network.to_string(),
    }
}
