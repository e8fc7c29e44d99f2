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
    // Whether the client takes trailers is the upstream's to know.
    assert_eq!(field(&seen, "te"), Some("trailers"));
    for gone in ["authorization", "keep-alive", "proxy-authorization", "upgrade", "x-trace", "connection"] {
        assert_eq!(field(&seen, gone), None, "{gone}");
    }
}

/// B5 B6: forwarding headers of a stranger are rebuilt, and none of them changes what is decided.
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
        "X-Forwarded-Uri: /admin",
        "X-Forwarded-Port: 1",
        "X-Forwarded-Method: DELETE",
        "X-Middleware-Subrequest: /admin",
        "Forwarded: for=10.9.9.9;host=evil.test",
    ];
    let open = claims.map(|claim| claim.replace("/admin", "/health"));
    let closed = gateway.get("/api/v1/tenants/prod/nodes", &open.each_ref().map(String::as_str));
    assert_eq!((closed.status, gateway.why(&closed).as_str()), (401, "refused credential credential_missing"));
    let forged = gateway.raw("GET /health HTTP/1.1\r\nHost: a\";for=1.1.1.1;by=\"x\r\n\r\n");
    assert_eq!((forged.status, gateway.why(&forged).as_str()), (400, "refused listener host_malformed"));
    assert_eq!(upstream.count(), 0);
    assert_eq!(gateway.get("/health", &claims).status, 200);
    let seen = upstream.last();
    assert!(!seen.contains("10.9.9.9") && !seen.contains("evil.test") && !seen.contains("/admin"), "{seen}");
    assert!(!seen.contains("DELETE") && !seen.contains("-port") && !seen.contains("-uri"), "{seen}");
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
