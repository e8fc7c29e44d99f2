//! What the upstream is told, and by whom.

use crate::support::{Gateway, Upstream};

/// Header lines of a recorded request whose names begin like an identity header, in any spelling.
fn identity_lines(request: &str) -> Vec<String> {
    let folded = |line: &&str| line.to_lowercase().replace(['_', '.'], "-").starts_with("x-auth");
    request.lines().filter(folded).map(str::to_lowercase).collect()
}

fn field<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// B1 B2 B4, IC 5: whatever a client says of itself is gone, in every spelling; what the gateway says is there once.
#[test]
fn forged_identity_never_arrives() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    let id = gateway.add_user("ann", "correct horse", &["prod=viewer"]);
    let (token, _) = gateway.login("ann", "correct horse");
    let bearer = format!("Authorization: Bearer {token}");
    let forged = [
        "X-Auth-Roles: admin",
        "X_Auth_Roles: admin",
        "x-auth_roles: admin",
        "X.Auth.Roles: admin",
        "X-Auth-User-Id: root",
        "X-AUTH-USER-ID: root",
        "X_Auth_Permissions: admin:*",
        "X-Auth-Key-Id: key-1",
        "X-Auth-Email: root@example.com",
    ];
    let answer = gateway.get("/api/v1/tenants/prod/nodes", &[&[bearer.as_str()], forged.as_slice()].concat());
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut expected = vec![
        format!("x-auth-user-id: {id}"),
        "x-auth-username: ann".to_owned(),
        "x-auth-roles: ".to_owned(),
        "x-auth-tenant: prod".to_owned(),
        "x-auth-tenant-role: viewer".to_owned(),
        "x-auth-permissions: *:read".to_owned(),
        "x-auth-method: jwt".to_owned(),
    ];
    let mut seen = identity_lines(&upstream.last());
    expected.sort();
    seen.sort();
    assert_eq!(seen, expected);
}

/// B1: public routes tell of nobody.
#[test]
fn a_public_route_carries_no_identity() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    assert_eq!(gateway.get("/health", &["X-Auth-User-Id: root", "Authorization: Bearer x"]).status, 200);
    assert_eq!(identity_lines(&upstream.last()), Vec::<String>::new());
    assert_eq!(field(&upstream.last(), "authorization"), None);
}

/// B3 B12: what `Connection` names cannot take away what the gateway sets.
#[test]
fn connection_cannot_remove_what_is_injected() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    let id = gateway.add_user("ann", "correct horse", &["admin"]);
    let (token, _) = gateway.login("ann", "correct horse");
    let answer = gateway.get(
        "/api/v1/tenants/prod/nodes",
        &[
            &format!("Authorization: Bearer {token}"),
            "Connection: close, x-auth-user-id, X-Forwarded-For, authorization, x-request-id, TE, host, X-Trace",
            "Keep-Alive: 5",
            "Proxy-Authorization: Basic eDp5",
            "TE: trailers",
            "Upgrade: h2c",
            "X-Trace: gone",
        ],
    );
    assert_eq!(answer.status, 200);
    let seen = upstream.last();
    assert_eq!(field(&seen, "x-auth-user-id"), Some(id.as_str()));
    assert_eq!(field(&seen, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(field(&seen, "x-request-id"), Some(answer.request_id()));
    assert_eq!(field(&seen, "host"), Some("api.test"));
    for gone in ["authorization", "keep-alive", "proxy-authorization", "te", "upgrade", "x-trace", "connection"] {
        assert_eq!(field(&seen, gone), None, "{gone}");
    }
}

/// B5 B6: forwarding headers of a stranger are rebuilt.
#[test]
fn forwarding_headers_of_a_stranger_are_rebuilt() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    let claims = [
        "X-Forwarded-For: 10.9.9.9",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.test",
        "X-Forwarded-Prefix: /admin",
        "X-Real-IP: 10.9.9.9",
        "X-Original-URL: /admin",
        "X-Rewrite-URL: /admin",
        "Forwarded: for=10.9.9.9;host=evil.test",
    ];
    assert_eq!(gateway.get("/health", &claims).status, 200);
    let seen = upstream.last();
    assert!(!seen.contains("10.9.9.9") && !seen.contains("evil.test") && !seen.contains("/admin"), "{seen}");
    assert_eq!(field(&seen, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(field(&seen, "x-forwarded-proto"), Some("http"));
    assert_eq!(field(&seen, "x-forwarded-host"), Some("api.test"));
    crate::support::until("the warning", || gateway.stderr().contains("an address header was ignored").then_some(()));
}

#[test]
fn trace_parents_are_passed_on_and_started() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    let sound = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    gateway.get("/health", &[&format!("traceparent: {sound}"), "tracestate: a=b"]);
    assert_eq!(field(&upstream.last(), "traceparent"), Some(sound));
    assert_eq!(field(&upstream.last(), "tracestate"), Some("a=b"));
    let answer = gateway.get("/health", &["traceparent: 00-junk", "tracestate: a=b"]);
    let seen = upstream.last();
    let started = field(&seen, "traceparent").unwrap();
    assert!(started.starts_with(&format!("00-{}-", answer.request_id())), "{started}");
    assert_eq!(field(&seen, "tracestate"), None);
}

/// B14: too many fields or too much of them is a 431 in the API's own shape; other connections live.
#[test]
fn oversized_heads_are_refused_in_the_apis_shape() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_with(
        "default_api = \"infracast\"",
        &format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n", upstream.url()),
    );
    let long = format!("/health?{}", "x".repeat(9000));
    let answer = gateway.get(&long, &[]);
    assert_eq!((answer.status, gateway.why(&answer)), (414, "refused listener uri_too_long".to_owned()));
    assert_eq!(answer.body, r#"{"error":{"code":"URI_TOO_LONG","message":"The request target is too long"}}"#);
    assert_eq!(gateway.get("/health", &[]).status, 200);
    assert_eq!(upstream.count(), 1);
    let small = Gateway::start_with(
        "limits = { headers = 20, header_bytes = \"8KiB\", uri_bytes = \"4KiB\" }",
        &format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n", upstream.url()),
    );
    let many: Vec<String> = (0..20).map(|number| format!("X-{number}: a")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (headers, reason) in [(many.as_slice(), "too_many_headers"), (&[&format!("X: {}", "a".repeat(9000))], "head_too_large")] {
        let answer = small.get("/health", headers);
        assert_eq!((answer.status, small.why(&answer)), (431, format!("refused listener {reason}")));
        assert_eq!(answer.body, r#"{"error":{"code":"HEADERS_TOO_LARGE","message":"The request headers are too large"}}"#);
    }
    assert_eq!(small.get("/health", &many[1..]).status, 200);
    assert_eq!(upstream.count(), 2);
}

/// B8, O1: neither password, token, key nor refresh token is ever written anywhere.
#[test]
fn no_secret_is_written() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n\n[log]\nlevel = \"trace\"\n",
        upstream.url()
    ));
    gateway.add_user("ann", "planted-password-1", &["admin"]);
    let (token, refresh) = gateway.login("ann", "planted-password-1");
    let bearer = format!("Authorization: Bearer {token}");
    let created = gateway.post("/api/v1/api-keys", &[&bearer], r#"{"name":"k"}"#);
    let key = created.json()["key"].as_str().unwrap().to_owned();
    gateway.get("/api/v1/tenants/a/nodes?token=planted-query-1", &[&format!("Authorization: Bearer {key}")]);
    gateway.get("/api/v1/tenants/a/nodes", &[&format!("Authorization: Bearer {key}x")]);
    gateway.post("/api/v1/auth/token", &[], r#"{"username":"ann","password":"planted-password-2"}"#);
    gateway.post("/api/v1/auth/token", &[], r#"{"username":"ann","password":"planted-password-3"#);
    let refreshed = gateway.post("/api/v1/auth/refresh", &[], &format!(r#"{{"refresh_token":"{refresh}"}}"#));
    let last = gateway.get("/nowhere", &[&bearer]);
    gateway.logged(&last);
    let written = gateway.everything_written() + &gateway.admin("GET /metrics").body;
    let signature = token.rsplit('.').next().unwrap();
    let secret = key.split('_').nth(3).unwrap();
    let fresh = refreshed.json()["token"].as_str().unwrap().to_owned();
    for planted in ["planted-password", "planted-query", signature, secret, &refresh, fresh.rsplit('.').next().unwrap()] {
        assert!(!written.contains(planted), "{planted} was written");
        assert!(!upstream.requests().concat().contains(planted) || planted == "planted-query", "{planted} was forwarded");
    }
}

/// B13: what a stranger sends stays on one line of valid JSON.
#[test]
fn a_log_line_stays_one_line() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    let answer = gateway.get("/health", &["User-Agent: a\"b\\\u{202e}\tc"]);
    let line = gateway.logged(&answer);
    assert_eq!(line["status"], 200);
    assert!(line["user_agent"].as_str().unwrap().contains("a\"b\\"), "{line}");
}
