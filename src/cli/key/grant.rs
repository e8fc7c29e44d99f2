//! What a key may be given: which API it is for, and of scopes and tenants at most its owner's.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::bail;

use crate::cli::opened::{Opened, unknown};
use crate::cli::outcome::Usage;
use crate::contract::Api;
use crate::identity::{Account, Scope, ScopeSet};

/// The one API of the realm that is meant.
///
/// # Errors
/// [`Usage`] where one of several must be named; another error for a name that is none.
pub fn target<'a>(opened: &'a Opened, realm: &'a str, name: Option<&str>, environment: Option<&str>) -> anyhow::Result<&'a Api> {
    let of_realm: Vec<&Api> = opened.ready.apis_of(realm).collect();
    let names: BTreeSet<&str> = of_realm.iter().map(|api| &*api.facts.name).collect();
    let environments: BTreeSet<&str> = of_realm.iter().map(|api| &*api.facts.environment).collect();
    check("API", name, &names)?;
    check("environment", environment, &environments)?;
    let fits = |named: Option<&str>, own: &str| named.is_none_or(|named| named == own);
    let meant: Vec<&Api> = of_realm
        .into_iter()
        .filter(|api| fits(name, &api.facts.name))
        .filter(|api| fits(environment, &api.facts.environment))
        .collect();
    match meant.as_slice() {
        [only] => Ok(only),
        [] => bail!("no API of realm {realm} has both this name and this environment"),
        several => {
            let names: Vec<&str> = several.iter().map(|api| &*api.facts.name).collect();
            Err(Usage(format!("say which API the key is for with --api: {}", names.join(", "))).into())
        }
    }
}

/// The scopes that are asked for, each known and the owner's; where none are named, those of the default that the owner has.
pub fn scopes(api: &Api, owner: &Account, asked: Option<&[Scope]>) -> anyhow::Result<ScopeSet> {
    let vocabulary = &api.vocabulary;
    let held = |scope: &&Scope| vocabulary.account_may_anywhere(owner, scope);
    let Some(asked) = asked else { return Ok(vocabulary.default.iter().filter(held).cloned().collect()) };
    if let Some(scope) = asked.iter().find(|scope| !vocabulary.known.contains(scope)) {
        let known: Vec<&str> = vocabulary.known.iter().map(Scope::as_str).collect();
        bail!("{}", unknown("scope", scope.as_str(), &known));
    }
    match asked.iter().find(|scope| !held(scope)) {
        Some(scope) => bail!("the owner, {}, does not have {scope}: a key never exceeds its owner", owner.username),
        None => Ok(asked.iter().cloned().collect()),
    }
}

/// The tenants that are asked for, each one of the owner's; without any, all of the owner's.
pub fn tenants(api: &Api, owner: &Account, asked: &[String]) -> anyhow::Result<Vec<Arc<str>>> {
    if asked.is_empty() {
        return Ok(owner.tenants.iter().map(|membership| membership.tenant.clone()).collect());
    }
    match asked.iter().find(|tenant| !api.vocabulary.is_member(owner, tenant)) {
        Some(tenant) => bail!("the owner, {}, has no part in the tenant {tenant}", owner.username),
        None => Ok(asked.iter().map(|tenant| tenant.as_str().into()).collect()),
    }
}

fn check(what: &str, named: Option<&str>, known: &BTreeSet<&str>) -> anyhow::Result<()> {
    match named {
        Some(name) if !known.contains(name) => {
            bail!("{}", unknown(what, name, &known.iter().copied().collect::<Vec<_>>()))
        }
        Some(_) | None => Ok(()),
    }
}
