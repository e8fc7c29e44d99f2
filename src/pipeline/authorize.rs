//! May this caller do this here? The only place that makes a [`Permit`].

use std::sync::Arc;

use crate::contract::{Access, Api, Demand, Route};
use crate::identity::{Account, Caller, Principal, Scope, ScopeSet};
use crate::pipeline::exchange::Exchange;
use crate::rejection::{Denial, Stage};

/// Proof that the request may go on. Only [`decide`] makes one.
#[derive(Debug)]
pub struct Permit {
    principal: Option<Arc<Principal>>,
    shown: Option<Arc<Account>>,
    tenant: Option<String>,
    permissions: ScopeSet,
}

impl Permit {
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }

    /// The account as the upstream may see it.
    pub fn shown(&self) -> Option<&Arc<Account>> {
        self.shown.as_ref()
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
        return Ok(Permit { principal: None, shown: None, tenant: None, permissions: ScopeSet::default() });
    };
    let Caller::Known(principal) = caller else { return Err(Denial::CredentialMissing) };
    if *unmapped && !kinds.contains(&principal.kind) {
        return Err(Denial::KeyOnUnmapped { kind: principal.kind });
    }
    let tenant = tenant(route, captures)?;
    exchange.notes.tenant.clone_from(&tenant);
    check_key_address(&principal, exchange)?;
    check_tenant(api, &principal, tenant.as_deref())?;
    let further = by_kind.iter().filter(|(kind, _)| *kind == principal.kind).map(|(_, demand)| demand);
    for demand in std::iter::once(demand).chain(further) {
        check_demand(api, &principal, tenant.as_deref(), demand)?;
    }
    let permissions = permissions(api, &principal, tenant.as_deref());
    exchange.note(Stage::Authorize, || {
        let place = tenant.as_ref().map_or_else(String::new, |tenant| format!(" in tenant {tenant}"));
        format!("permitted{place}; scopes that hold here: {}", permissions.to_spaced())
    });
    Ok(Permit { shown: Some(api.vocabulary.shown(&principal)), principal: Some(principal), tenant, permissions })
}

/// The tenant that the path names. A route whose tenant cannot be read judges nobody, and lets nobody in.
fn tenant(route: &Route, captures: &[(Arc<str>, String)]) -> Result<Option<String>, Denial> {
    let Some(name) = &route.tenant else { return Ok(None) };
    let found = captures.iter().find(|(known, value)| known == name && !value.is_empty());
    found.map(|(_, value)| Some(value.clone())).ok_or_else(|| Denial::TenantForeign { tenant: String::new() })
}

fn check_key_address(principal: &Principal, exchange: &Exchange) -> Result<(), Denial> {
    let Some(key) = &principal.key else { return Ok(()) };
    match key.allowed_ips.is_empty() || (!exchange.client_is_unclear && key.allowed_ips.contains(exchange.client)) {
        true => Ok(()),
        false => Err(Denial::KeyAddress { key: key.id.clone(), address: exchange.client }),
    }
}

/// A credential that names tenants is good inside them and nowhere else: where the path names none, it would otherwise
/// act for the whole realm.
fn check_tenant(api: &Api, principal: &Principal, tenant: Option<&str>) -> Result<(), Denial> {
    let key = principal.key.as_deref();
    let own = principal.foreign.as_ref().and_then(|foreign| foreign.tenant.as_deref());
    match (tenant, own) {
        (Some(tenant), Some(own))
            if tenant == own && (!principal.has_record() || api.vocabulary.is_member(&principal.account, tenant)) =>
        {
            Ok(())
        }
        (Some(tenant), None)
            if api.vocabulary.is_member(&principal.account, tenant) && key.is_none_or(|key| key.is_for(tenant)) =>
        {
            Ok(())
        }
        (Some(tenant), Some(_) | None) => Err(Denial::TenantForeign { tenant: tenant.to_owned() }),
        (None, None) if key.is_none_or(|key| key.tenants.is_empty()) => Ok(()),
        (None, Some(_) | None) => Err(Denial::TenantBound { credential: principal.credential_id.clone() }),
    }
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
        Some(role) if !api.vocabulary.principal_has_rank(principal, tenant, role) => {
            Err(Denial::RoleMissing { role: role.to_string() })
        }
        Some(_) | None => Ok(()),
    }
}

/// What the upstream is told: the scopes that the credential carries, or those of a session's roles for this tenant.
fn permissions(api: &Api, principal: &Principal, tenant: Option<&str>) -> ScopeSet {
    match principal.carried() {
        Some(scopes) => scopes.iter().filter(|scope| api.vocabulary.principal_may(principal, tenant, scope)).cloned().collect(),
        None => api.vocabulary.roles_of(&principal.account, tenant).flat_map(|(_, rule)| rule.scopes.iter().cloned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::CredentialKind;
    use crate::pipeline::fixture::{account, api, exchange, key, route, session};

    const ROUTES: &str = r#"
        [[api.route]]
        name = "read"
        path = "/t/{tenant}/read"
        accept = ["jwt", "api_key"]
        scopes = ["read"]
        tenant = "{tenant}"
        [[api.route]]
        name = "write"
        path = "/t/{tenant}/write"
        accept = ["jwt", "api_key"]
        any_scope = ["write", "admin"]
        tenant = "{tenant}"
        [[api.route]]
        name = "edit"
        path = "/t/{tenant}/edit"
        accept = ["jwt", "api_key"]
        role = "editor"
        tenant = "{tenant}"
        [[api.route]]
        name = "flat"
        path = "/flat"
        accept = ["jwt", "api_key"]
        scopes = ["read"]
        [[api.route]]
        name = "open"
        path = "/open"
        public = true
    "#;

    /// The scopes that hold, or the code of the refusal.
    fn judged(route_name: &str, tenant: &str, caller: Caller) -> Result<String, &'static str> {
        let api = api(ROUTES);
        let captures = [("tenant".into(), tenant.to_owned())];
        let mut exchange = exchange("192.0.2.1", &[]);
        let permit = decide(&api, route(&api, route_name), &captures, caller, &mut exchange).map_err(|denial| denial.code())?;
        Ok(permit.permissions().to_spaced())
    }

    fn ann() -> Account {
        account(&["viewer"], &[("prod", "viewer"), ("dev", "editor")])
    }

    #[test]
    fn nobody_passes_where_somebody_is_wanted() {
        assert_eq!(judged("read", "prod", Caller::Anonymous), Err("credential_missing"));
        assert_eq!(judged("flat", "", Caller::Anonymous), Err("credential_missing"));
    }

    #[test]
    fn on_a_public_route_nobody_is_known_whoever_asks() {
        let api = api(ROUTES);
        let permit = decide(&api, route(&api, "open"), &[], session(ann()), &mut exchange("192.0.2.1", &[])).unwrap();
        assert!(permit.principal().is_none() && permit.tenant().is_none());
    }

    #[test]
    fn a_role_holds_in_its_own_tenant_and_the_tenant_is_that_of_the_path() {
        for (name, tenant, expected) in [
            ("read", "prod", Ok("read")),
            ("read", "dev", Ok("write")),
            ("write", "dev", Ok("write")),
            ("write", "prod", Err("scope_missing")),
            ("edit", "dev", Ok("write")),
            ("edit", "prod", Err("role_missing")),
            ("read", "staging", Err("tenant_foreign")),
            ("read", "prod ", Err("tenant_foreign")),
            ("read", "PROD", Err("tenant_foreign")),
            ("flat", "", Ok("read")),
        ] {
            assert_eq!(judged(name, tenant, session(ann())), expected.map(str::to_owned), "{name} {tenant}");
        }
    }

    /// Were it merely absent, the route would be judged as one without tenants.
    #[test]
    fn a_tenant_that_the_path_does_not_give_lets_nobody_in() {
        let api = api(ROUTES);
        for captures in [vec![], vec![("tenant".into(), String::new())], vec![("other".into(), "prod".to_owned())]] {
            let admin = session(account(&["admin"], &[]));
            let denial = decide(&api, route(&api, "read"), &captures, admin, &mut exchange("192.0.2.1", &[])).unwrap_err();
            assert_eq!(denial.code(), "tenant_foreign", "{captures:?}");
        }
    }

    #[test]
    fn a_flat_role_holds_in_a_tenant_only_where_it_holds_everywhere() {
        assert_eq!(judged("write", "any", session(account(&["admin"], &[]))), Ok("admin".to_owned()));
        assert_eq!(judged("read", "any", session(account(&["editor"], &[]))), Err("tenant_foreign"));
        assert_eq!(judged("read", "any", session(account(&["root"], &[]))), Err("tenant_foreign"));
    }

    /// H14: at each use, the key's rights and what its owner has now.
    #[test]
    fn a_key_has_what_both_it_and_its_owner_have() {
        for (name, tenant, scopes, tenants, expected) in [
            ("read", "prod", "read", &[] as &[&str], Ok("read")),
            ("read", "prod", "write", &["prod"], Ok("")),
            ("read", "prod", "read", &["dev"], Err("tenant_foreign")),
            ("read", "staging", "read", &["staging"], Err("tenant_foreign")),
            ("write", "dev", "read", &[], Err("scope_missing")),
            ("write", "prod", "write", &[], Err("scope_missing")),
            ("write", "dev", "admin", &[], Ok("")),
            ("read", "prod", "", &[], Err("scope_missing")),
            ("flat", "", "read", &[], Ok("read")),
            ("flat", "", "read", &["prod"], Err("tenant_bound")),
        ] {
            let given = judged(name, tenant, key(ann(), scopes, tenants, &[]));
            assert_eq!(given, expected.map(str::to_owned), "{name} {tenant} {scopes} {tenants:?}");
        }
    }

    #[test]
    fn a_key_stands_for_a_role_only_with_all_that_the_role_gives() {
        for (scopes, expected) in
            [("", Err("role_missing")), ("read", Err("role_missing")), ("write", Ok("write")), ("admin", Ok(""))]
        {
            assert_eq!(judged("edit", "dev", key(ann(), scopes, &[], &[])), expected.map(str::to_owned), "{scopes}");
        }
        assert_eq!(judged("edit", "prod", key(ann(), "admin", &[], &[])), Err("role_missing"));
    }

    #[test]
    fn a_key_is_good_only_where_its_addresses_are_and_never_from_an_unclear_one() {
        let api = api(ROUTES);
        let judged = |client: &str, unclear: bool| {
            let mut exchange = exchange(client, &[]);
            exchange.client_is_unclear = unclear;
            let caller = key(ann(), "read", &[], &["10.0.0.0/8", "2001:db8::/32"]);
            decide(&api, route(&api, "flat"), &[], caller, &mut exchange).map(drop).map_err(|denial| denial.code())
        };
        for inside in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"] {
            assert_eq!(judged(inside, false), Ok(()), "{inside}");
        }
        assert_eq!([judged("11.1.2.3", false), judged("10.1.2.3", true)], [Err("key_address"), Err("key_address")]);
    }

    #[test]
    fn demands_on_one_kind_are_on_that_kind_alone_and_besides_the_others() {
        let api = api(ROUTES);
        let mut route = route(&api, "flat").clone();
        let Access::Known { by_kind, .. } = &mut route.access else { panic!("the route is public") };
        by_kind.push((CredentialKind::ApiKey, Demand { scopes: vec![Scope::parse("admin").unwrap()], ..Demand::default() }));
        let judged = |caller| {
            let decided = decide(&api, &route, &[], caller, &mut exchange("192.0.2.1", &[]));
            decided.map(drop).map_err(|denial| denial.code())
        };
        let admin = || account(&["admin"], &[]);
        assert_eq!(judged(session(ann())), Ok(()));
        assert_eq!(judged(key(admin(), "read", &[], &[])), Err("scope_missing"));
        assert_eq!(judged(key(admin(), "admin", &[], &[])), Ok(()));
        assert_eq!(judged(key(ann(), "admin", &[], &[])), Err("scope_missing"));
        assert_eq!(judged(session(account(&[], &[]))), Err("scope_missing"));
    }

    #[test]
    fn a_kind_that_the_rest_of_an_api_does_not_take_is_not_permitted() {
        let api = api(ROUTES);
        let mut route = route(&api, "flat").clone();
        route.access =
            Access::Known { kinds: vec![CredentialKind::Jwt], demand: Demand::default(), by_kind: Vec::new(), unmapped: true };
        let judged = |caller| {
            let decided = decide(&api, &route, &[], caller, &mut exchange("192.0.2.1", &[]));
            decided.map(drop).map_err(|denial| denial.code())
        };
        assert_eq!(judged(session(account(&[], &[]))), Ok(()));
        assert_eq!(judged(key(account(&["admin"], &[]), "admin", &[], &[])), Err("key_on_unmapped"));
    }
}
