//! Host, path and method to one route of one API. An API is chosen by listener and host, never by path alone.

mod tree;

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;

use crate::config::value::HostPattern;
use crate::contract::Api;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::path::NormalPath;
use crate::rejection::{Denial, Stage};

pub use tree::Lookup;
use tree::Tree;

/// All APIs of a gateway by listener and host.
#[derive(Debug, Default)]
pub struct Routing {
    listeners: HashMap<Arc<str>, Hosts>,
    apis: Vec<Tree>,
}

#[derive(Debug, Default)]
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
                tree.insert(&route.pattern, &route.methods, number);
            }
            routing.apis.push(tree);
        }
        routing
    }

    /// Finds the API and its route; notes host and path on the way, so that a refusal can name them.
    ///
    /// # Errors
    /// The denials of stage `route`, and those about the Host header.
    pub fn find(&self, exchange: &mut Exchange) -> Result<Found, Denial> {
        let host = exchange.read_host()?;
        let api = self.listeners.get(&exchange.listener).and_then(|hosts| hosts.find(&host));
        exchange.notes.host = Some(host.clone());
        let api = api.ok_or(Denial::HostUnknown { host })?;
        exchange.notes.api = Some(api);
        self.find_route(api, exchange).map(|(route, captures)| Found { api, route, captures })
    }

    /// The API that a host belongs to, for rejections that come before the path is known.
    pub fn api_of(&self, listener: &str, host: &str) -> Option<usize> {
        self.listeners.get(listener)?.find(host)
    }

    /// Where a path of one API leads.
    pub fn look_up(&self, api: usize, method: &Method, path: &NormalPath) -> Lookup {
        self.apis.get(api).map_or(Lookup::Nothing, |tree| tree.find(method, path))
    }

    fn find_route(&self, api: usize, exchange: &mut Exchange) -> Result<(usize, Captures), Denial> {
        if exchange.method == Method::CONNECT {
            return Err(Denial::ConnectRefused);
        }
        if exchange.method == Method::TRACE {
            return Err(Denial::TraceRefused);
        }
        let path = NormalPath::parse(exchange.uri.path())?;
        let lookup = self.look_up(api, &exchange.method, &path);
        exchange.notes.path = Some(path);
        match lookup {
            Lookup::Found { route, captures } => Ok((route, captures)),
            Lookup::Nothing => Err(Denial::NoRoute),
            Lookup::WrongMethod(allowed) => {
                let allow: Vec<&str> = allowed.iter().map(Method::as_str).collect();
                Err(Denial::MethodNotAllowed { allow: allow.join(", ").into() })
            }
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
}
