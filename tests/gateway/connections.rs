//! One connection, many requests: each is judged for itself, and each byte belongs to one request.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Client, Gateway, Upstream};

const NODES: &str = "/api/v1/tenants/prod/nodes";

/// Sends everything at once and reads until the gateway closes: the status of each answer. A client that closes its own
/// half first would only show that hyper takes it for gone.
fn statuses(gateway: &Gateway, bytes: &str) -> Vec<u16> {
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

/// Fields that are read in two ways by two parsers, sent with a body that holds a request of its own.
const DOUBTFUL: &[&str] = &[
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: chunked\r\n , identity",
    "Content-Length: +5",
    "Content-Length: 5, 6",
    "Content-Length: 5\r\nContent-Length: 6",
    "Content-Length: 0x5",
    "Content-Length: -1",
    "Content-Length: 18446744073709551616",
    ": x",
    " folded: x",
    "X-A: a\r\n b",
    "X-A: a\0b",
    "no colon",
];

/// What hyper takes: chunks count, the length goes, and the connection ends after it.
///
/// Known gap: the case table wants a 400 for the last row (two lines of Transfer-Encoding, C2), and calls it better for
/// the others (C1). The raw-head guard will refuse them; then they move to the list above.
const SETTLED: &[&str] = &[
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "Transfer-Encoding: chunked\r\nContent-Length: 0",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
];

/// C1 C2 C3 C7: framing and fields that two parsers could read in two ways end the connection; what follows is no request.
#[test]
fn framing_that_can_be_read_in_two_ways_smuggles_nothing() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    let tail = "0\r\n\r\nGET /health?smuggled HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";
    for method in ["GET", "POST"] {
        let send = |fields: &str| {
            upstream.forget();
            statuses(&gateway, &format!("{method} /health HTTP/1.1\r\nHost: api.test\r\n{fields}\r\n\r\n{tail}"))
        };
        for fields in DOUBTFUL {
            assert_eq!((send(fields), upstream.count()), (vec![400], 0), "{method} {fields:?}");
        }
        for fields in SETTLED {
            // The path takes no POST.
            let taken = usize::from(method == "GET");
            let status = if method == "GET" { 200 } else { 405 };
            assert_eq!((send(fields), upstream.count()), (vec![status], taken), "{method} {fields:?}");
            let seen = upstream.requests().concat();
            assert!(!seen.contains("smuggled") && !seen.contains("content-length"), "{seen}");
            assert!(taken == 0 || seen.ends_with("transfer-encoding: chunked\r\n\r\n0\r\n\r\n"), "{seen}");
        }
    }
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
