//! The client against real sockets.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::outbound::scripted::{Identity, Reply, Server};

const LIMITS: FetchLimits = FetchLimits { bytes: 1000, time: Duration::from_secs(10) };
const SHORT: FetchLimits = FetchLimits { bytes: 1000, time: Duration::from_millis(300) };

/// A client that may go to loopback addresses, with the system's certificates.
fn local() -> Client {
    Client::new(&Trust { ca_file: None, allow_private: true }).unwrap()
}

/// The same, and it believes this identity only.
fn believing(identity: &Identity) -> Client {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("ca.pem");
    identity.save(&file);
    Client::new(&Trust { ca_file: Some(file), allow_private: true }).unwrap()
}

async fn error_of(answer: impl FnMut(&str) -> Reply + Send + 'static, limits: &FetchLimits) -> String {
    let server = Server::http(answer);
    local().get(&server.url("http", "/keys"), limits).await.unwrap_err().to_string()
}

fn ca_error(text: &str) -> String {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("ca.pem");
    fs::write(&file, text).unwrap();
    let error = Client::new(&Trust { ca_file: Some(file.clone()), allow_private: false }).err().unwrap();
    error.replace(&file.display().to_string(), "FILE")
}

#[tokio::test]
async fn an_answer_over_tls_is_fetched_whole_and_asked_for_plainly() {
    let identity = Identity::of("localhost");
    let server = Server::https(&identity, |_| Reply::with("200 OK", "cache-control: public, max-age=60\r\n", "{}"));
    let fetched = believing(&identity).get(&server.url("https", "/keys?v=1"), &LIMITS).await.unwrap();
    assert_eq!(fetched, Fetched { body: Bytes::from("{}"), max_age: Some(Duration::from_mins(1)) });
    let expected = format!(
        "GET /keys?v=1 HTTP/1.1\r\nhost: localhost:{}\r\nuser-agent: gateward/{}\r\naccept: application/json\r\n\
         accept-encoding: identity\r\nconnection: close\r\n\r\n",
        server.address.port(),
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(server.heads(), [expected]);
}

#[tokio::test]
async fn a_body_that_fills_the_limit_is_fetched_in_any_framing() {
    let body = "x".repeat(LIMITS.bytes);
    let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3e8\r\n{body}\r\n0\r\n\r\n");
    let closing = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
    let early = format!("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{body}");
    for answer in [chunked, closing, early] {
        let server = Server::http(move |_| Reply::Bytes(answer.clone().into_bytes()));
        let fetched = local().get(&server.url("http", "/"), &LIMITS).await.unwrap();
        assert_eq!(fetched, Fetched { body: Bytes::from(body.clone()), max_age: None });
    }
}

/// G3
#[tokio::test]
async fn nobody_on_the_inside_is_asked_without_permission() {
    let server = Server::http(|_| Reply::ok("{}"));
    let client = Client::new(&Trust::default()).unwrap();
    let port = server.address.port();
    let rule = "only `allow_private = true` permits that";
    // "localhost" is a name that resolves to the inside.
    for url in [server.url("https", "/"), server.url("http", "/")] {
        let error = client.get(&url, &LIMITS).await.unwrap_err();
        assert!(
            matches!(error, FetchError::Address { kind: address::Kind::Loopback, rule: found, .. } if found == rule),
            "{error}"
        );
    }
    for (host, address, kind) in [
        ("127.0.0.1", "127.0.0.1", "loopback"),
        ("127.1", "127.0.0.1", "loopback"),
        ("2130706433", "127.0.0.1", "loopback"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1", "loopback"),
        ("10.0.0.1", "10.0.0.1", "private"),
    ] {
        let found = client.get(&format!("https://{host}:{port}/"), &LIMITS).await.unwrap_err().to_string();
        let bare = host.trim_matches(['[', ']']);
        assert_eq!(found, format!("{bare} has the address {address}, which is {kind}: {rule}"));
    }
    for client in [client, local()] {
        for (host, kind) in [
            ("169.254.169.254", "link-local"),
            ("2002:a9fe:a9fe::1", "reserved, or leads to an address that is not public"),
            ("64:ff9b::7f00:1", "reserved, or leads to an address that is not public"),
        ] {
            let url = if host.contains(':') { format!("https://[{host}]/") } else { format!("https://{host}/") };
            let found = client.get(&url, &LIMITS).await.unwrap_err().to_string();
            assert_eq!(found, format!("{host} has the address {host}, which is {kind}: nothing is fetched from there"));
        }
    }
    assert_eq!(server.count(), 0);
}

/// G3
#[tokio::test]
async fn a_redirect_is_named_and_not_followed() {
    let target = Server::http(|_| Reply::ok("{}"));
    let away = format!("location: {}\r\n", target.url("http", "/secret?token=1"));
    let mut error = error_of(move |_| Reply::with("302 Found", &away, ""), &LIMITS).await;
    assert_eq!(error, "localhost answered 302 Found, a redirect to localhost, which is not followed");
    error = error_of(|_| Reply::with("308 Permanent Redirect", "location: /other\r\n", ""), &LIMITS).await;
    assert_eq!(error, "localhost answered 308 Permanent Redirect, a redirect to another path of its own, which is not followed");
    error = error_of(|_| Reply::with("304 Not Modified", "", ""), &LIMITS).await;
    assert_eq!(error, "localhost answered 304 Not Modified, a redirect to nowhere, which is not followed");
    assert_eq!(target.count(), 0);
}

/// G8
#[tokio::test]
async fn only_a_plain_200_is_an_answer() {
    for status in ["404 Not Found", "500 Internal Server Error", "201 Created", "206 Partial Content"] {
        let error = error_of(move |_| Reply::with(status, "", "{}"), &LIMITS).await;
        assert_eq!(error, format!("localhost answered {status}"));
    }
    let error = error_of(|_| Reply::with("200 OK", "content-encoding: gzip\r\n", "{}"), &LIMITS).await;
    assert_eq!(error, "localhost answered in an encoding that was not asked for");
}

/// G8
#[tokio::test]
async fn a_server_that_cannot_prove_its_name_is_asked_for_nothing() {
    let (right, other, old) = (Identity::of("localhost"), Identity::of("other.test"), Identity::until("localhost", 2000));
    for (served, believed, reason) in [
        (&right, &Identity::of("localhost"), "invalid peer certificate: BadSignature"),
        (&right, &other, "invalid peer certificate: UnknownIssuer"),
        (&other, &other, "invalid peer certificate: certificate not valid for name \"localhost\""),
        (&old, &old, "invalid peer certificate: certificate expired"),
    ] {
        let server = Server::https(served, |_| Reply::ok("{}"));
        let error = believing(believed).get(&server.url("https", "/"), &LIMITS).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("no TLS with localhost: {reason}")), "{error}");
        assert_eq!(server.count(), 0);
    }
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = plain.local_addr().unwrap().port();
    let speak = std::thread::spawn(move || {
        let (mut socket, _) = plain.accept().unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        socket
    });
    let error = believing(&right).get(&format!("https://localhost:{port}/"), &LIMITS).await.unwrap_err().to_string();
    assert_eq!(error, "no TLS with localhost: received corrupt message of type InvalidContentType");
    drop(speak.join().unwrap());
}

/// G4 G6
#[tokio::test]
async fn an_answer_that_is_too_large_is_refused_by_its_length_or_as_it_comes() {
    const TOO_LARGE: &str = "the answer of localhost has more than 1000 bytes";
    let gigabyte = b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n".to_vec();
    assert_eq!(error_of(move |_| Reply::Endless(gigabyte.clone(), vec![b'x'; 1 << 16]), &LIMITS).await, TOO_LARGE);
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    assert_eq!(error_of(move |_| Reply::Endless(chunked.clone(), b"4\r\n    \r\n".repeat(1000)), &LIMITS).await, TOO_LARGE);
    let closing = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    assert_eq!(error_of(move |_| Reply::Endless(closing.clone(), vec![b' '; 1 << 16]), &LIMITS).await, TOO_LARGE);
    assert_eq!(error_of(|_| Reply::ok("x".repeat(1001)), &LIMITS).await, TOO_LARGE);
}

/// G4
#[tokio::test]
async fn a_head_without_end_is_broken_off() {
    let start = b"HTTP/1.1 200 OK\r\n".to_vec();
    let error =
        error_of(move |_| Reply::Endless(start.clone(), b"x-filler: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(100)), &LIMITS);
    assert_eq!(error.await, "localhost broke off: message head is too large");
}

/// G4 G6 G7
#[tokio::test]
async fn one_limit_of_time_holds_for_all_of_a_fetch() {
    const TOO_SLOW: &str = "localhost took longer than 300ms";
    assert_eq!(error_of(|_| Reply::Silence, &SHORT).await, TOO_SLOW);
    assert_eq!(error_of(|_| Reply::Drip(b"HTTP/1.1 200 OK\r\nx: ".to_vec()), &SHORT).await, TOO_SLOW);
    let body = b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n".to_vec();
    assert_eq!(error_of(move |_| Reply::Drip(body.clone()), &SHORT).await, TOO_SLOW);
    // Takes connections, and never speaks TLS.
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/", hole.local_addr().unwrap().port());
    let error = believing(&Identity::of("localhost")).get(&url, &SHORT).await.unwrap_err();
    assert_eq!(error.to_string(), TOO_SLOW);
}

/// G6
#[tokio::test]
async fn an_answer_that_ends_early_is_none() {
    let short = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}".to_vec();
    let error = error_of(move |_| Reply::Bytes(short.clone()), &LIMITS).await;
    assert_eq!(error, "localhost broke off: error reading a body from connection: end of file before message length reached");
    let error = error_of(|_| Reply::Bytes(b"SSH-2.0-x\r\n".to_vec()), &LIMITS).await;
    assert_eq!(error, "localhost broke off: invalid HTTP version parsed");
}

#[tokio::test]
async fn who_does_not_answer_the_door_is_named_with_the_address() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = local().get(&format!("http://{free}/"), &LIMITS).await.unwrap_err().to_string();
    assert_eq!(error, format!("127.0.0.1 cannot be reached: {free}: Connection refused (os error 111)"));
    // Never resolves (RFC 6761, section 6.4).
    let error = local().get("https://name.invalid./", &LIMITS).await.unwrap_err();
    assert!(matches!(&error, FetchError::Resolve { host, .. } if host == "name.invalid."), "{error}");
}

#[tokio::test]
async fn a_system_without_certificates_says_what_is_missing() {
    let server = Server::http(|_| Reply::ok("{}"));
    let client = Client { tls: None, reach: Reach::Inside };
    let error = client.get(&server.url("https", "/"), &LIMITS).await.unwrap_err().to_string();
    let missing = "this system has no certificates of authorities; name a file with `ca_file`";
    assert_eq!(error, format!("localhost cannot be trusted: {missing}"));
    assert_eq!(client.get(&server.url("http", "/"), &LIMITS).await.unwrap().body, "{}");
}

#[test]
fn a_ca_file_that_cannot_be_used_says_why() {
    let expected = "expected PEM, `-----BEGIN CERTIFICATE-----`";
    assert_eq!(ca_error(""), format!("`ca_file` FILE: it holds no certificate; {expected}"));
    assert_eq!(ca_error("der bytes"), format!("`ca_file` FILE: it holds no certificate; {expected}"));
    let found = ca_error("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(found.starts_with("`ca_file` FILE: certificate 1 is no certificate: "), "{found}");
    let trust = Trust { ca_file: Some("/nowhere/ca.pem".into()), allow_private: false };
    let error = Client::new(&trust).err().unwrap();
    assert_eq!(error, "`ca_file` /nowhere/ca.pem: it cannot be read: No such file or directory (os error 2)");
}

#[test]
fn of_several_cache_directives_the_strictest_holds() {
    let age = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CACHE_CONTROL, HeaderValue::from_static(value));
        }
        max_age(&headers).map(|age| age.as_secs())
    };
    assert_eq!(age(&[]), None);
    assert_eq!(age(&["public"]), None);
    assert_eq!(age(&["public, Max-Age=300, must-revalidate"]), Some(300));
    assert_eq!(age(&["max-age=300", "max-age=\"60\""]), Some(60));
    assert_eq!(age(&["max-age=300, no-store"]), Some(0));
    assert_eq!(age(&["no-cache"]), Some(0));
    assert_eq!(age(&["max-age=soon"]), None);
    assert_eq!(age(&["max-age=-1, s-maxage=5"]), None);
    assert_eq!(age(&["no-cache=\"set-cookie\""]), None);
}
