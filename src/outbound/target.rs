//! Which URLs are fetched, and from which of a host's addresses.

use std::net::{IpAddr, SocketAddr};

use http::Uri;
use http::header::HeaderValue;
use http::uri::{PathAndQuery, Scheme};
use tokio::net::lookup_host;

use crate::outbound::FetchError;
use crate::outbound::address::Kind;

/// How far in a client may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Public,
    /// Private and loopback addresses too; loopback addresses also by http.
    Inside,
}

/// A URL that may be fetched as far as its text goes.
#[derive(Debug)]
pub struct Target {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    pub is_tls: bool,
    /// For the Host header.
    pub authority: HeaderValue,
    pub path: PathAndQuery,
}

impl Target {
    /// # Errors
    /// [`FetchError::Url`].
    pub fn parse(url: &str) -> Result<Self, FetchError> {
        let wrong = |host: &str, why| FetchError::Url { host: host.to_owned(), why };
        let uri: Uri = url.parse().map_err(|_| wrong("(without host)", "it is no URL"))?;
        let (Some(authority), Some(path)) = (uri.authority(), uri.path_and_query()) else {
            return Err(wrong("(without host)", "it is no URL with a host"));
        };
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(wrong(host, "a user or password in a URL is not sent"));
        }
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(_) | None => return Err(wrong(host, "only https is fetched")),
        };
        let default_port = if is_tls { 443 } else { 80 };
        let named = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong(host, "its host is no host"))?;
        Ok(Self {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(default_port),
            is_tls,
            authority: named,
            path: path.clone(),
        })
    }

    /// The addresses to connect to. All that the name has were judged: an answer that mixes outside and inside is how a
    /// name is turned against whoever asks for it.
    ///
    /// # Errors
    /// [`FetchError::Resolve`], [`FetchError::Address`].
    pub async fn addresses(&self, reach: Reach) -> Result<Vec<SocketAddr>, FetchError> {
        let unresolved = |detail: String| FetchError::Resolve { host: self.host.clone(), detail };
        let found = lookup_host((self.host.as_str(), self.port)).await.map_err(|error| unresolved(error.to_string()))?;
        let found: Vec<SocketAddr> = found.collect();
        if found.is_empty() {
            return Err(unresolved("the name has no address".to_owned()));
        }
        for address in &found {
            self.judge(address.ip(), reach)?;
        }
        Ok(found)
    }

    fn judge(&self, address: IpAddr, reach: Reach) -> Result<(), FetchError> {
        let kind = Kind::of(address);
        let rule = match kind {
            Kind::Loopback | Kind::Private if reach == Reach::Public => "only `allow_private = true` permits that",
            Kind::Loopback => return Ok(()),
            Kind::Public | Kind::Private if self.is_tls => return Ok(()),
            Kind::Public | Kind::Private => "http is for loopback addresses, everything else is fetched by https",
            Kind::LinkLocal | Kind::Multicast | Kind::Unspecified | Kind::Documentation | Kind::Reserved => {
                "nothing is fetched from there"
            }
        };
        Err(FetchError::Address { host: self.host.clone(), address, kind, rule })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(url: &str, address: &str, reach: Reach) -> String {
        let verdict = Target::parse(url).unwrap().judge(address.parse().unwrap(), reach);
        verdict.map_or_else(|error| error.to_string(), |()| "fetched".to_owned())
    }

    #[test]
    fn a_url_is_read_into_what_is_connected_to_and_what_is_asked_for() {
        for (url, host, port, authority, path) in [
            ("https://login.example.com", "login.example.com", 443, "login.example.com", "/"),
            ("https://login.example.com:8443/a/b?c=d", "login.example.com", 8443, "login.example.com:8443", "/a/b?c=d"),
            ("https://[2606:4700::1]/", "2606:4700::1", 443, "[2606:4700::1]", "/"),
            ("http://127.0.0.1/keys", "127.0.0.1", 80, "127.0.0.1", "/keys"),
        ] {
            let target = Target::parse(url).unwrap();
            let found = (&*target.host, target.port, target.authority.to_str().unwrap(), target.path.as_str());
            assert_eq!(found, (host, port, authority, path));
        }
    }

    #[test]
    fn what_is_no_plain_web_url_is_refused() {
        for (url, why) in [
            ("", "(without host): it is no URL"),
            ("/keys", "(without host): it is no URL with a host"),
            ("file:///etc/passwd", "(without host): it is no URL"),
            ("ftp://example.com/", "example.com: only https is fetched"),
            ("https://user:secret@example.com/", "example.com: a user or password in a URL is not sent"),
            ("https://exa mple.com/", "(without host): it is no URL"),
            ("https:///keys", "(without host): it is no URL"),
        ] {
            assert_eq!(Target::parse(url).unwrap_err().to_string(), why, "{url}");
        }
    }

    /// G3
    #[test]
    fn private_addresses_want_permission_and_some_are_never_asked() {
        let private = |kind| format!("which is {kind}: only `allow_private = true` permits that");
        for (address, kind) in [("127.0.0.1", "loopback"), ("::1", "loopback"), ("10.0.0.1", "private"), ("fd00::1", "private")] {
            assert_eq!(
                judged("https://a.test/", address, Reach::Public),
                format!("a.test has the address {address}, {}", private(kind))
            );
            assert_eq!(judged("https://a.test/", address, Reach::Inside), "fetched", "{address}");
        }
        for address in ["169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "2002:a9fe:a9fe::1", "64:ff9b::a9fe:a9fe"] {
            for reach in [Reach::Public, Reach::Inside] {
                let found = judged("https://a.test/", address, reach);
                assert!(found.ends_with(": nothing is fetched from there"), "{found}");
            }
        }
        assert_eq!(judged("https://a.test/", "8.8.8.8", Reach::Public), "fetched");
    }

    /// G3
    #[test]
    fn http_is_for_loopback_addresses_with_permission() {
        let rule = "http is for loopback addresses, everything else is fetched by https";
        assert_eq!(judged("http://a.test/", "127.0.0.1", Reach::Inside), "fetched");
        assert_eq!(
            judged("http://a.test/", "10.0.0.1", Reach::Inside),
            format!("a.test has the address 10.0.0.1, which is private: {rule}")
        );
        for reach in [Reach::Public, Reach::Inside] {
            let found = judged("http://a.test/", "8.8.8.8", reach);
            assert_eq!(found, format!("a.test has the address 8.8.8.8, which is public: {rule}"));
        }
    }
}
