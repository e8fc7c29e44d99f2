//! What the words of an API's permissions mean: which scopes exist, what implies what, what a role may do.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::identity::{Account, Membership, Principal, Scope, ScopeSet};

/// The permission rules of one API, from its contract.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// Scopes that a key may be given; another is refused when the key is made.
    pub known: ScopeSet,
    /// What a key gets when none are asked for.
    pub default: ScopeSet,
    /// Holding the first also gives the others.
    pub implies: BTreeMap<Scope, Vec<Scope>>,
    /// Scopes that give everything.
    pub everything: ScopeSet,
    pub roles: BTreeMap<Arc<str>, RoleRule>,
}

#[derive(Clone, Debug, Default)]
pub struct RoleRule {
    pub scopes: ScopeSet,
    /// Position in the hierarchy: a route that asks for a minimum role takes this rank and higher.
    pub rank: u32,
    /// Whether the role, held outside any tenant, also holds inside every tenant.
    pub everywhere: bool,
}

impl Vocabulary {
    /// Whether `held`, with what it implies, is enough for `wanted`.
    pub fn grants(&self, held: &ScopeSet, wanted: &Scope) -> bool {
        self.gives_everything(held)
            || held.covers(wanted)
            || held.iter().filter_map(|scope| self.implies.get(scope)).flatten().any(|implied| implied.covers(wanted))
    }

    pub fn gives_everything(&self, held: &ScopeSet) -> bool {
        held.iter().any(|scope| self.everything.contains(scope))
    }

    /// The roles that an account has for a request: inside a tenant its role there and those of its flat roles that
    /// hold everywhere; outside any tenant its flat roles. Roles that the contract does not know count for nothing.
    pub fn roles_of<'a>(
        &'a self,
        account: &'a Account,
        tenant: Option<&str>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a RoleRule)> {
        let in_tenant = tenant.into_iter().flat_map(|tenant| account.roles_in(tenant));
        let inside = tenant.is_some();
        let flat = account.roles.iter().filter_map(|role| self.roles.get_key_value(role));
        let in_tenant: Vec<_> = in_tenant.filter_map(|role| self.roles.get_key_value(role)).collect();
        in_tenant.into_iter().chain(flat.filter(move |(_, rule)| !inside || rule.everywhere))
    }

    /// Whether the account belongs to the tenant at all.
    pub fn is_member(&self, account: &Account, tenant: &str) -> bool {
        account.roles_in(tenant).next().is_some() || self.roles_of(account, Some(tenant)).next().is_some()
    }

    /// Whether the account's roles give `wanted` here.
    pub fn account_may(&self, account: &Account, tenant: Option<&str>, wanted: &Scope) -> bool {
        self.roles_of(account, tenant).any(|(_, rule)| self.grants(&rule.scopes, wanted))
    }

    /// Whether the account's roles give `wanted` somewhere: in one of its tenants, or outside them. What a key may be
    /// given; each use of the key is judged again for its tenant.
    pub fn account_may_anywhere(&self, account: &Account, wanted: &Scope) -> bool {
        self.account_may(account, None, wanted)
            || account.tenants.iter().any(|membership| self.account_may(account, Some(&membership.tenant), wanted))
    }

    /// Whether this principal may use `wanted` here: the account must have it now, and a credential that carries scopes
    /// must carry it too. A key thus never exceeds its owner, whatever the owner lost since. Only a foreign token whose
    /// issuer says nothing of roles is judged by its scopes alone.
    pub fn principal_may(&self, principal: &Principal, tenant: Option<&str>, wanted: &Scope) -> bool {
        let by_roles = !principal.is_bound_by_roles() || self.account_may(&principal.account, tenant, wanted);
        by_roles && principal.carried().is_none_or(|scopes| self.grants(scopes, wanted))
    }

    /// Whether this principal stands here as `minimum` or more. What carries scopes does only where it carries all that the
    /// role gives:
    /// one that may read does not become an editor because its owner is one.
    pub fn principal_has_rank(&self, principal: &Principal, tenant: Option<&str>, minimum: &str) -> bool {
        self.has_rank(&principal.account, tenant, minimum)
            && self.roles.get(minimum).is_some_and(|role| principal.carried().is_none_or(|scopes| self.carry(scopes, role)))
    }

    /// The account as an upstream may see it: with the roles that this credential stands for, in the tenants that it is
    /// good for. An upstream that judges by role must not take a key that may read for the admin who owns it.
    pub fn shown(&self, principal: &Principal) -> Arc<Account> {
        let bound = principal.foreign.as_ref().and_then(|foreign| foreign.tenant.as_deref());
        if principal.carried().is_none() && bound.is_none() {
            return principal.account.clone();
        }
        let carries = |role: &Arc<str>| {
            principal.carried().is_none_or(|scopes| self.roles.get(role).is_some_and(|rule| self.carry(scopes, rule)))
        };
        let covered = |tenant: &str| {
            principal.key.as_ref().is_none_or(|key| key.is_for(tenant)) && bound.is_none_or(|bound| bound == tenant)
        };
        let holds = |membership: &Membership| covered(&membership.tenant) && carries(&membership.role);
        if principal.account.roles.iter().all(carries) && principal.account.tenants.iter().all(holds) {
            return principal.account.clone();
        }
        let mut account = Account::clone(&principal.account);
        account.roles.retain(carries);
        account.tenants.retain(holds);
        Arc::new(account)
    }

    fn carry(&self, scopes: &ScopeSet, role: &RoleRule) -> bool {
        role.scopes.iter().all(|scope| self.grants(scopes, scope))
    }

    /// Whether the account has a role here that ranks at least as high as `minimum`. An unknown minimum is never met.
    pub fn has_rank(&self, account: &Account, tenant: Option<&str>, minimum: &str) -> bool {
        self.roles.get(minimum).is_some_and(|wanted| self.roles_of(account, tenant).any(|(_, rule)| rule.rank >= wanted.rank))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{AccountId, Membership, Status};

    fn scopes(list: &[&str]) -> ScopeSet {
        list.iter().map(|text| Scope::parse(text).unwrap()).collect()
    }

    fn scope(text: &str) -> Scope {
        Scope::parse(text).unwrap()
    }

    fn vocabulary() -> Vocabulary {
        let rule = |list: &[&str], rank, everywhere| RoleRule { scopes: scopes(list), rank, everywhere };
        Vocabulary {
            known: scopes(&["nodes:read", "jobs:write", "admin:*"]),
            implies: BTreeMap::from([(scope("jobs:write"), vec![scope("jobs:create")])]),
            everything: scopes(&["admin:*"]),
            roles: BTreeMap::from([
                ("viewer".into(), rule(&["*:read"], 1, false)),
                ("editor".into(), rule(&["*:read", "jobs:write"], 2, false)),
                ("admin".into(), rule(&["admin:*"], 3, true)),
            ]),
            ..Vocabulary::default()
        }
    }

    fn account(roles: &[&str], tenants: &[(&str, &str)]) -> Account {
        Account {
            id: AccountId::new("user-1"),
            realm: "main".into(),
            username: "ann".into(),
            email: None,
            display_name: None,
            status: Status::Active,
            roles: roles.iter().map(|&role| role.into()).collect(),
            tenants: tenants.iter().map(|&(tenant, role)| Membership { tenant: tenant.into(), role: role.into() }).collect(),
            attributes: Default::default(),
            created_at: Default::default(),
            sessions_valid_from: Default::default(),
        }
    }

    #[test]
    fn implied_scopes_and_everything_are_granted() {
        let v = vocabulary();
        assert!(v.grants(&scopes(&["jobs:write"]), &scope("jobs:create")));
        assert!(!v.grants(&scopes(&["jobs:create"]), &scope("jobs:write")));
        assert!(v.grants(&scopes(&["admin:*"]), &scope("nodes:read")));
    }

    #[test]
    fn a_role_holds_in_its_tenant_only() {
        let (v, ann) = (vocabulary(), account(&[], &[("prod", "viewer"), ("dev", "editor")]));
        assert!(v.account_may(&ann, Some("dev"), &scope("jobs:write")));
        assert!(!v.account_may(&ann, Some("prod"), &scope("jobs:write")));
        assert!(!v.account_may(&ann, None, &scope("jobs:write")));
        assert!(!v.is_member(&ann, "staging"));
        assert!(v.account_may_anywhere(&ann, &scope("jobs:write")));
    }

    #[test]
    fn a_flat_role_holds_inside_tenants_only_where_the_contract_says_everywhere() {
        let v = vocabulary();
        assert!(v.is_member(&account(&["admin"], &[]), "prod"));
        assert!(!v.is_member(&account(&["viewer"], &[]), "prod"));
        assert!(v.account_may(&account(&["viewer"], &[]), None, &scope("nodes:read")));
    }

    #[test]
    fn a_minimum_role_is_met_by_rank_and_an_unknown_one_never() {
        let (v, ann) = (vocabulary(), account(&[], &[("dev", "editor")]));
        assert!(v.has_rank(&ann, Some("dev"), "viewer"));
        assert!(!v.has_rank(&ann, Some("dev"), "admin"));
        assert!(!v.has_rank(&account(&["admin"], &[]), None, "root"));
    }
}
