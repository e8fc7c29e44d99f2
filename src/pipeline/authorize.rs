//! May this caller do this here? The only place that makes a [`Permit`].

use std::sync::Arc;

use crate::contract::{Access, Api, Demand, Route};
use crate::identity::{Caller, Principal, Scope, ScopeSet};
use crate::pipeline::exchange::Exchange;
use crate::rejection::{Denial, Stage};

/// Proof that the request may go on. Only [`decide`] makes one.
#[derive(Debug)]
pub struct Permit {
    principal: Option<Arc<Principal>>,
    tenant: Option<String>,
    permissions: ScopeSet,
}

impl Permit {
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }

    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The scopes that hold for this request.
    pub fn permissions(&self) -> &ScopeSet {
        &self.permissions
    }
}

/// Judges the caller by the route's demands, for the tenant that the path names.
///
/// # Errors
/// The denials of stage `authorize`, and [`Denial::CredentialMissing`].
pub fn decide(
    api: &Api,
    route: &Route,
    captures: &[(Arc<str>, String)],
    caller: Caller,
    exchange: &mut Exchange,
) -> Result<Permit, Denial> {
    let Access::Known { kinds, demand, by_kind, unmapped } = &route.access else {
        exchange.note(Stage::Authorize, || "the route is public".to_owned());
        return Ok(Permit { principal: None, tenant: None, permissions: ScopeSet::default() });
    };
    let Caller::Known(principal) = caller else { return Err(Denial::CredentialMissing) };
    if *unmapped && !kinds.contains(&principal.kind) {
        return Err(Denial::KeyOnUnmapped { kind: principal.kind });
    }
    let tenant = route.tenant.as_ref().and_then(|name| captures.iter().find(|(n, _)| n == name)).map(|(_, value)| value.clone());
    exchange.notes.tenant.clone_from(&tenant);
    check_key_address(&principal, exchange)?;
    if let Some(tenant) = &tenant {
        check_tenant(api, &principal, tenant)?;
    }
    let further = by_kind.iter().filter(|(kind, _)| *kind == principal.kind).map(|(_, demand)| demand);
    for demand in std::iter::once(demand).chain(further) {
        check_demand(api, &principal, tenant.as_deref(), demand)?;
    }
    let permissions = permissions(api, &principal, tenant.as_deref());
    exchange.note(Stage::Authorize, || {
        let place = tenant.as_ref().map_or_else(String::new, |tenant| format!(" in tenant {tenant}"));
        format!("permitted{place}; scopes that hold here: {}", permissions.to_spaced())
    });
    Ok(Permit { principal: Some(principal), tenant, permissions })
}

fn check_key_address(principal: &Principal, exchange: &Exchange) -> Result<(), Denial> {
    let Some(key) = &principal.key else { return Ok(()) };
    match key.allowed_ips.is_empty() || (!exchange.client_is_unclear && key.allowed_ips.contains(exchange.client)) {
        true => Ok(()),
        false => Err(Denial::KeyAddress { key: key.id.clone(), address: exchange.client }),
    }
}

fn check_tenant(api: &Api, principal: &Principal, tenant: &str) -> Result<(), Denial> {
    let member = api.vocabulary.is_member(&principal.account, tenant);
    // A key that names no tenant is good for all tenants of its owner.
    let key_covers =
        principal.key.as_ref().is_none_or(|key| key.tenants.is_empty() || key.tenants.iter().any(|t| &**t == tenant));
    if member && key_covers { Ok(()) } else { Err(Denial::TenantForeign { tenant: tenant.to_owned() }) }
}

fn check_demand(api: &Api, principal: &Principal, tenant: Option<&str>, demand: &Demand) -> Result<(), Denial> {
    let may = |scope: &Scope| api.vocabulary.principal_may(principal, tenant, scope);
    if let Some(missing) = demand.scopes.iter().find(|scope| !may(scope)) {
        return Err(Denial::ScopeMissing { scope: missing.to_string() });
    }
    if !demand.any_scope.is_empty() && !demand.any_scope.iter().any(may) {
        let wanted: Vec<&str> = demand.any_scope.iter().map(Scope::as_str).collect();
        return Err(Denial::ScopeMissing { scope: format!("any of {}", wanted.join(", ")) });
    }
    match &demand.role {
        Some(role) if !api.vocabulary.has_rank(&principal.account, tenant, role) => {
            Err(Denial::RoleMissing { role: role.to_string() })
        }
        Some(_) | None => Ok(()),
    }
}

/// What the upstream is told: a key's own scopes, or those of a session's roles for this tenant.
fn permissions(api: &Api, principal: &Principal, tenant: Option<&str>) -> ScopeSet {
    match &principal.key {
        Some(key) => key.scopes.iter().filter(|scope| api.vocabulary.principal_may(principal, tenant, scope)).cloned().collect(),
        None => api.vocabulary.roles_of(&principal.account, tenant).flat_map(|(_, rule)| rule.scopes.iter().cloned()).collect(),
    }
}
