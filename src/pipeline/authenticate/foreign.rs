//! Tokens that another issuer signs: with its keys, by its profile, and read by its names for things.

use std::sync::Arc;

use serde_json::Value;

use crate::clock::{Now, Timestamp};
use crate::config::AccountSource;
use crate::contract::Api;
use crate::identity::{Account, AccountId, CredentialKind, Foreign, Membership, Principal, Scope, ScopeSet, SessionId, Status};
use crate::pipeline::authenticate::Verified;
use crate::rejection::{Denial, Failure, Rejection};
use crate::token::{Claims, KeySource, Miss, Profile, kid_of};

/// One issuer of one API.
pub struct ForeignIssuer {
    /// Its `iss`, or what the config calls it.
    pub label: Arc<str>,
    pub profile: Profile,
    pub keys: Arc<KeySource>,
    pub claims: ClaimNames,
    pub accounts: AccountSource,
}

/// Which claim says what. `None` is not read.
#[derive(Clone, Debug, Default)]
pub struct ClaimNames {
    pub roles: Option<String>,
    pub scopes: Option<String>,
    pub tenant: Option<String>,
    pub username: Option<String>,
    pub email: Option<String>,
}

impl ForeignIssuer {
    /// The keys that are used now.
    pub fn generation(&self, now: Timestamp) -> Option<u64> {
        self.keys.current(now).ok().map(|keys| keys.generation)
    }

    /// What the token says, and which keys vouch for it.
    ///
    /// # Errors
    /// The denials of a token, and [`Failure::KeysUnavailable`] or [`Failure::KeysPending`] where nobody can say yet.
    pub fn verify(&self, token: &str, now: Now) -> Result<(Claims, u64), Rejection> {
        let issuer = || self.label.to_string();
        let keys = self.keys.current(now.wall);
        let keys = keys.map_err(|none| Failure::KeysUnavailable { issuer: issuer(), detail: none.detail })?;
        match self.profile.verify(&keys.set, token, now.wall) {
            Ok(claims) => Ok((claims, keys.generation)),
            Err(Denial::TokenKeyUnknown { kid }) => {
                // Without a name there is nothing that newer keys could answer to.
                let Some(named) = kid_of(token) else { return Err(Denial::TokenKeyUnknown { kid }.into()) };
                match self.keys.miss(&named, now.tick) {
                    Miss::Pending => Err(Failure::KeysPending { issuer: issuer(), kid }.into()),
                    Miss::Unknown => Err(Denial::TokenKeyUnknown { kid }.into()),
                }
            }
            Err(denial) => Err(denial.into()),
        }
    }

    /// Who the token stands for. `record` finds the realm's active account of a subject, `taken` says whether it has any.
    ///
    /// # Errors
    /// A claim that is read and malformed, or an account that is gone, disabled, or has ended its sessions since; and what
    /// `record` says.
    pub fn principal(
        &self,
        api: &Api,
        verified: &Verified,
        record: impl Fn(&str) -> Result<Arc<Account>, Rejection>,
        taken: impl Fn(&str) -> bool,
    ) -> Result<Arc<Principal>, Rejection> {
        let claims = &verified.claims;
        let known = verified.principal.load_full();
        // All that a claim says was sound when the principal was made; what the directory says may have changed.
        if let Some(known) = known {
            let current = match self.accounts {
                AccountSource::Store => stored(record(&claims.subject)?, claims, &known.credential_id)?,
                AccountSource::Claims => self.untaken(claims, &taken).map(|()| known.account.clone())?,
            };
            if Arc::ptr_eq(&current, &known.account) {
                return Ok(known);
            }
        }
        let credential_id: Arc<str> = match &claims.id {
            Some(id) => id.as_str().into(),
            // Something to find it by in the log; the token itself never stands there.
            None => format!("{}@{}", claims.subject, claims.issued_at.unwrap_or(claims.expires_at).seconds()).into(),
        };
        let tenant = self.tenant(claims)?;
        let account = match self.accounts {
            AccountSource::Store => stored(record(&claims.subject)?, claims, &credential_id)?,
            AccountSource::Claims => {
                self.untaken(claims, &taken)?;
                Arc::new(self.account(api, claims, tenant.as_ref())?)
            }
        };
        let roles_bound = self.accounts == AccountSource::Store || self.claims.roles.is_some() || self.claims.scopes.is_none();
        let counted_as = match self.accounts {
            AccountSource::Store => None,
            AccountSource::Claims => Some(format!("{}\0{}", self.label, claims.subject).into()),
        };
        let foreign = Foreign { issuer: self.label.clone(), counted_as, tenant, scopes: self.scopes(claims)?, roles_bound };
        Ok(verified.remember(Principal {
            account,
            kind: CredentialKind::Jwt,
            key: None,
            session: None,
            foreign: Some(Arc::new(foreign)),
            credential_id,
            expires_at: Some(claims.expires_at),
        }))
    }

    /// The upstream knows accounts by their ids: one that another issuer makes up must be nobody's here.
    fn untaken(&self, claims: &Claims, taken: impl Fn(&str) -> bool) -> Result<(), Denial> {
        match taken(&claims.subject) {
            true => Err(Denial::SubjectTaken { issuer: self.label.clone(), subject: claims.subject.clone() }),
            false => Ok(()),
        }
    }

    /// The account as the claims describe it. Nothing of it is stored.
    fn account(&self, api: &Api, claims: &Claims, tenant: Option<&Arc<str>>) -> Result<Account, Denial> {
        let roles: Vec<Arc<str>> = match &self.claims.roles {
            Some(name) => {
                let known = |role: &&str| api.vocabulary.roles.contains_key(*role);
                words(claims, name)?.into_iter().filter(known).map(Into::into).collect()
            }
            None => Vec::new(),
        };
        let in_tenant = |tenant: &Arc<str>| {
            let membership = |role: &Arc<str>| Membership { tenant: tenant.clone(), role: role.clone() };
            roles.iter().map(membership).collect()
        };
        let username = optional_text(claims, self.claims.username.as_deref())?;
        Ok(Account {
            id: AccountId::new(claims.subject.as_str()),
            realm: api.facts.realm.clone(),
            username: username.unwrap_or_else(|| claims.subject.clone()),
            email: optional_text(claims, self.claims.email.as_deref())?,
            display_name: None,
            status: Status::Active,
            tenants: tenant.map(in_tenant).unwrap_or_default(),
            // A token that is good for one tenant has its roles there and nowhere else.
            roles: if tenant.is_some() { Vec::new() } else { roles },
            attributes: std::collections::BTreeMap::new(),
            created_at: claims.issued_at.unwrap_or_default(),
            sessions_valid_from: Timestamp::default(),
        })
    }

    /// An issuer whose tokens name a tenant names one in each: one without would be good for all.
    fn tenant(&self, claims: &Claims) -> Result<Option<Arc<str>>, Denial> {
        let Some(name) = &self.claims.tenant else { return Ok(None) };
        match optional_text(claims, Some(name))? {
            Some(tenant) => Ok(Some(tenant.into())),
            None => Err(malformed(name)),
        }
    }

    /// Words that are no scopes of ours, such as `openid`, give nothing. A token without the claim may do nothing by scopes.
    fn scopes(&self, claims: &Claims) -> Result<Option<ScopeSet>, Denial> {
        let Some(name) = &self.claims.scopes else { return Ok(None) };
        Ok(Some(words(claims, name)?.into_iter().filter_map(Scope::parse).collect()))
    }
}

/// A record whose sessions were ended after the token was issued takes it no more: the password was changed, or the account
/// was disabled in between.
fn stored(account: Arc<Account>, claims: &Claims, credential: &Arc<str>) -> Result<Arc<Account>, Denial> {
    let were_ended = account.sessions_valid_from > account.created_at;
    match were_ended && claims.issued_at.is_none_or(|issued| issued < account.sessions_valid_from) {
        true => Err(Denial::SessionEnded { session: SessionId::new(credential.clone()) }),
        false => Ok(account),
    }
}

/// A list of texts, or one text of words between blanks (RFC 8693, section 4.2). A claim that is not there has no words.
fn words<'a>(claims: &'a Claims, name: &str) -> Result<Vec<&'a str>, Denial> {
    match claims.find(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(text.split(' ').filter(|word| !word.is_empty()).collect()),
        Some(Value::Array(items)) => items.iter().map(|item| item.as_str().ok_or_else(|| malformed(name))).collect(),
        Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => Err(malformed(name)),
    }
}

fn optional_text(claims: &Claims, name: Option<&str>) -> Result<Option<String>, Denial> {
    let Some(name) = name else { return Ok(None) };
    match claims.find(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && !text.contains(char::is_control) => Ok(Some(text.clone())),
        Some(_) => Err(malformed(name)),
    }
}

fn malformed(name: &str) -> Denial {
    Denial::TokenClaim { claim: name.to_owned().into() }
}
