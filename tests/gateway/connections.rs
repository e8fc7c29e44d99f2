//! One connection, many requests: each is judged for itself, and each byte belongs to one request.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Answer, Client, Gateway, Upstream, until};

const NODES: &str = "/api/v1/tenants/prod/nodes";

/// Sends everything at once and reads until the gateway closes: the status of each answer. A client that closes its own
/// half first would only show that hyper takes it for gone.
pub fn statuses(gateway: &Gateway, bytes: &str) -> Vec<u16> {
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    socket.write_all(bytes.as_bytes()).unwrap();
    let mut answers = Vec::new();
    let mut buffer = [0; 4096];
    // A reset after the last answer is an end too.
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answers.extend_from_slice(&buffer[..count]),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "left open after {bytes:?}");
                break;
            }
        }
    }
    let text = String::from_utf8(answers).unwrap();
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer.split(' ').next().unwrap().parse().unwrap()).collect()
}

fn told<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// E7, B1: callers take turns on one connection, and each request tells of its own caller or of nobody.
#[test]
fn a_connection_remembers_no_caller() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    let users: Vec<(String, String)> = ["ann", "bob"]
        .map(|name| (gateway.add_user(name, "correct horse", &["prod=viewer"]), gateway.login(name, "correct horse").0))
        .into();
    let mut client = Client::connect(gateway.address);
    for round in 0..20 {
        let (id, token) = &users[round % 2];
        let cases = [
            (NODES, format!("Authorization: Bearer {token}\r\n"), 200, Some(id.as_str())),
            (NODES, String::new(), 401, None),
            ("/health", String::new(), 200, None),
            (NODES, format!("Authorization: Bearer {token}x\r\n"), 401, None),
        ];
        for (path, credential, status, caller) in cases {
            upstream.forget();
            client.send(format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n{credential}\r\n"));
            assert_eq!(client.receive().status, status, "{path} in round {round}");
            assert_eq!(upstream.count(), usize::from(status == 200));
            assert_eq!(told(&upstream.last(), "x-auth-user-id"), caller, "{path} in round {round}");
            assert_eq!(told(&upstream.last(), "authorization"), None);
        }
    }
}

/// C15: pipelined requests are answered in their order; the first that is no HTTP ends the connection.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n\r\n");
    let mixed: String = (0..50).map(|n| if n % 3 == 0 { get(NODES) } else { get(&format!("/health?n={n}")) }).collect();
    let expected: Vec<u16> = (0..50).map(|n| if n % 3 == 0 { 401 } else { 200 }).chain([401]).collect();
    let last = format!("GET {NODES} HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n");
    assert_eq!(statuses(&gateway, &format!("{mixed}{last}")), expected);
    let seen: Vec<String> = upstream.requests().iter().map(|request| request.lines().next().unwrap().to_owned()).collect();
    let sent: Vec<String> = (0..50).filter(|n| n % 3 != 0).map(|n| format!("GET /health?n={n} HTTP/1.1")).collect();
    assert_eq!(seen, sent);
    upstream.forget();
    let broken = format!("{}GET /health HTTP/1.1\r\nHost : api.test\r\n\r\n{}", get("/health").repeat(9), get("/health"));
    let answers = statuses(&gateway, &broken);
    assert_eq!(answers, [[200; 9].as_slice(), &[400]].concat());
    assert_eq!(upstream.count(), 9);
    let refused = || gateway.log().iter().filter(|line| line["reason"] == "head_malformed").count();
    until("the log line", || (refused() > 0).then_some(()));
    assert_eq!(refused(), 1);
}

/// C12: the body of a request that was refused before it was read is never taken for the next request.
#[test]
fn the_unread_body_of_a_refused_request_is_no_request() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    let smuggled = "GET /health?smuggled HTTP/1.1\r\nHost: api.test\r\n\r\n";
    let sound = "GET /health?sound HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";
    let chunk = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    let length = format!("Content-Length: {}", smuggled.len());
    for (what, framing, body, expected) in [
        ("a length", length.as_str(), smuggled, [401, 200].as_slice()),
        ("chunks", "Transfer-Encoding: chunked", &chunk, &[401, 200]),
        ("a length that never comes", "Content-Length: 100000", smuggled, &[401]),
    ] {
        upstream.forget();
        let request = format!("POST {NODES} HTTP/1.1\r\nHost: api.test\r\n{framing}\r\n\r\n{body}{sound}");
        let answers = statuses(&gateway, &request);
        // What follows the body is the next request; where the body does not end, nothing follows.
        assert_eq!(answers, expected, "{what}");
        let seen: Vec<String> = upstream.requests().iter().map(|request| request.lines().next().unwrap().to_owned()).collect();
        assert_eq!(seen, vec!["GET /health?sound HTTP/1.1"; expected.len() - 1], "{what}");
    }
}

/// Fields that two parsers could read in two ways, each with the reason that it is refused for.
const DOUBTFUL: &[(&str, &str)] = &[
    ("Content-Length: 5\r\nTransfer-Encoding: chunked", "framing_ambiguous"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5", "framing_ambiguous"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 0", "framing_ambiguous"),
    ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", "framing_ambiguous"),
    ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "framing_ambiguous"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "framing_ambiguous"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "framing_ambiguous"),
    ("Transfer-Encoding: gzip, chunked", "framing_ambiguous"),
    ("Transfer-Encoding: ,chunked", "framing_ambiguous"),
    ("Transfer-Encoding: xchunked", "framing_ambiguous"),
    ("Transfer-Encoding: chunked;q=1", "framing_ambiguous"),
    ("Transfer-Encoding: chunked\r\n , identity", "head_malformed"),
    ("Transfer-Encoding : chunked", "head_malformed"),
    ("Transfer-Encoding: \x0bchunked", "head_malformed"),
    ("Transfer-Encoding: chunked\nX-A: a", "head_malformed"),
    ("Content-Length: +5", "framing_ambiguous"),
    ("Content-Length: 5,5", "framing_ambiguous"),
    ("Content-Length: 5, 6", "framing_ambiguous"),
    ("Content-Length: 5 5", "framing_ambiguous"),
    ("Content-Length:", "framing_ambiguous"),
    ("Content-Length: 5\r\nContent-Length: 5", "framing_ambiguous"),
    ("Content-Length: 5\r\nContent-Length: 6", "framing_ambiguous"),
    ("Content-Length: 0x5", "framing_ambiguous"),
    ("Content-Length: -1", "framing_ambiguous"),
    ("Content-Length: 18446744073709551616", "framing_ambiguous"),
    (": x", "head_malformed"),
    (" folded: x", "head_malformed"),
    ("X-A: a\r\n b", "head_malformed"),
    ("X-A: a\r\n\tb", "head_malformed"),
    ("X-A: a\0b", "head_malformed"),
    ("X-\0A: b", "head_malformed"),
    ("X-A: a\rb", "head_malformed"),
    ("no colon", "head_malformed"),
    ("Host: other.test", "host_missing"),
];

/// C1 C2 C3 C7: framing and fields that two parsers could read in two ways are refused in the API's words, with a line in
/// the log, and end the connection; what follows is no request.
#[test]
fn framing_that_can_be_read_in_two_ways_smuggles_nothing() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_with(
        "default_api = \"infracast\"",
        &format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n", upstream.url()),
    );
    let tail = "0\r\n\r\nGET /health?smuggled HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";
    for method in ["GET", "POST"] {
        for (fields, reason) in DOUBTFUL {
            let answer =
                refused(&gateway, &format!("{method} /health?secret HTTP/1.1\r\nHost: api.test\r\n{fields}\r\n\r\n{tail}"));
            assert_eq!(answer.status, 400, "{method} {fields:?}");
            assert_eq!(answer.json()["error"]["code"], "BAD_REQUEST", "{method} {fields:?}");
            let line = gateway.logged(&answer);
            assert_eq!(line["reason"], *reason, "{method} {fields:?}: {line}");
            assert_eq!((&line["method"], &line["path"]), (&method.into(), &"/health".into()), "{line}");
        }
    }
    assert_eq!(upstream.count(), 0);
    assert!(!gateway.everything_written().contains("secret"));
}

/// Sends bytes whose head is refused: the one answer, after which the connection ends.
fn refused(gateway: &Gateway, bytes: &str) -> Answer {
    let mut client = Client::connect(gateway.address);
    client.send(bytes);
    let answer = client.receive();
    assert_eq!(answer.header("connection"), Some("close"), "{bytes:?}");
    assert!(client.is_closed(), "{bytes:?}");
    answer
}

/// C4 C16: what is no HTTP/1 is refused and never waited for: older and newer versions, TLS and other protocols.
#[test]
fn what_is_no_http_1_is_refused_at_once() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    for (bytes, method, reason) in [
        ("GET /health\r\n", "GET", "head_malformed"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI", "head_malformed"),
        ("GET /health HTTP/1.2\r\nHost: api.test\r\n\r\n", "GET", "head_malformed"),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03", "-", "head_malformed"),
        ("SSH-2.0-OpenSSH_9.6\r\n", "-", "head_malformed"),
        ("GET  /health HTTP/1.1\r\nHost: api.test\r\n\r\n", "GET", "head_malformed"),
        ("GET /health HTTP/1.1\nHost: api.test\n\n", "GET", "head_malformed"),
        ("POST /health HTTP/1.0\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "POST", "framing_ambiguous"),
    ] {
        let answer = refused(&gateway, bytes);
        let line = gateway.logged(&answer);
        assert_eq!((answer.status, &line["method"], &line["reason"]), (400, &method.into(), &reason.into()), "{bytes:?}");
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(gateway.get("/health", &[]).status, 200);
}

/// Chunked bodies that break, up to the byte that is wrong.
const BROKEN_CHUNKS: &[&str] = &[
    "5 ;a\r\nhello\r\n",
    "5 \r\nhello\r\n",
    "0x5\r\nhello\r\n",
    "+5\r\nhello\r\n",
    "5_0\r\nhello\r\n",
    "\r\nhello\r\n",
    "5;a\nhello\r\n",
    "5;a\rb\r\nhello\r\n",
    "5\nhello\r\n",
    "5\r\nhello!\r\n",
    "5\r\nhello\n",
    "5\r\nhello0\r\n\r\n",
    "f0000000000000003\r\nabc\r\n",
    "00000000000000005\r\nhello\r\n",
    "0\r\nX-A: a\nX-B: b\r\n\r\n",
    "0\r\n X-A: a\r\n\r\n",
    "0\r\nno colon\r\n\r\n",
];

/// C5 C6: a chunked body that two parsers could read in two ways is a 400 and ends the connection; nothing after the
/// first wrong byte is a request, and no upstream takes the body for whole.
#[test]
fn a_broken_chunk_ends_the_body_and_the_connection() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"native\"\nendpoints = \"none\"\n[[api.route]]\nname = \"public\"\n\
         path = \"/public/**\"\npublic = true\n",
        upstream.url()
    ));
    let tail = "0\r\n\r\nGET /public/smuggled HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";
    let huge = [format!("5;{}\r\nhello\r\n", "e".repeat(16 << 10)), format!("0\r\nX: {}\r\n\r\n", "t".repeat(64 << 10))];
    for chunks in BROKEN_CHUNKS.iter().copied().chain(huge.iter().map(String::as_str)) {
        let head = "POST /public/a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut client = Client::connect(gateway.address);
        client.send(format!("{head}{chunks}{tail}"));
        let answer = client.receive();
        assert_eq!((answer.status, gateway.why(&answer).as_str()), (400, "refused listener body_broken"), "{chunks:.40?}");
        assert!(client.is_closed(), "{chunks:.40?}");
    }
    let seen = upstream.requests();
    assert!(seen.iter().all(|request| !request.contains("smuggled") && !request.ends_with("0\r\n\r\n")), "{seen:?}");
}

/// HTTP/1.0 has the same rules: no Host is no API, and nothing stays open that was not asked for.
#[test]
fn http_1_0_is_judged_by_the_same_rules() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    let ask = |head: &str| {
        let mut client = Client::connect(gateway.address);
        client.send(format!("{head}\r\n\r\n"));
        let answer = client.receive();
        assert!(client.is_closed(), "{head}");
        answer
    };
    assert_eq!(ask("GET /health HTTP/1.0\r\nHost: api.test").status, 200);
    let protected = ask(&format!("GET {NODES} HTTP/1.0\r\nHost: api.test"));
    assert_eq!((protected.status, gateway.why(&protected)), (401, "refused credential credential_missing".to_owned()));
    let nowhere = ask("GET /health HTTP/1.0");
    assert_eq!((nowhere.status, gateway.why(&nowhere)), (400, "refused listener host_missing".to_owned()));
    assert_eq!(upstream.count(), 1);
}
