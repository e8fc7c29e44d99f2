//! Host, path and method to one route of one API. An API is chosen by listener and host, never by path alone.

mod tree;

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::config::value::{HostPattern, PathPattern};
use crate::contract::{Access, Api};
use crate::pipeline::exchange::Exchange;
use crate::pipeline::path::NormalPath;
use crate::rejection::{Denial, Stage};

pub use tree::Lookup;
use tree::Tree;

const CAPITALS: &str = "only its capitals tell it from a path that has a route of its own";

/// All APIs of a gateway by listener and host.
#[derive(Debug, Default)]
pub struct Routing {
    listeners: HashMap<Arc<str>, Hosts>,
    apis: Vec<Tree>,
    /// For each API what its routes are called in small letters, and which of them are the rest that no one listed.
    folded: Vec<Folded>,
}

/// The routes of an API as a server reads them that tells no capitals apart.
#[derive(Debug, Default)]
struct Folded {
    tree: Tree,
    /// By route: whether it lets through what the contract does not list.
    is_open_rest: Vec<bool>,
}

#[derive(Clone, Debug, Default)]
struct Hosts {
    exact: HashMap<String, usize>,
    /// `.example.com` and the API; the longest suffix wins.
    below: Vec<(String, usize)>,
    any: Option<usize>,
}

/// Where a request goes: indexes into the list of APIs and the routes of that API.
#[derive(Debug)]
pub struct Found {
    pub api: usize,
    pub route: usize,
    pub captures: Captures,
}

/// What the captures of a pattern stand for, percent-decoded.
pub type Captures = Vec<(Arc<str>, String)>;

impl Routing {
    /// `apis` in the order of their indexes, each with the name of its listener.
    pub fn new<'a>(apis: impl IntoIterator<Item = (Arc<str>, &'a Api)>) -> Self {
        let mut routing = Self::default();
        for (index, (listener, api)) in apis.into_iter().enumerate() {
            let hosts = routing.listeners.entry(listener).or_default();
            api.hosts.iter().for_each(|pattern| hosts.insert(pattern, index));
            let mut tree = Tree::default();
            for (number, route) in api.routes.iter().enumerate() {
                tree.insert(&route.pattern, &route.methods, &route.features.conditions, number);
            }
            routing.apis.push(tree);
            routing.folded.push(Folded::new(api));
        }
        routing
    }

    /// What comes by `listener` is for the APIs of `other`.
    pub fn share(&mut self, listener: Arc<str>, other: &str) {
        let hosts = self.listeners.get(other).cloned().unwrap_or_default();
        self.listeners.insert(listener, hosts);
    }

    /// Finds the API and its route for a method, the request's own or the one that it announces; notes host and path on the
    /// way, so that a refusal can name them.
    ///
    /// # Errors
    /// The denials of stage `route`, and those about the Host header.
    pub fn find(&self, method: &Method, exchange: &mut Exchange) -> Result<Found, Denial> {
        let host = exchange.read_host()?;
        let api = self.listeners.get(&exchange.listener).and_then(|hosts| hosts.find(&host));
        let host = exchange.notes.host.insert(host);
        if exchange.tls.as_ref().is_some_and(|tls| !tls.is_for(host)) {
            return Err(Denial::HostMisdirected { host: host.clone() });
        }
        let api = api.ok_or_else(|| Denial::HostUnknown { host: host.clone() })?;
        exchange.notes.api = Some(api);
        self.find_route(api, method, exchange).map(|(route, captures)| Found { api, route, captures })
    }

    /// The API that a host belongs to, for rejections that come before the path is known.
    pub fn api_of(&self, listener: &str, host: &str) -> Option<usize> {
        self.listeners.get(listener)?.find(host)
    }

    /// Where a path of one API leads.
    pub fn look_up(&self, api: usize, method: &Method, path: &NormalPath, headers: &HeaderMap) -> Lookup {
        self.apis.get(api).map_or(Lookup::Nothing, |tree| tree.find(method, path, headers))
    }

    /// The same for a path that a rewrite has made: also where only its capitals tell it from one with a route of its own.
    ///
    /// # Errors
    /// [`Denial::PathAmbiguous`].
    pub fn look_up_twice(&self, api: usize, method: &Method, path: &NormalPath, headers: &HeaderMap) -> Result<Lookup, Denial> {
        let lookup = self.look_up(api, method, path, headers);
        let small = path.in_small_letters()?;
        let folded = self.folded.get(api).map_or(Lookup::Nothing, |folded| folded.tree.find(method, &small, headers));
        match (&lookup, folded) {
            (Lookup::Found { route, .. }, Lookup::Found { route: other, .. }) if *route == other => Ok(lookup),
            (Lookup::Nothing | Lookup::WrongMethod(_), Lookup::Nothing | Lookup::WrongMethod(_))
            | (Lookup::Unmet, Lookup::Unmet) => Ok(lookup),
            (..) => Err(Denial::PathAmbiguous { what: CAPITALS }),
        }
    }

    fn find_route(&self, api: usize, method: &Method, exchange: &mut Exchange) -> Result<(usize, Captures), Denial> {
        if exchange.method == Method::CONNECT {
            return Err(Denial::ConnectRefused);
        }
        if exchange.method == Method::TRACE {
            return Err(Denial::TraceRefused);
        }
        let path = NormalPath::parse(exchange.uri.path())?;
        let lookup = self.look_up(api, method, &path, &exchange.headers);
        exchange.notes.path = Some(path);
        match lookup {
            Lookup::Found { route, .. } if self.dodges_a_route(api, route, method, exchange) => {
                Err(Denial::PathAmbiguous { what: CAPITALS })
            }
            Lookup::Found { route, captures } => Ok((route, captures)),
            Lookup::Unmet | Lookup::Nothing => Err(Denial::NoRoute),
            Lookup::WrongMethod(allowed) => {
                let allow: Vec<&str> = allowed.iter().map(Method::as_str).collect();
                Err(Denial::MethodNotAllowed { allow: allow.join(", ").into() })
            }
        }
    }

    /// Whether a path comes through as one of those that nobody listed, and would be a listed one to an upstream that
    /// tells no capitals apart: `/API/admin` must not pass where `/api/admin` would be asked for more.
    fn dodges_a_route(&self, api: usize, route: usize, method: &Method, exchange: &Exchange) -> bool {
        let Some(folded) = self.folded.get(api).filter(|folded| folded.is_open_rest.get(route) == Some(&true)) else {
            return false;
        };
        let Some(path) = &exchange.notes.path else { return false };
        let Ok(small) = path.in_small_letters() else { return false };
        match folded.tree.find(method, &small, &exchange.headers) {
            Lookup::Found { route: other, .. } => other != route,
            Lookup::Unmet => true,
            Lookup::WrongMethod(_) | Lookup::Nothing => false,
        }
    }

    /// The line of an explanation about the chosen route.
    pub fn describe(found: &Found, api: &Api, exchange: &mut Exchange) {
        exchange.note(Stage::Route, || {
            let route = api.routes.get(found.route).map_or("?", |route| &route.name);
            let captures: Vec<String> = found.captures.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            format!("api {}, route {route}{}{}", api.facts.name, if captures.is_empty() { "" } else { ", " }, captures.join(", "))
        });
    }
}

impl Folded {
    fn new(api: &Api) -> Self {
        let mut folded = Self::default();
        for (number, route) in api.routes.iter().enumerate() {
            // Names of captures are small letters already.
            if let Ok(pattern) = PathPattern::parse(&route.pattern.as_str().to_ascii_lowercase()) {
                folded.tree.insert(&pattern, &route.methods, &route.features.conditions, number);
            }
            folded.is_open_rest.push(match &route.access {
                Access::Known { unmapped, kinds, .. } => *unmapped && !kinds.is_empty(),
                // No other public route is for everything: contracts and configs with one are refused.
                Access::Public => route.methods.is_empty() && route.pattern.is_everything(),
            });
        }
        folded
    }
}

impl Hosts {
    fn insert(&mut self, pattern: &HostPattern, api: usize) {
        match pattern {
            HostPattern::Any => self.any = Some(api),
            HostPattern::Exact(name) => drop(self.exact.insert(name.clone(), api)),
            HostPattern::Below(suffix) => {
                self.below.push((suffix.clone(), api));
                self.below.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
            }
        }
    }

    fn find(&self, host: &str) -> Option<usize> {
        let below = || self.below.iter().find(|(suffix, _)| host.ends_with(suffix.as_str())).map(|(_, api)| *api);
        self.exact.get(host).copied().or_else(below).or(self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Demand, Route};
    use crate::identity::CredentialKind;
    use crate::pipeline::fixture;

    #[test]
    fn an_exact_host_beats_a_wildcard_and_the_longest_wildcard_beats_the_rest() {
        let mut hosts = Hosts::default();
        hosts.insert(&HostPattern::Any, 0);
        hosts.insert(&HostPattern::Below(".example.com".to_owned()), 1);
        hosts.insert(&HostPattern::Below(".api.example.com".to_owned()), 2);
        hosts.insert(&HostPattern::Exact("a.api.example.com".to_owned()), 3);
        for (host, api) in [("a.api.example.com", 3), ("b.api.example.com", 2), ("x.example.com", 1), ("example.com", 0)] {
            assert_eq!(hosts.find(host), Some(api), "{host}");
        }
    }

    /// The native contract's endpoints and two routes; beside them what nobody listed, below `/v1` and outside of it.
    fn routing(kinds: Vec<CredentialKind>) -> (Routing, Vec<Arc<str>>) {
        let mut api = fixture::api(
            "[[api.route]]\nname = \"admin\"\npath = \"/v1/admin/**\"\naccept = [\"jwt\"]\n\
             [[api.route]]\nname = \"items\"\npath = \"/v1/t/{tenant}/items/**\"\nmethods = [\"GET\"]\naccept = [\"jwt\"]\n",
        );
        api.routes.retain(|route| !route.pattern.is_everything());
        let mut rest = |name: &str, path: &str, access: Access| {
            let pattern = PathPattern::parse(path).unwrap();
            api.routes.push(Route { name: name.into(), methods: Vec::new(), pattern, access, ..api.routes[0].clone() });
        };
        rest("unmapped", "/v1/**", Access::Known { kinds, demand: Demand::default(), by_kind: Vec::new(), unmapped: true });
        rest("outside", "/**", Access::Public);
        let names = api.routes.iter().map(|route| route.name.clone()).collect();
        (Routing::new([("public".into(), &api)]), names)
    }

    fn found((routing, names): &(Routing, Vec<Arc<str>>), path: &str) -> String {
        let mut exchange = fixture::exchange("192.0.2.1", &[]);
        exchange.uri = path.parse().unwrap();
        routing
            .find_route(0, &Method::GET, &mut exchange)
            .map_or_else(|denial| denial.code().to_owned(), |(route, _)| names[route].to_string())
    }

    /// A8: many servers read `/API` as `/api`. What is let through unlisted is not let through as that.
    #[test]
    fn capitals_do_not_lead_past_a_listed_route_into_what_is_open() {
        let open = routing(vec![CredentialKind::Jwt]);
        for (path, expected) in [
            ("/v1/admin/x", "admin"),
            ("/v1/Admin/x", "path_ambiguous"),
            ("/V1/admin/x", "path_ambiguous"),
            ("/V1/other", "path_ambiguous"),
            ("/v1/t/PROD/items/A", "items"),
            ("/v1/t/prod/Items/A", "path_ambiguous"),
            ("/v1/Other", "unmapped"),
            ("/v10/admin", "outside"),
            ("/Index.html", "outside"),
        ] {
            assert_eq!(found(&open, path), expected, "{path}");
        }
        // What is closed stays what it is, for want of a right.
        let closed = routing(Vec::new());
        assert_eq!((found(&closed, "/v1/Admin/x"), found(&closed, "/V1/x")), ("unmapped".into(), "path_ambiguous".into()));
    }
}
