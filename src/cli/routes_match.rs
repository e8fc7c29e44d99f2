//! `gateward routes METHOD URL`: which route would take a request, and which came near.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use http::{Method, Uri};

use crate::app::load::Ready;
use crate::contract::{Api, Route};
use crate::pipeline::{Lookup, NormalPath, Routing};

/// What a method and a URL lead to.
#[derive(Debug, serde::Serialize)]
pub struct Matching {
    pub api: String,
    /// The path as it is matched and forwarded.
    pub path: String,
    /// The name of the route; `None` when nothing takes the request.
    pub route: Option<String>,
    pub captures: Vec<(String, String)>,
    /// The methods that the path takes, when it takes others.
    pub allow: Vec<String>,
    /// Routes that match all segments but one, or the path but not the method.
    pub near: Vec<String>,
}

/// # Errors
/// When method or URL are none, no API answers to the host, or the path is ambiguous.
pub fn matching(ready: &Ready, method: &str, url: &str) -> anyhow::Result<Matching> {
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).with_context(|| format!("`{method}` is no method"))?;
    let uri: Uri = url.parse().with_context(|| format!("`{url}` is no URL"))?;
    let listener = |section| ready.config.listener_of(section).map_or_else(Arc::default, |l| Arc::from(l.name.value.as_str()));
    let apis = ready.config.apis.iter().zip(&ready.apis).map(|(section, api)| (listener(section), api));
    let routing = Routing::new(apis);
    let host = uri.host().unwrap_or("localhost").to_ascii_lowercase();
    let index = ready.config.listeners.iter().find_map(|listener| routing.api_of(&listener.name.value, &host));
    let Some((index, api)) = index.and_then(|index| Some((index, ready.apis.get(index)?))) else {
        bail!("no API answers to the host {host}");
    };
    let path = NormalPath::parse(uri.path())?;
    let mut found = Matching {
        api: api.facts.name.to_string(),
        path: path.to_string(),
        route: None,
        captures: Vec::new(),
        allow: Vec::new(),
        near: near(api, &method, &path),
    };
    match routing.look_up(index, &method, &path, &http::HeaderMap::new()) {
        Lookup::Found { route, captures } => {
            found.route = api.routes.get(route).map(|route| route.name.to_string());
            found.captures = captures.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
            let chosen = found.route.clone();
            found.near.retain(|name| Some(name) != chosen.as_ref());
        }
        Lookup::WrongMethod(allow) => found.allow = allow.iter().map(ToString::to_string).collect(),
        Lookup::Unmet | Lookup::Nothing => {}
    }
    Ok(found)
}

fn near(api: &Api, method: &Method, path: &NormalPath) -> Vec<String> {
    let takes = |route: &Route| route.methods.is_empty() || route.methods.contains(method);
    let is_near = |route: &&Route| match route.pattern.misses(path.segments()) {
        Some(0) => !takes(route) || route.pattern.is_everything(),
        Some(1) => takes(route),
        Some(_) | None => false,
    };
    api.routes.iter().filter(is_near).map(|route| route.name.to_string()).take(8).collect()
}
