//! Who may speak to the admin listener through a browser: pages of the listener itself only.
//!
//! A page on the Internet can make its visitor's browser send requests to a loopback address. It cannot choose the Host
//! field: with a name of its own that resolves to us (DNS rebinding), that name stands there. And it cannot hide its
//! Origin.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};

/// Checks the names by which a request speaks to us. The error says what is wrong, for the operator.
pub fn judge(bound: SocketAddr, uri: &Uri, headers: &HeaderMap) -> Result<(), &'static str> {
    let host = only(headers.get_all(HOST).iter()).ok_or("the request has no Host field, or more than one")?;
    let host_allowed = host.to_str().is_ok_and(|host| is_ours(bound, host));
    let target_allowed = uri.authority().is_none_or(|authority| is_ours(bound, authority.as_str()));
    if !host_allowed || !target_allowed {
        return Err("the Host field names neither a loopback address nor the address that the admin listener is bound to");
    }
    let foreign = |origin: &[u8]| origin.strip_prefix(b"http://") != Some(host.as_bytes());
    match headers.get_all(ORIGIN).iter().any(|origin| foreign(origin.as_bytes())) {
        true => Err("the request comes from a page of another origin"),
        false => Ok(()),
    }
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    items.next().filter(|_| items.next().is_none())
}

/// Any port will do: tunnels and port mappings change it, and a rebound name is told by its name.
fn is_ours(bound: SocketAddr, authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    };
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    let Ok(address) = bare.parse::<IpAddr>() else { return false };
    // Bound to all addresses, each of them is ours; a literal address cannot be rebound.
    address.is_loopback() || address == bound.ip() || bound.ip().is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bound: &str, host: &str) -> bool {
        let headers = HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
        judge(bound.parse().unwrap(), &Uri::from_static("/healthz"), &headers).is_ok()
    }

    #[test]
    fn loopback_names_and_the_bound_address_are_ours_on_any_port() {
        for host in ["localhost", "LOCALHOST:9901", "127.0.0.1", "127.8.9.1:80", "[::1]:9901", "[::1]", "10.1.2.3:9901"] {
            assert!(answer("10.1.2.3:9901", host), "{host}");
        }
    }

    #[test]
    fn a_rebound_name_is_refused() {
        for host in [
            "evil.example",
            "evil.example:9901",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "127.0.0.1@evil.example",
            "10.9.9.9",
            "2130706433",
            "",
            ":9901",
            "localhost:",
            "localhost:80:80",
        ] {
            assert!(!answer("10.1.2.3:9901", host), "{host}");
        }
    }

    #[test]
    fn bound_to_all_addresses_a_literal_address_will_do_but_no_name() {
        assert!(answer("0.0.0.0:9901", "10.1.2.3:9901"));
        assert!(answer("[::]:9901", "[fe80::1]"));
        assert!(!answer("0.0.0.0:9901", "gateway.example"));
    }

    #[test]
    fn two_hosts_a_foreign_target_and_a_foreign_origin_are_refused() {
        let bound = "127.0.0.1:9901".parse().unwrap();
        let host = (HOST, "localhost:9901".parse().unwrap());
        let mut twice = HeaderMap::from_iter([host.clone()]);
        twice.append(HOST, "localhost:9901".parse().unwrap());
        let path = Uri::from_static("/metrics");
        assert_eq!(judge(bound, &path, &twice), Err("the request has no Host field, or more than one"));
        assert_eq!(judge(bound, &path, &HeaderMap::new()), Err("the request has no Host field, or more than one"));

        let single = HeaderMap::from_iter([host.clone()]);
        assert_eq!(judge(bound, &path, &single), Ok(()));
        assert_eq!(judge(bound, &Uri::from_static("http://localhost/metrics"), &single), Ok(()));
        let foreign = judge(bound, &Uri::from_static("http://evil.example/metrics"), &single);
        assert!(foreign.unwrap_err().starts_with("the Host field names neither"));

        let from = |origin: &str| HeaderMap::from_iter([host.clone(), (ORIGIN, origin.parse().unwrap())]);
        assert_eq!(judge(bound, &path, &from("http://localhost:9901")), Ok(()));
        for origin in ["null", "http://evil.example", "http://localhost:3000", "https://localhost:9901"] {
            assert_eq!(judge(bound, &path, &from(origin)), Err("the request comes from a page of another origin"), "{origin}");
        }
    }
}
