//! `store.url`: which database, and how it is reached.

use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};

use crate::config::decode::{Decode, Decoder, Node};
use crate::config::value::parse_host_port;
use crate::identity::Secret;

/// Where the store is. `Display` shows no password.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreUrl {
    /// A file, relative to the folder of the config file.
    Sqlite(PathBuf),
    Postgres(PostgresUrl),
}

/// A database of Postgres and the servers that may have it.
#[derive(Clone, Debug)]
pub struct PostgresUrl {
    /// Asked in this order for one that is no replica; at least one.
    pub hosts: Vec<PostgresHost>,
    pub user: String,
    pub password: Option<Secret>,
    pub database: String,
    pub tls: PostgresTls,
    /// Certificates (PEM) that the servers are trusted by, besides the well-known authorities. Relative to the folder of
    /// the config file.
    pub root_certificates: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostgresHost {
    /// A host name or an address without brackets, and a port.
    Tcp(String, u16),
    /// The folder of a Unix socket, and the port that is a part of the socket's name.
    Unix(PathBuf, u16),
}

impl PartialEq for PostgresUrl {
    fn eq(&self, other: &Self) -> bool {
        let password = |url: &Self| url.password.as_ref().map(|password| password.expose().to_owned());
        let rest =
            |url: &Self| (url.hosts.clone(), url.user.clone(), url.database.clone(), url.tls, url.root_certificates.clone());
        password(self) == password(other) && rest(self) == rest(other)
    }
}

/// The values of `sslmode`, with libpq's meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostgresTls {
    Disable,
    /// TLS where the server offers it, whoever the server is.
    Prefer,
    /// TLS, whoever the server is.
    Require,
    /// The server shows a certificate of an authority that is trusted.
    VerifyCa,
    /// The certificate is for the host's name, too.
    VerifyFull,
}

impl StoreUrl {
    /// Parses a URL. The error says which part is wrong and quotes nothing: any part may be one of a password that was
    /// not escaped.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("sqlite", path)) => parse_sqlite(path).map(Self::Sqlite),
            Some(("postgres" | "postgresql", rest)) => PostgresUrl::parse(rest).map(Self::Postgres),
            Some(_) | None => Err("this is no URL of a store".to_owned()),
        }
    }
}

impl PostgresUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("//").ok_or("`postgres:` is followed by `//`")?;
        if rest.contains('#') {
            return Err("the URL has a fragment; in a password write `#` as %23".to_owned());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').ok_or("the URL names no database")?;
        if database.contains(['@', '/']) || query.contains('@') {
            return Err("there is a `@` after the host; in a password write `/` as %2F, `?` as %3F and `@` as %40".to_owned());
        }
        let (credentials, hosts) = authority.rsplit_once('@').ok_or("the URL names no user")?;
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(Secret::new(decoded(password, "password")?))),
            None => (credentials, None),
        };
        let hosts = hosts.split(',').map(PostgresHost::parse).collect::<Result<Vec<_>, _>>()?;
        if hosts.len() > MOST_HOSTS {
            return Err(format!("the URL names {} hosts, at most {MOST_HOSTS} are asked", hosts.len()));
        }
        let (tls, root_certificates) = parse_options(query)?;
        Ok(Self { hosts, user: named(user, "user")?, password, database: named(database, "database")?, tls, root_certificates })
    }
}

impl PostgresUrl {
    /// The URL for another program, each part escaped so that no shell sees a quote in it.
    pub fn without_password(&self) -> String {
        let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let host = |host: &PostgresHost| match host {
            PostgresHost::Unix(folder, port) => format!("{}:{port}", escaped(&folder.to_string_lossy())),
            PostgresHost::Tcp(..) => host.to_string(),
        };
        let hosts: Vec<String> = self.hosts.iter().map(host).collect();
        let roots = self.root_certificates.as_ref().map(|path| format!("&sslrootcert={}", escaped(&path.to_string_lossy())));
        let (user, database) = (escaped(&self.user), escaped(&self.database));
        let (hosts, mode, roots) = (hosts.join(","), self.tls.as_str(), roots.unwrap_or_default());
        format!("postgresql://{user}@{hosts}/{database}?sslmode={mode}{roots}")
    }
}

impl PostgresHost {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "a host is no name or address with a port from 1 to 65535".to_owned();
        if text.to_ascii_lowercase().starts_with("%2f") {
            let (folder, port) = text.split_once(':').unwrap_or((text, "5432"));
            return Ok(Self::Unix(decoded(folder, "host")?.into(), port.parse().map_err(|_| wrong())?));
        }
        let (host, port) = parse_host_port(text, 5432).map_err(|_| wrong())?;
        Ok(Self::Tcp(host.to_ascii_lowercase(), port))
    }
}

impl PostgresTls {
    const WORDS: [(&str, Self); 5] = [
        ("disable", Self::Disable),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];

    pub fn as_str(self) -> &'static str {
        Self::WORDS.into_iter().find(|(_, tls)| *tls == self).map_or("", |(word, _)| word)
    }
}

fn parse_sqlite(path: &str) -> Result<PathBuf, String> {
    let refuse = |why: &str| Err(why.to_owned());
    match path {
        "" | "//" => refuse("the URL names no file"),
        _ if path.starts_with("//") => refuse("`sqlite:` takes a path right after the colon, without `//`"),
        _ if path.contains(['?', '#', '\0']) => refuse("`sqlite:` takes a path and no options"),
        _ if path.starts_with(':') || path.ends_with('/') => refuse("`sqlite:` must name a file: what is kept in memory is lost"),
        _ => Ok(path.into()),
    }
}

fn parse_options(query: &str) -> Result<(PostgresTls, Option<PathBuf>), String> {
    let (mut tls, mut root_certificates) = (None, None);
    for option in query.split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("sslmode", word)) if tls.is_none() => {
                let known = PostgresTls::WORDS.into_iter().find(|(known, _)| *known == word);
                let words = PostgresTls::WORDS.map(|(word, _)| word).join(", ");
                tls = Some(known.ok_or_else(|| format!("`sslmode` is none of {words}"))?.1);
            }
            Some(("sslrootcert", path)) if root_certificates.is_none() => {
                root_certificates = Some(PathBuf::from(named(path, "sslrootcert")?));
            }
            Some(_) | None => return Err("an option is neither `sslmode` nor `sslrootcert`, or is there twice".to_owned()),
        }
    }
    let tls = tls.unwrap_or(PostgresTls::Prefer);
    match (tls, &root_certificates) {
        (PostgresTls::Disable | PostgresTls::Prefer | PostgresTls::Require, Some(_)) => {
            Err("`sslrootcert` says whom `sslmode=verify-full` or `sslmode=verify-ca` trusts: write one of these".to_owned())
        }
        (_, _) => Ok((tls, root_certificates)),
    }
}

fn named(text: &str, what: &str) -> Result<String, String> {
    decoded(text, what).and_then(|text| if text.is_empty() { Err(format!("the {what} is empty")) } else { Ok(text) })
}

fn decoded(text: &str, what: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| format!("the {what} is no UTF-8"))?;
    match decoded.contains(|c: char| c.is_control()) {
        true => Err(format!("the {what} has a control character")),
        false => Ok(decoded.into_owned()),
    }
}

impl Decode for StoreUrl {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = decoder.string(node, WANTED)?;
        match Self::parse(&text) {
            Ok(url) => Some(url.default_in(decoder.folder)),
            Err(why) => {
                decoder.report.error_with_help(decoder.place(node), why, format!("expected {WANTED}"));
                None
            }
        }
    }

    fn default_in(self, folder: &Path) -> Self {
        match self {
            Self::Sqlite(path) => Self::Sqlite(folder.join(path)),
            Self::Postgres(url) => {
                let root_certificates = url.root_certificates.map(|path| folder.join(path));
                Self::Postgres(PostgresUrl { root_certificates, ..url })
            }
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "description": format!("expected {WANTED}") })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(url) => write!(f, "{url}"),
        }
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        write!(f, "postgres://{}/{}", hosts.join(","), self.database)
    }
}

impl fmt::Display for PostgresHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(folder, port) => write!(f, "{}:{port}", folder.display()),
        }
    }
}

const WANTED: &str = "\"sqlite:PATH\" or \"postgres://USER:PASSWORD@HOST/DATABASE\"";

/// Each is given a moment to answer, and a request for a token waits for all of them together.
const MOST_HOSTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn postgres(text: &str) -> PostgresUrl {
        match StoreUrl::parse(text).unwrap() {
            StoreUrl::Postgres(url) => url,
            StoreUrl::Sqlite(path) => panic!("{path:?}"),
        }
    }

    #[test]
    fn files_are_relative_to_the_folder_of_the_config_file() {
        for (url, file) in [
            ("sqlite:gateward.db", "/etc/gateward/gateward.db"),
            ("sqlite:data/gw.db", "/etc/gateward/data/gw.db"),
            ("sqlite:/var/lib/gw.db", "/var/lib/gw.db"),
        ] {
            assert_eq!(StoreUrl::parse(url).unwrap().default_in(Path::new("/etc/gateward")).to_string(), file);
        }
    }

    #[test]
    fn every_part_of_a_postgres_url_is_read() {
        let url =
            postgres("postgres://g%40w:a%2Fb:c@DB1,db2:6432,[::1]:7000,%2Frun%2Fpg/g%20w?sslmode=verify-full&sslrootcert=ca.pem");
        let tcp = |host: &str, port| PostgresHost::Tcp(host.to_owned(), port);
        assert_eq!(url.hosts, [tcp("db1", 5432), tcp("db2", 6432), tcp("::1", 7000), PostgresHost::Unix("/run/pg".into(), 5432)]);
        assert_eq!((url.user.as_str(), url.database.as_str()), ("g@w", "g w"));
        assert_eq!(url.password.as_ref().unwrap().expose(), "a/b:c");
        assert_eq!((url.tls, url.root_certificates.as_deref()), (PostgresTls::VerifyFull, Some(Path::new("ca.pem"))));
        assert_eq!(url.to_string(), "postgres://db1:5432,db2:6432,[::1]:7000,/run/pg:5432/g w");
        assert!(!format!("{url:?}").contains("a/b"), "{url:?}");
        let plain = postgres("postgresql://gw@db/gw");
        assert_eq!((plain.password.is_none(), plain.tls), (true, PostgresTls::Prefer));
    }

    #[test]
    fn a_wrong_url_is_refused_without_showing_what_it_holds() {
        let at = "there is a `@` after the host; in a password write `/` as %2F, `?` as %3F and `@` as %40";
        let host = "a host is no name or address with a port from 1 to 65535";
        for (url, why) in [
            ("", "this is no URL of a store"),
            ("gateward.db", "this is no URL of a store"),
            ("SQLITE:gw.db", "this is no URL of a store"),
            ("mysql://user:hunter2@db/gw", "this is no URL of a store"),
            ("sqlite:", "the URL names no file"),
            ("sqlite://", "the URL names no file"),
            ("sqlite://gw.db", "`sqlite:` takes a path right after the colon, without `//`"),
            ("sqlite:gw.db?mode=memory", "`sqlite:` takes a path and no options"),
            ("sqlite::memory:", "`sqlite:` must name a file: what is kept in memory is lost"),
            ("sqlite:data/", "`sqlite:` must name a file: what is kept in memory is lost"),
            ("postgres:gw", "`postgres:` is followed by `//`"),
            ("postgres://gw:hunter2@db", "the URL names no database"),
            ("postgres://gw:hunter2@db/", "the database is empty"),
            ("postgres://db/gw", "the URL names no user"),
            ("postgres://:hunter2@db/gw", "the user is empty"),
            ("postgres://gw:hunter2@/gw", host),
            ("postgres://gw:hunter2@db,/gw", host),
            ("postgres://gw:hunter2@db:0/gw", host),
            ("postgres://gw:hunter2@d b/gw", host),
            ("postgres://gw:hunter2@a,b,c,d,e/gw", "the URL names 5 hosts, at most 4 are asked"),
            ("postgres://gw:hunt/er2@db/gw", at),
            ("postgres://gw:h/unt?er2@db/gw", at),
            ("postgres://gw:hunt#er2@db/gw", "the URL has a fragment; in a password write `#` as %23"),
            ("postgres://gw:hunter2%ff@db/gw", "the password is no UTF-8"),
            ("postgres://gw:hunter2%00@db/gw", "the password has a control character"),
            ("postgres://gw@db/gw?sslmode=hunter2", "`sslmode` is none of disable, prefer, require, verify-ca, verify-full"),
            ("postgres://gw@db/gw?hunter2=1", "an option is neither `sslmode` nor `sslrootcert`, or is there twice"),
            (
                "postgres://gw@db/gw?sslmode=require&sslmode=disable",
                "an option is neither `sslmode` nor `sslrootcert`, or is there twice",
            ),
            (
                "postgres://gw@db/gw?sslrootcert=ca.pem",
                "`sslrootcert` says whom `sslmode=verify-full` or `sslmode=verify-ca` trusts: write one of these",
            ),
        ] {
            assert_eq!(StoreUrl::parse(url).unwrap_err(), why, "{url}");
        }
    }
}
