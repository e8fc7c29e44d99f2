//! Routes of gateway.toml upon those of a contract: what is named is replaced, what is not named stays.

use crate::support::{Gateway, Upstream, until};

const NODES: &str = "/api/v1/tenants/prod/nodes";

fn gateway(upstream: &Upstream, routes: &str) -> Gateway {
    let gateway = Gateway::start(&format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n{routes}", upstream.url()));
    gateway.add_user("view", "correct horse", &["prod=viewer"]);
    gateway.add_user("edit", "correct horse", &["prod=editor"]);
    gateway
}

fn bearer(gateway: &Gateway, user: &str) -> String {
    format!("Authorization: Bearer {}", gateway.login(user, "correct horse").0)
}

/// IC 263: a route that only takes a limit on is no way around the contract's scopes and tenants.
#[test]
fn an_overlay_keeps_the_scopes_that_it_does_not_name() {
    let upstream = Upstream::start();
    let routes = format!(
        "[[api.route]]\nname = \"nodes\"\npath = \"{}\"\nmethods = [\"POST\"]\naccept = [\"jwt\", \"api_key\"]\nmax_body = \"1KiB\"\n",
        "/api/v1/tenants/{tenant}/nodes"
    );
    let gateway = gateway(&upstream, &routes);
    let refused = gateway.post(NODES, &[&bearer(&gateway, "view")], "{}");
    assert_eq!((refused.status, gateway.why(&refused).as_str()), (403, "refused authorize scope_missing"));
    assert_eq!((gateway.logged(&refused)["route"].as_str(), upstream.count()), (Some("nodes"), 0));
    let editor = bearer(&gateway, "edit");
    assert_eq!(gateway.post(NODES, &[&editor], "{}").status, 200);
    let foreign = gateway.post("/api/v1/tenants/dev/nodes", &[&editor], "{}");
    assert_eq!((foreign.status, gateway.why(&foreign).as_str()), (403, "refused authorize tenant_foreign"));
}

/// IC 263: what the contract asks of one kind of credential only stays too.
#[test]
fn an_overlay_keeps_what_one_kind_must_have() {
    let upstream = Upstream::start();
    let routes = format!(
        "[[api.route]]\nname = \"rest\"\npath = \"{}\"\nmethods = [\"GET\"]\naccept = [\"jwt\", \"api_key\"]\nmax_body = \"1KiB\"\n",
        "/api/v1/tenants/{tenant}/**"
    );
    let gateway = gateway(&upstream, &routes);
    let key = gateway.cli_ok(&["key", "create", "--owner", "view", "--json"], "");
    let key: serde_json::Value = serde_json::from_str(&key).unwrap();
    let bearer = format!("Authorization: Bearer {}", key["key"].as_str().unwrap());
    until("the key to be followed", || (gateway.get(NODES, &[&bearer]).status == 200).then_some(()));
    let refused = gateway.get("/api/v1/tenants/prod/settings", &[&bearer]);
    assert_eq!((refused.status, gateway.why(&refused).as_str()), (403, "refused authorize scope_missing"));
    assert_eq!(gateway.logged(&refused)["route"], "rest");
}

/// IC 263: nor is one upon an endpoint that the gateway answers itself.
#[test]
fn an_overlay_of_the_key_endpoint_keeps_its_scope() {
    let upstream = Upstream::start();
    let routes = "[[api.route]]\nname = \"keys\"\npath = \"/api/v1/api-keys\"\nmethods = [\"POST\"]\naccept = [\"jwt\"]\n\
                  allow_ips = [\"127.0.0.0/8\"]\n";
    let gateway = gateway(&upstream, routes);
    let refused = gateway.post("/api/v1/api-keys", &[&bearer(&gateway, "view")], r#"{"name":"k"}"#);
    assert_eq!((refused.status, gateway.why(&refused).as_str()), (403, "refused authorize scope_missing"));
    assert!(!refused.body.contains("ic_live_"), "{}", refused.body);
}

/// What is named counts: the kinds, and the largest body, said beforehand or found out in chunks.
#[test]
fn an_overlay_replaces_what_it_names() {
    let upstream = Upstream::start();
    let routes = format!(
        "[[api.route]]\nname = \"nodes\"\npath = \"{}\"\nmethods = [\"POST\"]\naccept = [\"jwt\"]\nany_scope = [\"nodes:read\"]\n\
         max_body = \"1KiB\"\n",
        "/api/v1/tenants/{tenant}/nodes"
    );
    let gateway = gateway(&upstream, &routes);
    let viewer = bearer(&gateway, "view");
    assert_eq!(gateway.post(NODES, &[&viewer], &"x".repeat(1024)).status, 200);
    upstream.forget();
    let large = gateway.post(NODES, &[&viewer], &"x".repeat(1025));
    assert_eq!((large.status, gateway.why(&large).as_str()), (413, "refused listener body_too_large"));
    assert_eq!(large.body, r#"{"error":{"code":"PAYLOAD_TOO_LARGE","message":"The request body is too large"}}"#);
    assert_eq!(upstream.count(), 0);
    let chunked = gateway.raw(format!(
        "POST {NODES} HTTP/1.1\r\nHost: api.test\r\n{viewer}\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n{}\r\n0\r\n\r\n",
        "x".repeat(1025)
    ));
    assert_eq!((chunked.status, gateway.why(&chunked).as_str()), (413, "refused listener body_too_large"));
    assert_eq!(upstream.count(), 0, "no whole request has arrived");
}

/// What takes some methods only says which.
#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let upstream = Upstream::start();
    let routes = "[[api.route]]\nname = \"ui\"\npath = \"/ui\"\nmethods = [\"GET\", \"HEAD\"]\npublic = true\n";
    let gateway = gateway(&upstream, routes);
    let answer = gateway.post("/ui", &[], "{}");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(answer.body, r#"{"error":{"code":"METHOD_NOT_ALLOWED","message":"Method not allowed"}}"#);
    assert_eq!((gateway.why(&answer).as_str(), upstream.count()), ("refused route method_not_allowed", 0));
    assert_eq!(gateway.get("/ui", &[]).status, 200);
}
