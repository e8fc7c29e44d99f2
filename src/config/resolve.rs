//! What sections say about each other: names are unique, references lead somewhere, addresses and hosts do not clash.
//! References into a contract are checked where contracts are compiled.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::config::report::{Located, Place, Report};
use crate::config::value::{HostPattern, UpstreamUrl};
use crate::config::{Api, Balance, Config, Listener, Upstream, UpstreamLimits, UpstreamRetries, UpstreamTimeouts, UpstreamTls};

/// Reports everything that is wrong in and between the sections of a decoded file.
pub fn resolve(config: &Config, report: &mut Report) {
    config.counters.check(report);
    config.listeners.iter().for_each(|listener| listener.check(report));
    config.upstreams.iter().for_each(|upstream| upstream.check(report));
    config.apis.iter().for_each(|api| api.check(report));
    check_names(config, report);
    check_addresses(config, report);
    check_references(config, report);
    check_hosts(config, report);
    check_loops(config, report);
}

impl Config {
    /// The listener that an API answers on: the one it names, else the first that serves requests. `None` in a file with mistakes.
    pub fn listener_of(&self, api: &Api) -> Option<&Listener> {
        match &api.listener {
            Some(name) => self.listeners.iter().find(|listener| listener.name.value == name.value),
            None => self.listeners.iter().find(|listener| listener.decides_for.is_none()),
        }
    }

    /// The upstream that an API forwards to: the one it names, or one made of its URL. `None` in a file with mistakes.
    pub fn upstream_of(&self, api: &Api) -> Option<Upstream> {
        if !is_url(&api.upstream.value) {
            return self.upstreams.iter().find(|upstream| upstream.name.value == api.upstream.value).cloned();
        }
        let server = UpstreamUrl::parse(&api.upstream.value).ok()?;
        Some(Upstream {
            name: Located::new(api.label().to_owned(), api.upstream.place),
            servers: vec![server],
            balance: Balance::LeastRequests,
            timeouts: UpstreamTimeouts::default(),
            tls: UpstreamTls::default(),
            limits: UpstreamLimits::default(),
            retries: UpstreamRetries::default(),
            place: api.upstream.place,
        })
    }
}

fn is_url(text: &str) -> bool {
    text.contains("://")
}

fn check_names(config: &Config, report: &mut Report) {
    let located = |name: &Located<String>| (name.value.clone(), name.place);
    check_unique("listeners", config.listeners.iter().map(|listener| located(&listener.name)), report);
    check_unique("upstreams", config.upstreams.iter().map(|upstream| located(&upstream.name)), report);
    check_unique("APIs", config.apis.iter().map(|api| (api.label().to_owned(), api.label_place())), report);
    for api in &config.apis {
        check_unique("routes of one API", api.routes.iter().map(|route| located(&route.name)), report);
        check_unique("limits of one API", api.limits.iter().map(|limit| located(&limit.name)), report);
        check_name(&api.environment, report.at(api.place, "environment"), report);
        if let Some(realm) = &api.realm {
            check_name(realm, report.at(api.place, "realm"), report);
        }
    }
}

fn check_unique(of_what: &str, names: impl Iterator<Item = (String, Place)>, report: &mut Report) {
    let mut seen: HashMap<String, Place> = HashMap::new();
    for (name, place) in names {
        check_name(&name, place, report);
        match seen.get(&name) {
            Some(&first) => {
                let line = report.line(first);
                report.refuse(place, format!("two {of_what} are called `{name}`"), format!("the other is on line {line}"));
            }
            None => {
                seen.insert(name, place);
            }
        }
    }
}

/// Names stand in logs, metrics, keys and file names.
fn check_name(name: &str, place: Place, report: &mut Report) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() {
        report.error(place, "the name is empty");
    } else if name.len() > 64 || !name.bytes().all(allowed) {
        report.refuse(place, format!("`{name}` is no name"), "expected 1 to 64 of a-z, A-Z, 0-9, `-`, `_` and `.`");
    }
}

fn check_addresses(config: &Config, report: &mut Report) {
    for (at, listener) in config.listeners.iter().enumerate() {
        let place = report.at(listener.place, "address");
        if let Some(earlier) = config.listeners.iter().take(at).find(|earlier| collide(earlier.address, listener.address)) {
            let (name, address) = (&earlier.name.value, earlier.address);
            report.error(place, format!("`{}` is taken by listener `{name}` on `{address}`", listener.address));
        }
        let admin = config.admin.address;
        if collide(listener.address, admin) && report.is_sound(config.admin.place, "address") {
            let why = format!("`{}` is taken by `[admin]` on `{admin}`", listener.address);
            report.error_with_help(place, why, "give one of them another port");
        }
    }
}

/// Whether two sockets cannot, or should not, be open side by side: which of them a connection goes to depends on the
/// system. Port 0 is a new port each time.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let family = one.is_ipv4() == other.is_ipv4();
    let wide = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && (one.ip() == other.ip() || (family && wide))
}

fn check_references(config: &Config, report: &mut Report) {
    let upstreams: Vec<&str> = config.upstreams.iter().map(|upstream| upstream.name.value.as_str()).collect();
    let apis: Vec<&str> = config.apis.iter().map(Api::label).collect();
    for name in config.listeners.iter().filter_map(|listener| listener.default_api.as_ref()) {
        check_reference("API", name, &apis, report);
    }
    for listener in &config.listeners {
        if let Some(name) = &listener.decides_for {
            check_serving("decides for", name, config, report);
        }
    }
    for api in &config.apis {
        if let Some(name) = &api.listener {
            check_serving("answers on", name, config, report);
        }
        let upstream = &api.upstream;
        match (is_url(&upstream.value), UpstreamUrl::parse(&upstream.value)) {
            (true, Ok(_)) => {}
            (true, Err(why)) => report.refuse(upstream.place, why, "expected a URL such as \"http://127.0.0.1:9000\""),
            (false, Ok(_) | Err(_)) => check_reference("upstream", upstream, &upstreams, report),
        }
    }
}

/// A listener that decides for another has no API of its own.
fn check_serving(verb: &str, name: &Located<String>, config: &Config, report: &mut Report) {
    let listeners: Vec<&str> = config.listeners.iter().map(|listener| listener.name.value.as_str()).collect();
    check_reference("listener", name, &listeners, report);
    let named = config.listeners.iter().find(|listener| listener.name.value == name.value);
    if named.is_some_and(|listener| listener.decides_for.is_some()) {
        let why = format!("nothing {verb} the listener `{}`, which decides for another", name.value);
        report.error_with_help(name.place, why, "name a listener without `decides_for`");
    }
}

fn check_reference(what: &str, name: &Located<String>, allowed: &[&str], report: &mut Report) {
    if !allowed.contains(&name.value.as_str()) && !report.is_dropped(&name.value) {
        report.unknown(name.place, what, &name.value, allowed.iter().copied());
    }
}

fn check_hosts(config: &Config, report: &mut Report) {
    let mut claimed: HashMap<(&str, &HostPattern), &Api> = HashMap::new();
    for api in &config.apis {
        let Some(listener) = config.listener_of(api) else { continue };
        if !report.is_sound(api.place, "hosts") || !report.is_sound(api.place, "listener") {
            continue;
        }
        for host in &api.hosts {
            let Some(first) = claimed.insert((&listener.name.value, &host.value), api) else { continue };
            let (pattern, name) = (&host.value, first.label());
            let (why, help) = match std::ptr::eq(first, api) {
                true => (format!("the host `{pattern}` is given twice"), "once is enough".to_owned()),
                false => (
                    format!("API `{name}` answers to the host `{pattern}` on listener `{}` already", listener.name.value),
                    "APIs of one listener are told apart by `hosts`; without it an API answers to every host".to_owned(),
                ),
            };
            let place = if host.place == Place::default() { api.place } else { host.place };
            report.refuse(place, why, help);
        }
    }
}

/// Reports upstream servers that are the gateway itself: a request would go round until every connection is in use.
fn check_loops(config: &Config, report: &mut Report) {
    let own: Vec<(String, SocketAddr)> = config
        .listeners
        .iter()
        .map(|listener| (format!("listener `{}`", listener.name.value), listener.address))
        .chain([("`[admin]`".to_owned(), config.admin.address)])
        .collect();
    let named = config.upstreams.iter().flat_map(|upstream| {
        let place = report.at(upstream.place, "servers");
        upstream.servers.iter().map(move |server| (server.clone(), place))
    });
    let direct = config.apis.iter().filter(|api| is_url(&api.upstream.value)).filter_map(|api| {
        let server = UpstreamUrl::parse(&api.upstream.value).ok()?;
        Some((server, api.upstream.place))
    });
    let servers: Vec<(UpstreamUrl, Place)> = named.chain(direct).collect();
    for (server, place) in servers {
        if let Some((name, _)) = own.iter().find(|(_, address)| leads_to(&server, *address)) {
            report.error(place, format!("`{server}` is the gateway itself: {name}"));
        }
    }
}

fn leads_to(server: &UpstreamUrl, own: SocketAddr) -> bool {
    let ip: Option<IpAddr> = match server.host.as_str() {
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        host => host.parse().ok(),
    };
    let Some(ip) = ip.map(|ip| ip.to_canonical()) else { return false };
    let own_ip = own.ip().to_canonical();
    // An unspecified address is reached through loopback, and connecting to it means loopback.
    let near = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    let wide = own_ip.is_unspecified() || ip.is_unspecified() || server.host == "localhost";
    own.port() == server.port && (ip == own_ip || (wide && near(ip) && near(own_ip)))
}
