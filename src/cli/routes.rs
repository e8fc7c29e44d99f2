//! `gateward routes`: who may call what, as the gateway understood the config and its contracts.

use serde_json::{Value, json};

use crate::app::load::Ready;
use crate::cli::arguments::{Output, RoutesOptions};
use crate::cli::load::Invocation;
use crate::cli::outcome::Usage;
use crate::cli::output::{self, Form, Table};
use crate::cli::routes_match::{Matching, matching};
use crate::contract::{Access, Api, Demand, Route, Target};
use crate::identity::{CredentialKind, Scope};

pub fn run(invocation: &Invocation, options: &RoutesOptions) -> anyhow::Result<()> {
    let ready = invocation.load()?;
    match options.request.as_slice() {
        [] => table(&ready, options.output),
        [method, url] => show(&matching(&ready, method, url)?, options.output),
        _ => Err(Usage("name a method and a URL, or neither".to_owned()).into()),
    }
}

fn show(found: &Matching, output: Output) -> anyhow::Result<()> {
    if output.form() == Form::Json {
        return output::json(found);
    }
    let mut lines = vec![match (&found.route, found.allow.as_slice()) {
        (Some(route), _) => format!("{} of API {} takes {}", route, found.api, found.path),
        (None, []) => format!("no route of API {} takes {}: 404", found.api, found.path),
        (None, allow) => format!("API {} takes {} with {} only: 405", found.api, found.path, allow.join(", ")),
    }];
    lines.extend(found.captures.iter().map(|(name, value)| format!("  {name} = {value}")));
    lines.extend(found.near.iter().map(|name| format!("  near: {name}")));
    output::text(&format!("{}\n", lines.join("\n")))
}

fn table(ready: &Ready, output: Output) -> anyhow::Result<()> {
    let routes = || ready.apis.iter().flat_map(|api| api.routes.iter().map(move |route| (api, route)));
    match output.form() {
        Form::Json => output::json(&routes().map(|(api, route)| as_json(api, route)).collect::<Vec<_>>()),
        Form::Text => {
            let mut table = Table::new(&["API", "METHOD", "PATH", "ACCESS", "TENANT", "TARGET", "NAME"]);
            routes().for_each(|(api, route)| table.row(as_row(api, route)));
            output::text(&table.render())
        }
    }
}

fn as_row(api: &Api, route: &Route) -> Vec<String> {
    vec![
        api.facts.name.to_string(),
        if route.methods.is_empty() { "*".to_owned() } else { join(&route.methods, ",") },
        format!("{}{}", route.pattern, route.features.condition_text()),
        route.access.to_string(),
        route.tenant.as_ref().map_or_else(String::new, |tenant| format!("{{{tenant}}}")),
        match &route.target {
            Target::Local(endpoint) => endpoint.operation.as_str().to_owned(),
            Target::Upstream => format!("-> {}", api.upstream),
            Target::Fixed(fixed) => fixed.to_string(),
        },
        route.name.to_string(),
    ]
}

fn as_json(api: &Api, route: &Route) -> Value {
    let (accept, demand, by_kind): (&[CredentialKind], _, &[_]) = match &route.access {
        Access::Public => (&[], &Demand::default(), &[]),
        Access::Known { kinds, demand, by_kind, .. } => (kinds, demand, by_kind),
    };
    let (operation, upstream, answer) = match &route.target {
        Target::Local(endpoint) => (Some(endpoint.operation.as_str()), None, None),
        Target::Upstream => (None, Some(&*api.upstream), None),
        Target::Fixed(fixed) => (None, None, Some(fixed.to_string())),
    };
    json!({
        "api": *api.facts.name,
        "name": *route.name,
        "methods": route.methods.iter().map(http::Method::as_str).collect::<Vec<_>>(),
        "path": route.pattern.as_str(),
        "public": matches!(route.access, Access::Public),
        "accept": accept.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
        "demand": demand_json(demand),
        "by_kind": by_kind.iter().map(|(kind, demand)| (kind.to_string(), demand_json(demand))).collect::<serde_json::Map<_, _>>(),
        "tenant": route.tenant.as_deref(),
        "limits": route.limits.iter().map(|limit| &*limit.name).collect::<Vec<_>>(),
        "operation": operation,
        "upstream": upstream,
        "answer": answer,
        "match": route.features.asked_headers(),
        "cors": route.features.cors.is_some(),
    })
}

fn demand_json(demand: &Demand) -> Value {
    let words = |scopes: &[Scope]| scopes.iter().map(|scope| Value::from(scope.as_str())).collect::<Value>();
    json!({ "scopes": words(&demand.scopes), "any_scope": words(&demand.any_scope), "role": demand.role.as_deref() })
}

fn join(items: &[impl ToString], between: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_says_whom_and_with_what() {
        let scopes = |list: &[&str]| list.iter().map(|text| Scope::parse(text).unwrap()).collect::<Vec<_>>();
        let demand = Demand { scopes: scopes(&["a:read"]), any_scope: scopes(&["b:x", "c:y"]), role: None };
        let by_kind = vec![(CredentialKind::Jwt, Demand { role: Some("editor".into()), ..Demand::default() })];
        let kinds = CredentialKind::CARRIED.to_vec();
        let known = Access::Known { kinds, demand, by_kind, unmapped: false };
        assert_eq!(known.to_string(), "jwt|api_key a:read one of b:x|c:y; jwt: role editor");
        assert_eq!(Access::Public.to_string(), "public");
    }
}
