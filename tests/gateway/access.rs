//! Who may do what: tenants, roles, scopes, keys, addresses.

use std::process::Command;

use crate::support::{Gateway, Upstream, until};

const FORBIDDEN: &str = r#"{"error":{"code":"FORBIDDEN","message":"Insufficient permissions"}}"#;

/// Method, path below the tenant, and what `viewer`, `editor`, a key with the default scopes and a key with `admin:*` get.
const RULES: &[(&str, &str, [u16; 4])] = &[
    ("GET", "/nodes", [200, 200, 200, 200]),
    ("GET", "/nodes/n1/ports", [200, 200, 200, 200]),
    ("HEAD", "/nodes/n1", [200, 200, 200, 200]),
    ("POST", "/nodes/query", [200, 200, 200, 200]),
    ("POST", "/nodes", [403, 200, 403, 200]),
    ("PUT", "/nodes/n1", [403, 200, 403, 200]),
    ("DELETE", "/nodes/n1", [403, 200, 403, 200]),
    ("GET", "/graph/summary", [200, 200, 200, 200]),
    ("GET", "/findings/scored", [200, 200, 200, 200]),
    ("POST", "/findings/f1/accept", [403, 200, 403, 200]),
    ("POST", "/findings/run", [403, 200, 403, 200]),
    ("GET", "/jobs/j1/stream", [200, 200, 200, 200]),
    ("POST", "/jobs", [403, 200, 403, 200]),
    ("DELETE", "/jobs/j1", [403, 200, 403, 200]),
    ("POST", "/jobs/j1/start", [403, 200, 403, 200]),
    ("POST", "/reports/generate", [200, 200, 200, 200]),
    ("GET", "/settings", [200, 200, 403, 200]),
    ("PATCH", "/settings", [403, 200, 403, 200]),
];

/// IC 263, H14: every rule of the contract for every kind of caller.
#[test]
fn each_rule_holds_for_each_caller() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    gateway.add_user("view", "correct horse", &["prod=viewer"]);
    gateway.add_user("edit", "correct horse", &["prod=editor"]);
    gateway.add_user("root", "correct horse", &["admin"]);
    let (viewer, _) = gateway.login("view", "correct horse");
    let (editor, _) = gateway.login("edit", "correct horse");
    let (admin, _) = gateway.login("root", "correct horse");
    let key = |body: &str| {
        let answer = gateway.post("/api/v1/api-keys", &[&format!("Authorization: Bearer {admin}")], body);
        answer.json()["key"].as_str().unwrap().to_owned()
    };
    let plain = key(r#"{"name":"plain"}"#);
    let full = key(r#"{"name":"full","permissions":["admin:*"]}"#);
    for (method, path, expected) in RULES {
        for (credential, status) in [&viewer, &editor, &plain, &full].iter().zip(expected) {
            upstream.forget();
            let bearer = format!("Authorization: Bearer {credential}");
            let answer = gateway.request(method, &format!("/api/v1/tenants/prod{path}"), &[&bearer], "");
            assert_eq!(answer.status, *status, "{method} {path} with {:.12}", credential);
            assert_eq!(upstream.count(), usize::from(*status == 200), "{method} {path}");
            if answer.status == 403 && *method != "HEAD" {
                assert_eq!(answer.body, FORBIDDEN, "{method} {path}");
            }
        }
    }
}

/// IC 263: a role holds in its tenant; elsewhere the tenant is foreign, not absent.
#[test]
fn a_role_holds_in_its_own_tenant() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    gateway.add_user("ann", "correct horse", &["prod=viewer", "dev=editor"]);
    let (token, _) = gateway.login("ann", "correct horse");
    let bearer = format!("Authorization: Bearer {token}");
    let ask = |method: &str, tenant: &str| gateway.request(method, &format!("/api/v1/tenants/{tenant}/nodes"), &[&bearer], "");
    assert_eq!([ask("POST", "dev").status, ask("POST", "prod").status], [200, 403]);
    let foreign = ask("GET", "staging");
    assert_eq!((foreign.status, foreign.body.as_str()), (403, FORBIDDEN));
    assert_eq!(gateway.why(&foreign), "refused authorize tenant_foreign");
}

/// IC 3, IC 137: what no route lists passes with a session and not with a key; the admin paths want an admin.
#[test]
fn unmapped_paths_take_sessions_and_refuse_keys() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    gateway.add_user("ann", "correct horse", &["prod=viewer"]);
    gateway.add_user("root", "correct horse", &["admin"]);
    let (token, _) = gateway.login("ann", "correct horse");
    let (admin, _) = gateway.login("root", "correct horse");
    let created = gateway.post("/api/v1/api-keys", &[&format!("Authorization: Bearer {admin}")], r#"{"name":"k"}"#);
    let key = created.json()["key"].as_str().unwrap().to_owned();
    let ask = |path: &str, credential: &str| gateway.get(path, &[&format!("Authorization: Bearer {credential}")]);
    assert_eq!(ask("/api/v1/me", &token).status, 200);
    let refused = ask("/api/v1/me", &key);
    assert_eq!((refused.status, gateway.why(&refused)), (403, "refused authorize key_on_unmapped".to_owned()));
    assert_eq!(ask("/api/v1/admin/sso", &token).status, 403);
    assert_eq!(ask("/api/v1/admin/sso", &admin).status, 200);
    assert_eq!(ask("/other", &admin).status, 404);
    let method = gateway.request("PUT", "/api/v1/auth/token", &[], "");
    assert_eq!((method.status, method.header("allow")), (401, None), "the rest of the prefix wants a session first");
}

/// H13, IC 139: a key's allowlist; a key is refused with 403 from elsewhere.
#[test]
fn a_key_is_good_from_its_networks_only() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_with(
        "trusted_proxies = [\"127.0.0.1/32\"]",
        &format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n", upstream.url()),
    );
    gateway.add_user("root", "correct horse", &["admin"]);
    let (admin, _) = gateway.login("root", "correct horse");
    let bearer = format!("Authorization: Bearer {admin}");
    let body = r#"{"name":"restricted-key","allowed_ips":["10.0.0.0/8","192.168.1.100"]}"#;
    let key = gateway.post("/api/v1/api-keys", &[&bearer], body).json()["key"].as_str().unwrap().to_owned();
    let from = |forwarded: &str| {
        let answer = gateway.get(
            "/api/v1/tenants/prod/nodes",
            &[&format!("Authorization: Bearer {key}"), &format!("X-Forwarded-For: {forwarded}")],
        );
        (answer.status, answer)
    };
    for inside in ["10.1.2.3", "192.168.1.100", "::ffff:10.1.2.3", "8.8.8.8, 10.1.2.3"] {
        assert_eq!(from(inside).0, 200, "{inside}");
    }
    for outside in ["8.8.8.8", "192.168.1.101", "10.1.2.3, 8.8.8.8", "unknown", ""] {
        let (status, answer) = from(outside);
        assert_eq!((status, answer.body.as_str()), (403, FORBIDDEN), "{outside:?}");
        assert_eq!(gateway.why(&answer), "refused authorize key_address", "{outside:?}");
    }
}

/// M1 M2: a route's lists see one address: the connection's, or what a trusted proxy says.
#[test]
fn a_routes_lists_judge_the_clients_address() {
    let upstream = Upstream::start();
    let route = |lists: &str| {
        format!(
            "[[api]]\nupstream = \"{}\"\ncontract = \"native\"\nendpoints = \"none\"\n[[api.route]]\nname = \"open\"\npath = \"/open\"\n\
             public = true\n{lists}\n",
            upstream.url()
        )
    };
    let stranger = Gateway::start(&route("allow_ips = [\"10.0.0.0/8\"]"));
    for claim in ["X-Forwarded-For: 10.0.0.1", "Forwarded: for=10.0.0.1", "X-Real-IP: 10.0.0.1", "True-Client-IP: 10.0.0.1"] {
        let answer = stranger.get("/open", &[claim]);
        assert_eq!((answer.status, stranger.why(&answer)), (403, "refused admit address_not_allowed".to_owned()), "{claim}");
        assert_eq!(stranger.logged(&answer)["client_ip"], "127.0.0.1");
    }
    assert_eq!(upstream.count(), 0);
    let behind = Gateway::start_with(
        "trusted_proxies = [\"127.0.0.0/8\"]",
        &route("deny_ips = [\"10.6.6.0/24\"]\nallow_ips = [\"10.0.0.0/8\"]"),
    );
    for (claim, status) in [("10.0.0.1", 200), ("10.6.6.6", 403), ("11.0.0.1", 403), ("junk", 403), ("10.0.0.1, junk", 403)] {
        assert_eq!(behind.get("/open", &[&format!("X-Forwarded-For: {claim}")]).status, status, "{claim}");
    }
}

/// J11 H13: disabling an account from the command line ends its token, its key and its refresh token within two seconds.
#[test]
fn a_disabled_account_loses_everything() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    gateway.add_user("root", "correct horse", &["admin"]);
    let (token, refresh) = gateway.login("root", "correct horse");
    let bearer = format!("Authorization: Bearer {token}");
    let key = gateway.post("/api/v1/api-keys", &[&bearer], r#"{"name":"k"}"#).json()["key"].as_str().unwrap().to_owned();
    let nodes = |credential: &str| gateway.get("/api/v1/tenants/prod/nodes", &[&format!("Authorization: Bearer {credential}")]);
    assert_eq!([nodes(&token).status, nodes(&key).status], [200, 200]);
    gateway.cli_ok(&["user", "disable", "root"], "");
    until("the end of the key", || (nodes(&key).status == 401).then_some(()));
    let answer = nodes(&token);
    assert_eq!((answer.status, gateway.why(&answer)), (401, "refused authenticate account_disabled".to_owned()));
    let refreshed = gateway.post("/api/v1/auth/refresh", &[], &format!(r#"{{"refresh_token":"{refresh}"}}"#));
    assert_eq!((refreshed.status, gateway.why(&refreshed)), (401, "refused authenticate account_disabled".to_owned()));
    gateway.cli_ok(&["user", "enable", "root"], "");
    until("the key to live again", || (nodes(&key).status == 200).then_some(()));
    assert_eq!(gateway.why(&nodes(&token)), "refused authenticate session_ended");
}

/// J11: what is remembered with a verified token ends with the record of its account. The role is taken away as another
/// process would: in the store, with word of it.
#[test]
fn a_role_that_is_taken_away_is_gone_from_the_tokens_that_have_it() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    gateway.add_user("edit", "correct horse", &["prod=editor"]);
    let (token, _) = gateway.login("edit", "correct horse");
    let write = || gateway.request("POST", "/api/v1/tenants/prod/nodes", &[&format!("Authorization: Bearer {token}")], "");
    for _ in 0..3 {
        assert_eq!(write().status, 200);
    }
    let script = "import sqlite3\nc=sqlite3.connect('gateward.db')\n\
                  c.execute(\"UPDATE accounts SET tenants = replace(tenants, 'editor', 'viewer')\")\n\
                  c.execute(\"INSERT INTO changes (kind, realm, id, at) SELECT 'account', realm, id, 0 FROM accounts\")\nc.commit()";
    assert!(Command::new("python3").args(["-c", script]).current_dir(gateway.folder.path()).status().unwrap().success());
    let refused = until("the other role", || Some(write()).filter(|answer| answer.status != 200));
    assert_eq!((refused.status, refused.body.as_str()), (403, FORBIDDEN));
    assert_eq!(gateway.why(&refused), "refused authorize scope_missing");
    upstream.forget();
    assert_eq!(write().status, 403);
    assert_eq!(upstream.count(), 0);
}
