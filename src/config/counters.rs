//! `[counters]`: where limits are counted, and by which URL servers of Redis are found.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::config::decode::{Decode, Decoder, Node, section};
use crate::config::report::{Located, Report};
use crate::config::value::parse_host_port;
use crate::identity::Secret;

section! {
    /// `[counters]`: rate limits and news of revocations, for this process alone or for all gateways together.
    pub struct Counters: Default {
        /// "memory:" counts in this process alone; many nodes share a Redis (7 or newer) or a Valkey.
        url: CountersUrl = CountersUrl::Memory,
        /// What one request waits for the shared counters at most; then the limit's `on_outage` decides.
        timeout: Duration = Duration::from_millis(20),
        /// How many gateways share the counters: while those are away, a node gives out its part of each limit.
        nodes: u64 = 1,
        /// Certificates (PEM) that the servers of a rediss URL are trusted by, instead of the system's.
        ca_file: Option<Located<PathBuf>> = None,
    }
}

impl Counters {
    /// Reports what is wrong within the section.
    pub fn check(&self, report: &mut Report) {
        if !TIMEOUTS.contains(&self.timeout) {
            let (least, most) = (TIMEOUTS.start(), TIMEOUTS.end());
            let why = format!(
                "`timeout` is {:?}, expected {least:?} to {most:?}: each request may have to wait that long",
                self.timeout
            );
            report.error(report.at(self.place, "timeout"), why);
        }
        if !(1..=MOST_NODES).contains(&self.nodes) {
            let why = format!("`nodes` is {}, expected 1 to {MOST_NODES}", self.nodes);
            report.error(report.at(self.place, "nodes"), why);
        }
        let has_tls = matches!(&self.url, CountersUrl::Redis(redis) if redis.is_tls);
        if let Some(file) = &self.ca_file
            && !has_tls
            && report.is_sound(self.place, "url")
        {
            let why = "`ca_file` is for a connection with TLS";
            report.error_with_help(file.place, why, "expected a `url` such as \"rediss://HOST\"");
        }
    }
}

/// Where limits are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CountersUrl {
    /// In this process alone.
    Memory,
    Redis(RedisUrl),
}

/// Servers that speak Redis' protocol, and what they want to know. `Display` shows no credentials.
#[derive(Clone, Debug)]
pub struct RedisUrl {
    pub servers: Servers,
    pub is_tls: bool,
    /// Without it the server's default user is meant.
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub database: u32,
}

/// How the servers stand to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    Single(ServerAddress),
    /// The sentinels that know who is the master of that name.
    Sentinel {
        sentinels: Vec<ServerAddress>,
        master: String,
    },
    /// Some nodes of a cluster; they name the others.
    Cluster(Vec<ServerAddress>),
}

/// A host name or an address without brackets, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    pub host: String,
    pub port: u16,
}

impl CountersUrl {
    /// Parses a URL; the error says what is wrong with it and quotes nothing that could be a part of a password.
    fn parse(text: &str) -> Result<Self, String> {
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        let (scheme, rest) = text.split_once("://").ok_or("this is no URL of counters")?;
        let (kind, is_tls) = match scheme {
            "redis" => (Kind::Single, false),
            "rediss" => (Kind::Single, true),
            "redis+sentinel" => (Kind::Sentinel, false),
            "rediss+sentinel" => (Kind::Sentinel, true),
            "redis+cluster" => (Kind::Cluster, false),
            "rediss+cluster" => (Kind::Cluster, true),
            _ => return Err("no counters are known for this scheme".to_owned()),
        };
        let redis = RedisUrl::parse(rest, kind)?;
        Ok(Self::Redis(RedisUrl { is_tls, ..redis }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single,
    Sentinel,
    Cluster,
}

impl RedisUrl {
    /// What stands behind the `://`, as a URL without TLS.
    fn parse(rest: &str, kind: Kind) -> Result<Self, String> {
        if rest.contains(['?', '#']) {
            return Err("the URL has a query or a fragment; in a password write `?` as %3F and `#` as %23".to_owned());
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('@') {
            return Err("there is a `@` after a `/`; in a password write `/` as %2F and `@` as %40".to_owned());
        }
        let (credentials, hosts) = authority.rsplit_once('@').map_or((None, authority), |(before, after)| (Some(before), after));
        let (username, password) = credentials.map_or(Ok((None, None)), parse_credentials)?;
        let mut servers = hosts.split(',').map(|host| ServerAddress::parse(host, kind)).collect::<Result<Vec<_>, _>>()?;
        if servers.len() > MOST_SERVERS {
            return Err(format!("the URL names {} servers, at most {MOST_SERVERS} are asked", servers.len()));
        }
        let (servers, database) = match (kind, path.split_once('/')) {
            (Kind::Single, None) if servers.len() == 1 => (Servers::Single(servers.remove(0)), path),
            (Kind::Single, None) => return Err("several servers are a `redis+sentinel://` or a `redis+cluster://`".to_owned()),
            (Kind::Sentinel, after) => {
                let (master, database) = after.unwrap_or((path, ""));
                (Servers::Sentinel { sentinels: servers, master: parse_master(master)? }, database)
            }
            (Kind::Cluster, None) if path.is_empty() => (Servers::Cluster(servers), path),
            (Kind::Cluster, _) => {
                return Err("a cluster has no numbered databases: nothing may stand after the servers".to_owned());
            }
            (Kind::Single, Some(_)) => return Err("the database is no number from 0 to 65535".to_owned()),
        };
        Ok(Self { servers, is_tls: false, username, password, database: parse_database(database)? })
    }
}

/// `USER:PASSWORD`, percent-encoded; without a user, `:PASSWORD`.
fn parse_credentials(text: &str) -> Result<(Option<String>, Option<Secret>), String> {
    let Some((username, password)) = text.split_once(':') else {
        return Err("the URL has a user without a password; a password alone stands behind a colon, `:PASSWORD@`".to_owned());
    };
    let decode = |part: &str| match percent_decode_str(part).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err("the user or the password is no UTF-8 where its percent signs are decoded".to_owned()),
    };
    if password.is_empty() {
        return Err("the password is empty".to_owned());
    }
    let username = decode(username)?;
    Ok(((!username.is_empty()).then_some(username), Some(Secret::new(decode(password)?))))
}

/// The names that Redis lets a master have.
fn parse_master(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    match text {
        "" => Err("the URL does not say which master the sentinels are asked for".to_owned()),
        _ if text.len() <= 64 && text.bytes().all(allowed) => Ok(text.to_owned()),
        _ => Err("the master's name has other characters than a-z, A-Z, 0-9, `-`, `_` and `.`".to_owned()),
    }
}

fn parse_database(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text {
        "" => Ok(0),
        _ => text
            .parse::<u16>()
            .ok()
            .filter(|_| digits)
            .map(u32::from)
            .ok_or("the database is no number from 0 to 65535".to_owned()),
    }
}

impl ServerAddress {
    fn parse(text: &str, kind: Kind) -> Result<Self, String> {
        let default_port = if kind == Kind::Sentinel { 26379 } else { 6379 };
        let (host, port) = parse_host_port(text, default_port)?;
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl Decode for CountersUrl {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = decoder.string(node, "a URL of counters")?;
        Self::parse(&text).map_or_else(|why| decoder.refuse(node, why, FORMS), Some)
    }

    fn schema() -> Value {
        json!({ "type": "string", "description": FORMS })
    }
}

impl PartialEq for RedisUrl {
    fn eq(&self, other: &Self) -> bool {
        let exposed = |url: &Self| url.password.as_ref().map(|password| password.expose().to_owned());
        (&self.servers, self.is_tls, &self.username, self.database)
            == (&other.servers, other.is_tls, &other.username, other.database)
            && exposed(self) == exposed(other)
    }
}

impl Eq for RedisUrl {}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |servers: &[ServerAddress]| servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let scheme = if self.is_tls { "rediss" } else { "redis" };
        match &self.servers {
            Servers::Single(server) => write!(f, "{scheme}://{server}")?,
            Servers::Sentinel { sentinels, master } => write!(f, "{scheme}+sentinel://{}/{master}", joined(sentinels))?,
            Servers::Cluster(nodes) => write!(f, "{scheme}+cluster://{}", joined(nodes))?,
        }
        match self.database {
            0 => Ok(()),
            database => write!(f, "/{database}"),
        }
    }
}

impl fmt::Display for CountersUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Redis(redis) => redis.fmt(f),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

const FORMS: &str = "expected \"memory:\", \"redis://[USER:PASSWORD@]HOST[:PORT][/DB]\", \
                     \"redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/MASTER[/DB]\" or \
                     \"redis+cluster://[USER:PASSWORD@]HOST[:PORT],…\"; with TLS \"rediss\" instead of \"redis\"";
/// Two milliseconds of it are kept for the timer, and what is left must be enough for an answer; above a second a client is
/// better told to come back.
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_secs(1);
const MOST_NODES: u64 = 1000;
/// Servers that one URL names.
const MOST_SERVERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(text: &str) -> RedisUrl {
        match CountersUrl::parse(text) {
            Ok(CountersUrl::Redis(redis)) => redis,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn address(host: &str, port: u16) -> ServerAddress {
        ServerAddress { host: host.to_owned(), port }
    }

    #[test]
    fn a_url_says_who_is_asked_how_and_as_whom() {
        assert_eq!(CountersUrl::parse("memory:"), Ok(CountersUrl::Memory));
        let (one, two) = (address("one", 6379), address("::1", 7000));
        let sentinel = |sentinels: Vec<ServerAddress>| Servers::Sentinel { sentinels, master: "main".to_owned() };
        for (text, servers, is_tls, username, password, database) in [
            ("redis://One", Servers::Single(one.clone()), false, None, None, 0),
            ("redis://[::1]:7000/", Servers::Single(two.clone()), false, None, None, 0),
            ("rediss://gw:p%40s%2Fs@one/15", Servers::Single(one.clone()), true, Some("gw"), Some("p@s/s"), 15),
            ("redis://:a:b@one", Servers::Single(one.clone()), false, None, Some("a:b"), 0),
            ("redis+sentinel://one,two:1/main", sentinel(vec![address("one", 26379), address("two", 1)]), false, None, None, 0),
            ("rediss+sentinel://:pw@one:2/main/3", sentinel(vec![address("one", 2)]), true, None, Some("pw"), 3),
            ("redis+cluster://one,[::1]:7000", Servers::Cluster(vec![one.clone(), two.clone()]), false, None, None, 0),
            ("rediss+cluster://u:p@one/", Servers::Cluster(vec![one.clone()]), true, Some("u"), Some("p"), 0),
        ] {
            let password = password.map(Secret::new);
            let expected = RedisUrl { servers, is_tls, username: username.map(str::to_owned), password, database };
            assert_eq!(redis(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_shown_of_a_url_has_no_credentials_and_is_a_url() {
        for (text, shown) in [
            ("redis://gw:hunter2@one/15", "redis://one:6379/15"),
            ("rediss+sentinel://:hunter2@one,[::1]:2/main/3", "rediss+sentinel://one:26379,[::1]:2/main/3"),
            ("redis+cluster://gw:hunter2@one,two", "redis+cluster://one:6379,two:6379"),
        ] {
            assert_eq!(redis(text).to_string(), shown);
            assert_eq!(redis(shown).to_string(), shown);
            assert!(!format!("{:?}", redis(text)).contains("hunter2"));
        }
    }

    #[test]
    fn urls_that_cannot_be_meant_are_refused_without_a_word_of_the_password() {
        for (text, why) in [
            ("memory", "this is no URL of counters"),
            ("hunter2", "this is no URL of counters"),
            ("http://u:hunter2@one", "no counters are known for this scheme"),
            ("redis://", "`` is no host"),
            ("redis://one,two", "several servers are a `redis+sentinel://` or a `redis+cluster://`"),
            ("redis://one:0", "the port is no number from 1 to 65535"),
            (
                "redis://hunter2@one",
                "the URL has a user without a password; a password alone stands behind a colon, `:PASSWORD@`",
            ),
            ("redis://u:@one", "the password is empty"),
            ("redis://:%ff@one", "the user or the password is no UTF-8 where its percent signs are decoded"),
            ("redis://:hunter/2@one", "there is a `@` after a `/`; in a password write `/` as %2F and `@` as %40"),
            ("redis://:hunter?2@one", "the URL has a query or a fragment; in a password write `?` as %3F and `#` as %23"),
            ("redis://one/x", "the database is no number from 0 to 65535"),
            ("redis://one/+1", "the database is no number from 0 to 65535"),
            ("redis://one/1/2", "the database is no number from 0 to 65535"),
            ("redis+sentinel://one", "the URL does not say which master the sentinels are asked for"),
            ("redis+sentinel://one/a b", "the master's name has other characters than a-z, A-Z, 0-9, `-`, `_` and `.`"),
            ("redis+cluster://one/1", "a cluster has no numbered databases: nothing may stand after the servers"),
        ] {
            assert_eq!(CountersUrl::parse(text).unwrap_err(), why, "{text}");
        }
        let many = format!("redis+cluster://{}", vec!["a"; 65].join(","));
        assert_eq!(CountersUrl::parse(&many).unwrap_err(), "the URL names 65 servers, at most 64 are asked");
    }
}
