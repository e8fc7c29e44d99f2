//! Saying why: log, metrics, admin endpoints and `explain` agree.

use serde_json::Value;

use crate::support::{Gateway, Upstream};

/// `explain` gives the reason that the request itself was refused for, and changes nothing.
#[test]
fn explain_tells_what_the_request_is_told() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    gateway.add_user("ann", "correct horse", &["prod=viewer"]);
    let (token, _) = gateway.login("ann", "correct horse");
    let bearer = format!("Authorization: Bearer {token}");
    for (method, path, header) in [
        ("GET", "/api/v1/tenants/prod/nodes", "Accept: */*"),
        ("GET", "/api/v1/tenants/prod/nodes", "Authorization: Bearer junk"),
        ("GET", "/api/v1/tenants/prod/nodes", "Authorization: Bearer ic_test_a"),
        ("POST", "/api/v1/tenants/prod/nodes", bearer.as_str()),
        ("GET", "/api/v1/tenants/dev/nodes", bearer.as_str()),
        ("GET", "/nowhere", bearer.as_str()),
        ("GET", "/api/v1/a//b", bearer.as_str()),
        ("TRACE", "/api/v1/x", bearer.as_str()),
    ] {
        let answer = gateway.request(method, path, &[header], "");
        let url = format!("http://api.test{path}");
        let told: Value = serde_json::from_str(&gateway.cli_ok(&["explain", method, &url, "-H", header, "--json"], "")).unwrap();
        let line = gateway.logged(&answer);
        assert_eq!((&told["reason"], &told["stage"]), (&line["reason"], &line["stage"]), "{method} {path}");
        assert_eq!((&told["status"], &told["detail"]), (&line["status"], &line["detail"]), "{method} {path}");
        assert_eq!(told["body"], answer.body.as_str());
        assert!(!told.to_string().contains(&token), "the credential is not shown");
        let record = gateway.cli_ok(&["explain", answer.request_id()], "");
        assert_eq!(serde_json::from_str::<Value>(&record).unwrap()["reason"], line["reason"]);
    }
    let told = gateway.cli_ok(&["explain", "GET", "http://api.test/api/v1/tenants/prod/nodes", "-H", &bearer], "");
    for stage in ["route ", "admit ", "credential ", "authenticate ", "authorize ", "→ forwarded", "x-auth-tenant-role: viewer"]
    {
        assert!(told.contains(stage), "{stage}: {told}");
    }
    let offline =
        gateway.cli_ok(&["explain", "GET", "http://api.test/api/v1/tenants/prod/nodes", "-H", &bearer, "--offline"], "");
    assert!(offline.contains("→ forwarded"), "{offline}");
    assert_eq!(upstream.count(), 0);
}

/// `explain` spends nothing: it may be asked for ever.
#[test]
fn explain_spends_no_limit() {
    let upstream = Upstream::start();
    let rest = "[[api.route]]\nname = \"open\"\npath = \"/open\"\npublic = true\nlimits = [\"tight\"]\n\
                [[api.limit]]\nname = \"tight\"\nper = [\"client_ip\"]\nquota = \"1 per 1h\"\nalgorithm = \"fixed_window\"\n";
    let gateway = Gateway::start(&format!("[[api]]\nupstream = \"{}\"\ncontract = \"native\"\n{rest}", upstream.url()));
    for _ in 0..3 {
        assert!(gateway.cli_ok(&["explain", "GET", "http://api.test/open"], "").contains("→ forwarded"));
    }
    assert_eq!([gateway.get("/open", &[]).status, gateway.get("/open", &[]).status], [200, 429]);
    let told = gateway.cli_ok(&["explain", "GET", "http://api.test/open"], "");
    assert!(told.contains("refused: 429 over_limit"), "{told}");
}

/// A10: health is the admin listener's; the metrics count by route, class and reason.
#[test]
fn the_admin_listener_shows_health_and_numbers() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    assert_eq!((gateway.admin("GET /healthz").status, gateway.admin("GET /readyz").status), (200, 200));
    let refused = gateway.get("/api/v1/tenants/a/nodes", &["User-Agent: kube-probe/1.30"]);
    assert_eq!(refused.status, 401);
    gateway.get("/health", &[]);
    gateway.logged(&gateway.get("/health", &[]));
    let metrics = gateway.admin("GET /metrics").body;
    let count = |wanted: &[&str]| -> u64 {
        let line =
            metrics.lines().find(|line| line.starts_with("gateward_requests_total{") && wanted.iter().all(|w| line.contains(w)));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    };
    assert_eq!(count(&["route=\"GET /health\"", "status_class=\"2xx\"", "reason=\"none\""]), 2, "{metrics}");
    assert_eq!(
        count(&["route=\"GET /api/v1/tenants/{tenant}/nodes/**\"", "status_class=\"4xx\"", "reason=\"credential_missing\""]),
        1
    );
    assert!(metrics.contains("gateward_request_duration_seconds_bucket"), "{metrics}");
}
