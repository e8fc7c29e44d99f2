//! What it means to go from one config to another: which keys differ, which of them want a restart, and which routes open or
//! close. The reload and `gateward diff` say the same, because both ask here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::app::load::Ready;
use crate::config::{Difference, Outline};
use crate::contract::{Access, Api, Route};

/// The difference between two configs.
#[derive(Debug, Serialize)]
pub struct Changes {
    pub keys: Vec<KeyChange>,
    /// The keys that a running process cannot change.
    pub restart: Vec<&'static str>,
    pub routes: Vec<RouteChange>,
    #[serde(skip)]
    sections: Vec<String>,
}

/// One key of the file. `None` where it is not written.
#[derive(Debug, Serialize)]
pub struct KeyChange {
    pub key: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

/// A route that is new, gone, or for others than before.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct RouteChange {
    pub api: String,
    pub name: String,
    /// Empty = all.
    pub methods: String,
    pub path: String,
    /// Who might use it, and may now. `None` where there is no such route.
    pub old: Option<String>,
    pub new: Option<String>,
    /// Whether it is public now, and was not.
    pub opens: bool,
}

impl Changes {
    pub fn between(old: &Ready, new: &Ready) -> Self {
        let differences = old.outline.differences(&new.outline);
        Self {
            sections: sections(&differences, &old.outline, &new.outline),
            keys: differences.into_iter().map(KeyChange::from).collect(),
            restart: restart(old, new),
            routes: routes(old, new),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.routes.is_empty()
    }

    /// The sections that differ, each once: `+` for a new one, `-` for one that is gone.
    pub fn sections(&self) -> &[String] {
        &self.sections
    }
}

impl From<Difference> for KeyChange {
    fn from(difference: Difference) -> Self {
        Self { key: difference.way.join("."), old: difference.old, new: difference.new }
    }
}

fn sections(differences: &[Difference], old: &Outline, new: &Outline) -> Vec<String> {
    let ways: BTreeSet<&[String]> = differences.iter().map(|difference| section(&difference.way)).collect();
    let shown = |way: &[String]| {
        let sign = match (old.has(way), new.has(way)) {
            (false, _) => "+",
            (true, false) => "-",
            (true, true) => "",
        };
        format!("{sign}{}", way.join("."))
    };
    ways.into_iter().map(shown).collect()
}

/// The part of a way that names its section.
fn section(way: &[String]) -> &[String] {
    let word = |at: usize| way.get(at).map_or("", String::as_str);
    let length = match word(0) {
        "api" if ["route", "limit", "issuer"].contains(&word(2)) => 4,
        "api" | "listener" | "upstream" => 2,
        _ => 1,
    };
    way.get(..length).unwrap_or(way)
}

/// What was decided once, when the process started.
fn restart(old: &Ready, new: &Ready) -> Vec<&'static str> {
    let (was, is) = (&old.config, &new.config);
    let path = |ready: &Ready| ready.config.counters.ca_file.as_ref().map(|file| file.value.clone());
    let differs = [
        ("server.workers", was.server.workers != is.server.workers),
        ("server.upgrade_socket", was.server.upgrade_socket != is.server.upgrade_socket),
        ("store.url", was.store.url != is.store.url),
        ("store.encryption_key_file", was.store.encryption_key_file != is.store.encryption_key_file),
        ("counters.url", was.counters.url != is.counters.url),
        ("counters.timeout", was.counters.timeout != is.counters.timeout),
        ("counters.nodes", was.counters.nodes != is.counters.nodes),
        ("counters.ca_file", path(old) != path(new)),
        ("admin.address", was.admin.address != is.admin.address),
        ("log.access", was.log.access != is.log.access),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

type RouteKey = (String, String, String);

fn routes(old: &Ready, new: &Ready) -> Vec<RouteChange> {
    let (was, is) = (by_place(old), by_place(new));
    let keys: BTreeSet<&RouteKey> = was.keys().chain(is.keys()).collect();
    let change = |key: &RouteKey| {
        let (old, new) = (was.get(key), is.get(key));
        let shown = |route: Option<&&Route>| route.map(|route| route.access.to_string());
        let is_public = |route: Option<&&Route>| route.is_some_and(|route| matches!(route.access, Access::Public));
        RouteChange {
            api: key.0.clone(),
            name: new.or(old).map_or_else(String::new, |route| route.name.to_string()),
            methods: key.2.clone(),
            path: key.1.clone(),
            opens: is_public(new) && !is_public(old),
            old: shown(old),
            new: shown(new),
        }
    };
    keys.into_iter().map(change).filter(|change| change.old != change.new).collect()
}

fn by_place(ready: &Ready) -> BTreeMap<RouteKey, &Route> {
    let key = |api: &Api, route: &Route| {
        let methods: Vec<&str> = route.methods.iter().map(http::Method::as_str).collect();
        (api.facts.name.to_string(), route.pattern.as_str().to_owned(), methods.join(","))
    };
    ready.apis.iter().flat_map(|api| api.routes.iter().map(move |route| (key(api, route), route))).collect()
}
