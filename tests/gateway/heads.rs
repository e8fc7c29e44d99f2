//! Heads at their limits and odd names in them: what is refused, and how a name arrives that is more than a word.

use crate::support::{Answer, Client, Gateway, Upstream};

fn assert_refused(gateway: &Gateway, answer: &Answer, reason: &str, what: &str) {
    let body = r#"{"error":{"code":"HEADERS_TOO_LARGE","message":"The request headers are too large"}}"#;
    assert_eq!((answer.status, answer.body.as_str()), (431, body), "{what}");
    assert_eq!(gateway.why(answer), format!("refused listener {reason}"), "{what}");
}

fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::start_with(
        "default_api = \"infracast\"",
        &format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n", upstream.url()),
    )
}

fn fields(request: &str, name: &str) -> Vec<String> {
    let named =
        |line: &str| line.split_once(": ").filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_owned());
    request.lines().filter_map(named).collect()
}

/// B14: the limits count fields and bytes, cookies included; the last head that fits passes, the next is a 431.
#[test]
fn heads_are_counted_in_fields_and_bytes() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    // `Host` is the hundredth.
    let many = |count: usize, line: &str| -> Vec<String> { (0..count).map(|at| line.replace('#', &at.to_string())).collect() };
    let mut other = Client::connect(gateway.address);
    let ask = |lines: &[String]| gateway.get("/health", &lines.iter().map(String::as_str).collect::<Vec<_>>());
    for line in ["X-Field-#: a", "X-Same: #", "Cookie: c#=1"] {
        upstream.forget();
        assert_eq!((ask(&many(99, line)).status, upstream.count()), (200, 1), "{line}");
        let over = ask(&many(100, line));
        assert_refused(&gateway, &over, "too_many_headers", line);
        assert_eq!(upstream.count(), 1, "{line}");
    }
    let large = |bytes: usize| vec![format!("X-Large: {}", "x".repeat(bytes))];
    assert_eq!(ask(&large(32_000)).status, 200);
    assert_refused(&gateway, &ask(&large(32_768)), "head_too_large", "32 KiB");
    other.send("GET /health HTTP/1.1\r\nHost: api.test\r\n\r\n");
    assert_eq!(other.receive().status, 200, "a connection from before still lives");
}

/// B14: heads that no buffer would hold are refused like the others, before they have ended; nothing is forwarded and
/// others are served.
#[test]
fn heads_beyond_every_buffer_are_refused() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for (lines, reason) in [
        (format!("X-Large: {}", "x".repeat(65_536)), "head_too_large"),
        (format!("X-Large: {}", "x".repeat(1_000_000)), "head_too_large"),
        (vec!["X-Tiny: 1"; 2000].join("\r\n"), "too_many_headers"),
    ] {
        let answer = gateway.raw(format!("GET /health HTTP/1.1\r\nHost: api.test\r\n{lines}\r\n\r\n"));
        assert_refused(&gateway, &answer, reason, reason);
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let long = gateway.raw(format!("GET /health?{} HTTP/1.1\r\nHost: api.test\r\n\r\n", "x".repeat(100_000)));
    assert_eq!((long.status, gateway.why(&long).as_str()), (414, "refused listener uri_too_long"));
    assert_eq!(upstream.count(), 0);
    assert_eq!(gateway.get("/health", &[]).status, 200);
}

/// B10 B11: a user name of any letters arrives as one value in one header.
#[test]
fn odd_user_names_arrive_escaped() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for (name, header) in [
        ("x,admin", "x,admin"),
        ("Zo\u{eb} M\u{fc}ller", "Zo%C3%AB M%C3%BCller"),
        ("50%0d%0aX-Auth-Roles: admin", "50%250d%250aX-Auth-Roles: admin"),
        ("a\"b\\c;d=e", "a\"b\\c;d=e"),
    ] {
        gateway.add_user(name, "correct horse", &["prod=viewer"]);
        let login = serde_json::json!({ "username": name, "password": "correct horse" }).to_string();
        let answer = gateway.post("/api/v1/auth/token", &[], &login);
        assert_eq!(answer.json()["user"]["username"], name);
        let bearer = format!("Authorization: Bearer {}", answer.json()["token"].as_str().unwrap());
        assert_eq!(gateway.get("/api/v1/tenants/prod/nodes", &[&bearer]).status, 200, "{name}");
        let seen = upstream.last();
        assert_eq!(fields(&seen, "x-auth-username"), [header], "{seen}");
        assert_eq!(fields(&seen, "x-auth-roles"), [""], "{seen}");
    }
}

/// B7: a trailer is no header: identity, credentials and lengths in one reach the upstream nowhere.
#[test]
fn trailers_never_become_headers() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    gateway.add_user("ann", "correct horse", &["prod=editor"]);
    let (token, _) = gateway.login("ann", "correct horse");
    let answer = gateway.raw(format!(
        "POST /api/v1/tenants/prod/nodes HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {token}\r\nTrailer: X-Auth-User-Id\r\n\
         Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Auth-User-Id: root\r\nX_Auth_Roles: admin\r\nContent-Length: 5\r\n\
         Authorization: Bearer x\r\n\r\n"
    ));
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = upstream.last();
    assert!(seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{seen}");
    for planted in ["root", "admin", "Bearer"] {
        assert!(!seen.contains(planted), "{planted}: {seen}");
    }
    assert_eq!((fields(&seen, "trailer"), fields(&seen, "content-length")), (vec![], vec![]));
}

/// A12: a HEAD is forwarded as one, and neither its answer nor its refusal has a body.
#[test]
fn a_head_request_stays_one() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let mut client = Client::connect(gateway.address);
    let mut ask = |path: &str| -> Answer {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: api.test\r\n\r\n"));
        client.receive()
    };
    let refused = ask("/api/v1/tenants/prod/nodes");
    assert_eq!((refused.status, gateway.why(&refused).as_str()), (401, "refused credential credential_missing"));
    assert_eq!(upstream.count(), 0);
    // The same connection: a body after the refusal would be read as this answer's head.
    assert_eq!(ask("/api/v1/tenants/prod/nodes").status, 401);
    assert_eq!(ask("/health").status, 200);
    assert!(upstream.last().starts_with("HEAD /health HTTP/1.1\r\n"), "{}", upstream.last());
}
