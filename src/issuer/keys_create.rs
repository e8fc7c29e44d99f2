//! Makes an API key. A key never exceeds whoever makes it: neither in scopes and tenants, nor, when a key makes it, in
//! addresses and time.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::contract::{Endpoint, Input, Inputs};
use crate::identity::{ApiKey, Digest, KeyId, Networks, Principal, Scope, ScopeSet, Vocabulary};
use crate::issuer::{Call, Issuer, Outcome};
use crate::observe::AuditAction;
use crate::rejection::{Denial, Rejection};
use crate::store::{Change, KeyRow};

impl Issuer {
    pub(super) async fn keys_create(&self, endpoint: &Endpoint, inputs: &Inputs, call: &Call) -> Result<Outcome, Rejection> {
        let (caller, facts) = (call.caller()?, &self.api.facts);
        let named = |input: Input, reason: &str| Denial::FieldInvalid {
            field: endpoint.fields.name_of(input).unwrap_or_default().to_owned(),
            reason: reason.to_owned(),
        };
        let scopes = self.scopes(caller, inputs, &named)?;
        let tenants = tenants(&self.api.vocabulary, caller, inputs.list(Input::KeyTenants).unwrap_or_default())?;
        let allowed_ips = allowed_ips(caller, inputs, &named)?;
        let expires_at = expires_at(caller, inputs, &named)?;
        let minted = self.keys.mint();
        let key = ApiKey {
            id: KeyId::new(self.api.ids.api_key.with(&minted.id_part)),
            realm: facts.realm.clone(),
            owner: caller.account.id.clone(),
            name: inputs.text(Input::KeyName).unwrap_or_default().to_owned(),
            scopes,
            tenants,
            allowed_ips,
            environment: facts.environment.clone(),
            digest: Digest::of(minted.secret.expose()),
            created_at: call.now.wall,
            expires_at,
            revoked_at: None,
        };
        let event = self.event(AuditAction::KeyCreate, caller.account.id.to_string(), key.id.to_string(), call);
        self.store(Change::AddKey(key.clone()), event).await?;
        Ok(Outcome {
            account: Some(caller.account.clone()),
            key: Some(KeyRow { key, last_used_at: None }),
            key_secret: Some(minted.secret),
            ..Outcome::default()
        })
    }

    /// The scopes that are asked for, each known and held by the caller; without any, those of the default that it holds.
    fn scopes(&self, caller: &Principal, inputs: &Inputs, named: &impl Fn(Input, &str) -> Denial) -> Result<ScopeSet, Denial> {
        let vocabulary = &self.api.vocabulary;
        let held = |scope: &Scope| {
            vocabulary.account_may_anywhere(&caller.account, scope)
                && caller.carried().is_none_or(|carried| vocabulary.grants(carried, scope))
        };
        let Some(asked) = inputs.list(Input::KeyScopes) else {
            return Ok(vocabulary.default.iter().filter(|scope| held(scope)).cloned().collect());
        };
        let mut scopes = ScopeSet::default();
        for text in asked {
            let scope = Scope::parse(text).filter(|scope| vocabulary.known.contains(scope));
            let scope = scope.ok_or_else(|| named(Input::KeyScopes, "holds an unknown permission"))?;
            if !held(&scope) {
                return Err(Denial::ScopeNotGrantable { scope: scope.to_string() });
            }
            scopes.insert(scope);
        }
        Ok(scopes)
    }
}

/// The tenants that are asked for, each one of the caller's; without any, all of the caller's. An empty list asks for
/// none in particular: a key without tenants is good for all of its owner's, which a key that has some may not give away.
fn tenants(vocabulary: &Vocabulary, caller: &Principal, asked: &[String]) -> Result<Vec<Arc<str>>, Denial> {
    let bound = caller.foreign.as_ref().and_then(|foreign| foreign.tenant.as_ref()).map(std::slice::from_ref);
    let of_key = bound.or(caller.key.as_ref().map(|key| key.tenants.as_slice()).filter(|tenants| !tenants.is_empty()));
    if asked.is_empty() {
        let of_account = || caller.account.tenants.iter().map(|membership| membership.tenant.clone()).collect();
        return Ok(of_key.map_or_else(of_account, <[Arc<str>]>::to_vec));
    }
    let may = |tenant: &str| {
        vocabulary.is_member(&caller.account, tenant) && of_key.is_none_or(|own| own.iter().any(|t| &**t == tenant))
    };
    match asked.iter().find(|tenant| !may(tenant)) {
        Some(tenant) => Err(Denial::TenantNotGrantable { tenant: tenant.clone() }),
        None => Ok(asked.iter().map(|tenant| tenant.as_str().into()).collect()),
    }
}

fn allowed_ips(caller: &Principal, inputs: &Inputs, named: &impl Fn(Input, &str) -> Denial) -> Result<Networks, Denial> {
    let asked = inputs.networks(Input::KeyAllowedIps).cloned().unwrap_or_default();
    let Some(own) = caller.key.as_ref().map(|key| &key.allowed_ips).filter(|own| !own.is_empty()) else { return Ok(asked) };
    if asked.is_empty() {
        return Ok(own.clone());
    }
    if asked.lie_within(own) {
        return Ok(asked);
    }
    Err(named(Input::KeyAllowedIps, "must lie within the networks of the key that asks"))
}

fn expires_at(caller: &Principal, inputs: &Inputs, named: &impl Fn(Input, &str) -> Denial) -> Result<Option<Timestamp>, Denial> {
    let asked = inputs.moment(Input::KeyExpiresAt);
    match (asked, caller.key.as_ref().and_then(|key| key.expires_at)) {
        (Some(asked), Some(own)) if asked > own => {
            Err(named(Input::KeyExpiresAt, "must not be later than that of the key that asks"))
        }
        (Some(asked), _) => Ok(Some(asked)),
        (None, own) => Ok(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Account, AccountId, CredentialKind, Membership, RoleRule, Status};

    fn caller(key_tenants: Option<&[&str]>) -> Principal {
        let member = |tenant: &str| Membership { tenant: tenant.into(), role: "viewer".into() };
        let account = Account {
            id: AccountId::new("u1"),
            realm: "r".into(),
            username: "ann".to_owned(),
            email: None,
            display_name: None,
            status: Status::Active,
            roles: Vec::new(),
            tenants: vec![member("prod"), member("dev")],
            attributes: Default::default(),
            created_at: Timestamp::default(),
            sessions_valid_from: Timestamp::default(),
        };
        let key = key_tenants.map(|tenants| ApiKey {
            id: KeyId::new("key-1"),
            realm: "r".into(),
            owner: account.id.clone(),
            name: "k".to_owned(),
            scopes: ScopeSet::default(),
            tenants: tenants.iter().map(|tenant| (*tenant).into()).collect(),
            allowed_ips: Networks::default(),
            environment: "live".into(),
            digest: Digest::of("x"),
            created_at: Timestamp::default(),
            expires_at: None,
            revoked_at: None,
        });
        Principal {
            account: Arc::new(account),
            kind: if key.is_some() { CredentialKind::ApiKey } else { CredentialKind::Jwt },
            key: key.map(Arc::new),
            session: None,
            foreign: None,
            credential_id: "c".into(),
            expires_at: None,
        }
    }

    fn given(key_tenants: Option<&[&str]>, asked: &[&str]) -> Result<Vec<String>, &'static str> {
        let vocabulary =
            Vocabulary { roles: [("viewer".into(), RoleRule::default())].into_iter().collect(), ..Vocabulary::default() };
        let asked: Vec<String> = asked.iter().map(|tenant| (*tenant).to_owned()).collect();
        let given = tenants(&vocabulary, &caller(key_tenants), &asked).map_err(|denial| denial.code())?;
        Ok(given.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_key_of_one_tenant_makes_keys_of_that_tenant_only() {
        for (asked, expected) in [
            (&[] as &[&str], Ok(vec!["prod".to_owned()])),
            (&["prod"], Ok(vec!["prod".to_owned()])),
            (&["dev"], Err("tenant_not_grantable")),
            (&["prod", "dev"], Err("tenant_not_grantable")),
        ] {
            assert_eq!(given(Some(&["prod"]), asked), expected, "{asked:?}");
        }
    }

    #[test]
    fn an_account_gives_its_own_tenants_and_no_others() {
        assert_eq!(given(None, &[]), Ok(vec!["prod".to_owned(), "dev".to_owned()]));
        assert_eq!(given(None, &["dev"]), Ok(vec!["dev".to_owned()]));
        assert_eq!(given(None, &["staging"]), Err("tenant_not_grantable"));
        assert_eq!(given(Some(&[]), &["staging"]), Err("tenant_not_grantable"));
    }
}
