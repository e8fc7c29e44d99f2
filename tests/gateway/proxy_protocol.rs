//! The PROXY protocol in front of HTTP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Authority, Caller, Gateway, Upstream, pause_for, until};

const TRUSTED: &str = "proxy_protocol = \"required\"\ntrusted_proxies = [\"127.0.0.1/32\", \"192.0.2.0/24\"]\n";
const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn start(upstream: &Upstream, listener: &str) -> Gateway {
    Gateway::start_with(listener, &open(upstream))
}

/// An API that lets everybody in.
fn open(upstream: &Upstream) -> String {
    let route = "[[api.route]]\nname = \"open\"\npath = \"/hello\"\npublic = true\n";
    format!("[[api]]\ncontract = \"native\"\nupstream = \"{}\"\n{route}", upstream.url())
}

/// Sends the parts one after the other and reads to the end.
fn say(gateway: &Gateway, parts: &[&[u8]]) -> String {
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    for part in parts {
        // A connection that is closed in between has said what it has to say.
        if socket.write_all(part).is_err() {
            break;
        }
        if parts.len() > 2 {
            pause_for(Duration::from_millis(2));
        }
    }
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The address that the log gives for a request after this header.
fn client_after(gateway: &Gateway, header: &[u8]) -> String {
    let before = gateway.log().len();
    let answer = say(gateway, &[header, REQUEST]);
    assert!(answer.starts_with("HTTP/1.1 200"), "{header:?}: {answer}");
    let line = until("the log line", || gateway.log().into_iter().nth(before));
    line["client_ip"].as_str().unwrap().to_owned()
}

fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[0x20 | command, family], &length, rest].concat()
}

const V4: [u8; 12] = [203, 0, 113, 9, 192, 0, 2, 1, 0xc7, 0x38, 1, 187];

#[test]
fn the_client_is_the_one_that_the_header_names() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, TRUSTED);
    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0, 1, 0, 2]].concat();
    let long = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    for (header, client) in [
        (b"PROXY TCP4 203.0.113.9 192.0.2.1 51000 443\r\n".to_vec(), "203.0.113.9"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 51000 443\r\n".to_vec(), "2001:db8::7"),
        (format!("PROXY TCP6 {long} {long} 65535 65535\r\n").into_bytes(), long),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (format!("PROXY UNKNOWN {long} {long} 65535 65535\r\n").into_bytes(), "127.0.0.1"),
        (binary(1, 0x11, &V4), "203.0.113.9"),
        (binary(1, 0x21, &v6), "2001:db8::7"),
        // What a proxy adds is passed over, also as much of it as there can be.
        (binary(1, 0x11, &[&V4[..], &[1, 0, 2, b'h', b'2']].concat()), "203.0.113.9"),
        (binary(1, 0x11, &[&V4[..], &vec![4; 65535 - 12]].concat()), "203.0.113.9"),
        (binary(0, 0x00, &[]), "127.0.0.1"),
        (binary(0, 0x11, &V4), "127.0.0.1"),
        (binary(1, 0x00, &V4), "127.0.0.1"),
    ] {
        assert_eq!(client_after(&gateway, &header), client);
    }
    let bytes: Vec<&[u8]> = b"PROXY TCP4 203.0.113.8 192.0.2.1 51000 443\r\n".chunks(1).chain([REQUEST]).collect();
    assert!(say(&gateway, &bytes).starts_with("HTTP/1.1 200"));
    let header = binary(1, 0x11, &V4);
    let bytes: Vec<&[u8]> = header.chunks(1).chain([REQUEST]).collect();
    assert!(say(&gateway, &bytes).starts_with("HTTP/1.1 200"));
    assert_eq!(upstream.count(), 14);
}

/// The header is the word of a peer: what stands in X-Forwarded-For counts only where that peer is a trusted proxy too.
#[test]
fn a_header_and_an_address_header_are_one_chain() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, TRUSTED);
    let client = |source: &str, forwarded: &str| {
        let before = gateway.log().len();
        let header = format!("PROXY TCP4 {source} 192.0.2.1 51000 443\r\n");
        let request =
            format!("GET /hello HTTP/1.1\r\nHost: api.test\r\nX-Forwarded-For: {forwarded}\r\nConnection: close\r\n\r\n");
        assert!(say(&gateway, &[header.as_bytes(), request.as_bytes()]).starts_with("HTTP/1.1 200"));
        until("the log line", || gateway.log().into_iter().nth(before))["client_ip"].as_str().unwrap().to_owned()
    };
    assert_eq!(client("203.0.113.9", "198.51.100.1"), "203.0.113.9");
    assert_eq!(client("192.0.2.7", "198.51.100.1"), "198.51.100.1");
}

#[test]
fn a_connection_without_a_right_header_is_closed() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, TRUSTED);
    let too_long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
    for header in [
        &b""[..],
        b"PROXY TCP4 203.0.113.9 192.0.2.1 51000\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 51000 443\n",
        b"PROXY TCP4 2001:db8::7 192.0.2.1 51000 443\r\n",
        b"proxy TCP4 203.0.113.9 192.0.2.1 51000 443\r\n",
        too_long.as_bytes(),
        &binary(2, 0x11, &V4),
        &binary(1, 0x12, &V4),
        &binary(1, 0x31, &[0; 216]),
        &binary(1, 0x11, &V4[..11]),
        &[SIGNATURE, &[0x11, 0x11, 0, 12], &V4].concat(),
    ] {
        assert_eq!(say(&gateway, &[header, REQUEST]), "", "{header:?}");
    }
    // A second header is a request line, and none that HTTP knows.
    let twice = say(&gateway, &[b"PROXY UNKNOWN\r\nPROXY UNKNOWN\r\n", REQUEST]);
    assert!(twice.starts_with("HTTP/1.1 400"), "{twice}");
    assert_eq!(upstream.count(), 0);
    let said = || gateway.stderr().matches("the connection does not begin with a PROXY header").count();
    assert_eq!(until("the warning", || Some(said()).filter(|count| *count > 0)), 1, "{}", gateway.stderr());
}

#[test]
fn only_a_trusted_proxy_may_send_the_header() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "proxy_protocol = \"required\"\ntrusted_proxies = [\"192.0.2.0/24\"]\n");
    assert_eq!(say(&gateway, &[b"PROXY TCP4 203.0.113.9 192.0.2.1 51000 443\r\n", REQUEST]), "");
    assert_eq!(upstream.count(), 0);
    let said = || gateway.stderr().contains("only trusted_proxies may send one");
    assert_eq!(until("the warning", || said().then_some(1)), 1);
}

/// Where no header is wanted, it is what it looks like: a malformed request.
#[test]
fn a_header_that_is_not_wanted_is_no_request() {
    let upstream = Upstream::start();
    let gateway = start(&upstream, "trusted_proxies = [\"127.0.0.1/32\"]\n");
    let answer = say(&gateway, &[b"PROXY TCP4 203.0.113.9 192.0.2.1 51000 443\r\n", REQUEST]);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_header_stands_before_tls_and_has_the_time_of_a_handshake() {
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let api = open(&upstream);
    let tls =
        "tls = { certificates = [{ cert_file = \"api.pem\", key_file = \"api.key\" }] }\ntimeouts = { handshake = \"300ms\" }\n";
    let mut gateway = Gateway::prepare(&format!("{TRUSTED}{tls}"), &api);
    authority.server(&["api.test"]).save(gateway.folder.path(), "api");
    gateway.restart();
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.write_all(b"PROXY TCP4 203.0.113.9 192.0.2.1 51000 443\r\n").unwrap();
    let mut secured = Caller::of(&authority).over(socket, "api.test").unwrap();
    assert_eq!(secured.get("api.test", "/hello").unwrap().0, 200);
    let line = until("the log line", || gateway.log().into_iter().next());
    assert_eq!(line["client_ip"], "203.0.113.9");
    // Half of a header, and then nothing.
    assert_eq!(say(&gateway, &[b"PROXY TCP4 203.0.113"]), "");
    assert_eq!(upstream.count(), 1);
}
