//! What no single section of a contract can see for itself: what would open more than it says, never take effect, or
//! only break while requests are served. Reports; changes nothing.

use http::StatusCode;

use crate::config;
use crate::config::KeyPart;
use crate::config::report::{Located, Place, Report};
use crate::config::value::PathPattern;
use crate::contract::api::{Access, Route, Target};
use crate::contract::file::{ContractFile, KindDemand};
use crate::contract::operation::Operation;
use crate::contract::template::Template;
use crate::identity::{CredentialKind, Scope, ScopeSet, Vocabulary};

/// Claims that every token has; a template that sets one would be overruled or make tokens that nobody takes.
const OWN_CLAIMS: [&str; 10] = ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "sid", "env", "epoch"];

/// A contract file by itself.
pub fn file(file: &ContractFile, report: &mut Report) {
    if file.credentials.order.is_empty() {
        report.error(report.at(file.credentials.place, "order"), "`order` is empty: no credential would ever be found");
    }
    if let Template::Object(members) = &file.token.access.claims {
        for member in members.iter().filter(|member| OWN_CLAIMS.contains(&member.name.as_str())) {
            let place = report.at(file.token.access.place, "claims");
            report.error(place, format!("the gateway itself writes the claim `{}`", member.name));
        }
    }
    endpoints(file, report);
    kinds_that_are_taken(file, report);
}

fn endpoints(file: &ContractFile, report: &mut Report) {
    for spec in &file.endpoints {
        let demands_nothing = spec.scopes.is_empty() && spec.any_scope.is_empty() && spec.role.is_none();
        let reaches_all = matches!(Operation::parse(&spec.operation.value), Some(Operation::KeysList | Operation::KeysRevoke));
        if reaches_all && demands_nothing {
            let why = format!("`{}` reaches the keys of every account", spec.operation.value);
            report.error_with_help(spec.operation.place, why, "say who may: `scopes`, `any_scope` or `role`");
        }
        if spec.answer.json.is_some() && spec.answer.status.0 == StatusCode::NO_CONTENT {
            report.error(spec.answer.place, "an answer of status 204 has no body");
        }
    }
}

/// What `by_kind` demands of a kind that is refused anyway reads as if it were let in.
fn kinds_that_are_taken(file: &ContractFile, report: &mut Report) {
    let mut judge = |accept: &[CredentialKind], by_kind: &[(Located<String>, KindDemand)]| {
        for (name, _) in by_kind {
            if let Some(kind) = CredentialKind::parse(&name.value).filter(|kind| !accept.is_empty() && !accept.contains(kind)) {
                report.error(name.place, format!("`accept` does not take the kind `{kind}`"));
            }
        }
    };
    for spec in &file.route {
        judge(&spec.accept, &spec.by_kind.0);
        spec.rules.iter().for_each(|rule| judge(&rule.accept, &rule.by_kind.0));
    }
}

/// Scopes that nobody can hold close a route for good: a slip of the pen, and found out only by whoever is refused.
pub fn scopes(file: &ContractFile, api: &config::Api, vocabulary: &Vocabulary, report: &mut Report) {
    let implied: ScopeSet = vocabulary.implies.values().flatten().cloned().collect();
    let roles = || vocabulary.roles.values().map(|rule| &rule.scopes);
    let can_be_held = |scope: &Scope| {
        vocabulary.known.covers(scope)
            || implied.covers(scope)
            || vocabulary.everything.contains(scope)
            || roles().any(|held| held.covers(scope))
    };
    let mut judge = |place: Place, lists: [&[Scope]; 2]| {
        for scope in lists.into_iter().flatten().filter(|scope| !can_be_held(scope)) {
            let known = vocabulary.known.iter().chain(implied.iter()).map(Scope::as_str);
            report.unknown(place, "scope", scope.as_str(), known);
        }
    };
    for spec in &file.endpoints {
        judge(spec.place, [&spec.scopes, &spec.any_scope]);
    }
    for spec in &file.route {
        judge(spec.place, [&spec.scopes, &spec.any_scope]);
        spec.by_kind.0.iter().for_each(|(_, demand)| judge(demand.place, [&demand.scopes, &demand.any_scope]));
        for rule in &spec.rules {
            judge(rule.place, [&rule.scopes, &rule.any_scope]);
            rule.by_kind.0.iter().for_each(|(_, demand)| judge(demand.place, [&demand.scopes, &demand.any_scope]));
        }
    }
    for route in &api.routes {
        judge(route.place, [&route.scopes, &route.any_scope]);
    }
}

/// A prefix may be closed by a route, never opened as a whole.
pub fn opens_no_prefix(route: &Route, prefixes: &[Located<PathPattern>], place: Place, report: &mut Report) {
    if !matches!(route.access, Access::Public) || !route.methods.is_empty() {
        return;
    }
    let shape = route.pattern.shape();
    if route.pattern.is_everything() || prefixes.iter().any(|prefix| shape == format!("{}/**", prefix.value.shape())) {
        let why = format!("`{}` lets everybody do everything", route.pattern);
        report.error_with_help(place, why, "name the paths or the methods that are public");
    }
}

/// A limit that counts by what a request of this route never has is no limit.
pub fn limits_are_spent(route: &Route, place: Place, report: &mut Report) {
    let takes_keys = matches!(&route.access, Access::Known { kinds, .. } if kinds.contains(&CredentialKind::ApiKey));
    let knows_account = match (&route.access, &route.target) {
        (Access::Known { .. }, _) => true,
        // Its body says which account.
        (Access::Public, Target::Local(endpoint)) => endpoint.operation == Operation::Login,
        (Access::Public, Target::Upstream | Target::Fixed(_)) => false,
    };
    let is_missing = |part: &KeyPart| match part {
        KeyPart::Account => !knows_account,
        KeyPart::Key => !takes_keys,
        KeyPart::Tenant => route.tenant.is_none(),
        KeyPart::ClientIp | KeyPart::Route | KeyPart::Header(_) => false,
    };
    for limit in &route.limits {
        if limit.per.iter().any(is_missing) && (limit.else_per.is_empty() || limit.else_per.iter().any(is_missing)) {
            let why = format!("the limit `{}` counts by what `{}` never knows: it would not be spent", limit.name, route.pattern);
            report.error_with_help(place, why, "give it `else_per`, or the route another limit");
        }
    }
}
