//! TLS as a client sees it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};

use crate::support::{Authority, Caller, Gateway, Issued, Upstream, until};

const PUBLIC: &str = "[[api]]\ncontract = \"native\"\noutside = \"public\"\n";

/// A gateway with TLS in front of an upstream: `pairs` are names of files in its folder, `more` is put into `tls`.
fn prepare(upstream: &Upstream, pairs: &[(&str, &Issued)], more: &str, listener: &str) -> Gateway {
    let named: Vec<String> =
        pairs.iter().map(|(name, _)| format!("{{ cert_file = \"{name}.pem\", key_file = \"{name}.key\" }}")).collect();
    let tls = format!("tls = {{ certificates = [{}]{more} }}\n{listener}", named.join(", "));
    let gateway = Gateway::prepare(&tls, &format!("{PUBLIC}upstream = \"{}\"\n", upstream.url()));
    pairs.iter().for_each(|(name, issued)| issued.save(gateway.folder.path(), name));
    gateway
}

fn start(upstream: &Upstream, pairs: &[(&str, &Issued)], more: &str) -> Gateway {
    let mut gateway = prepare(upstream, pairs, more, "");
    gateway.restart();
    gateway
}

#[test]
fn a_request_by_tls_reaches_the_upstream() {
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let gateway = start(&upstream, &[("api", &authority.server(&["api.test"]))], "");
    for versions in [&[&TLS13], &[&TLS12]] {
        let caller = Caller::with(&authority, None, versions, &["http/1.1"]);
        let mut secured = caller.connect(gateway.address, "api.test").unwrap();
        assert_eq!(secured.stream.conn.protocol_version(), Some(versions[0].version));
        assert_eq!(secured.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let (status, text) = secured.get("api.test", "/hello").unwrap();
        assert_eq!((status, text.ends_with("{\"ok\":true}")), (200, true), "{text}");
    }
    assert_eq!(upstream.count(), 2);
    // In clear text nobody is answered.
    let mut plain = TcpStream::connect(gateway.address).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(upstream.count(), 2);
}
