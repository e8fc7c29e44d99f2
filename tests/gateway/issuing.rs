//! The endpoints that the gateway answers itself.

use serde_json::Value;

use crate::support::{Answer, Gateway, Upstream};

const WRONG: &str = r#"{"error":{"code":"UNAUTHORIZED","message":"Invalid username or password"}}"#;
/// The test's own limit in place of the contract's, so that only the limit's own test meets it.
const NO_LIMIT: &str =
    "[[api.limit]]\nname = \"login\"\nper = [\"client_ip\"]\nquota = \"100000 per 1m\"\nalgorithm = \"fixed_window\"\n";

fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::start(&format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n{NO_LIMIT}", upstream.url()))
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn bad_request(answer: &Answer, message: &str) {
    let body = format!(r#"{{"error":{{"code":"BAD_REQUEST","message":"{message}"}}}}"#);
    assert_eq!((answer.status, answer.body.as_str()), (400, body.as_str()));
}

/// IC 19 IC 54 IC 56: the exact members of login and refresh; the refresh token stays.
#[test]
fn login_and_refresh_answer_with_exactly_their_members() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let id = gateway.add_user("ann", "correct horse", &["prod=admin"]);
    let answer = gateway.post("/api/v1/auth/token", &[], r#"{"username":"ann","password":"correct horse","tenant_id":"x"}"#);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let body = answer.json();
    assert_eq!(keys(&body), ["token", "expires_at", "refresh_token", "user"]);
    assert_eq!(keys(&body["user"]), ["id", "username", "email", "roles", "tenants"]);
    assert_eq!(body["user"]["id"], id.as_str());
    assert_eq!(body["user"]["tenants"][0]["role"], "admin");
    assert_eq!(body["expires_at"].as_str().unwrap().len(), "2024-03-16T10:00:00Z".len());
    let refresh = format!(r#"{{"refresh_token":{}}}"#, body["refresh_token"]);
    for _ in 0..2 {
        let answer = gateway.post("/api/v1/auth/refresh", &[], &refresh);
        assert_eq!((answer.status, keys(&answer.json())), (200, vec!["token", "expires_at"]));
    }
    assert_eq!(gateway.post("/api/v1/auth/login", &[], r#"{"username":"ann","password":"correct horse"}"#).status, 200);
    assert_eq!(upstream.count(), 0);
}

/// I1 I2 I6 I7: unknown, disabled and wrong are one answer; spellings of a name are one account; bad bodies are 400.
#[test]
fn failed_logins_tell_nothing() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    gateway.add_user("ann", "correct horse", &["prod=admin"]);
    gateway.add_user("off", "correct horse", &["prod=admin"]);
    gateway.cli_ok(&["user", "disable", "off"], "");
    let login = |user: &str, password: &str| {
        gateway.post("/api/v1/auth/token", &[], &serde_json::json!({ "username": user, "password": password }).to_string())
    };
    for (user, password, reason) in [
        ("nobody", "correct horse", "login_unknown"),
        ("ann", "wrong", "login_password"),
        ("ann", " correct horse", "login_password"),
        ("ann", "\u{0}", "login_password"),
        ("off", "correct horse", "login_disabled"),
        ("off", "wrong", "login_disabled"),
    ] {
        let answer = login(user, password);
        assert_eq!((answer.status, answer.body.as_str()), (401, WRONG), "{user}");
        let names: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-type", "cache-control", "x-content-type-options", "x-request-id", "content-length", "date"]);
        let line = gateway.logged(&answer);
        assert_eq!(line["reason"], reason);
        assert!(line["duration_us"].as_u64().unwrap() > 5_000, "a hash was made: {line}");
    }
    for spelling in ["Ann", " ann", "ANN "] {
        assert_eq!(login(spelling, "correct horse").status, 200, "{spelling:?}");
    }
    assert_eq!(login("ann", &"x".repeat(1024)).status, 401);
    bad_request(&login("ann", &"x".repeat(1025)), "password is longer than 1024 bytes");
    for (body, message) in [
        ("{}", "username is required"),
        (r#"{"username":"ann"}"#, "password is required"),
        (r#"{"username":"ann","password":""}"#, "password must not be empty"),
        (r#"{"username":"ann","password":null}"#, "password is required"),
        (r#"{"username":"ann","password":{"$ne":1}}"#, "password must be a string"),
        (r#"{"username":["ann"],"password":"x"}"#, "username must be a string"),
        ("[]", "the body must be a JSON object"),
        (r#"{"username":"ann""#, "the body must be a JSON object"),
    ] {
        bad_request(&gateway.post("/api/v1/auth/token", &[], body), message);
    }
    let form =
        gateway.request("POST", "/api/v1/auth/token", &["Content-Type: application/x-www-form-urlencoded"], "username=ann");
    assert_eq!((form.status, gateway.why(&form)), (415, "refused issuer media_type_unsupported".to_owned()));
    let large = gateway.post("/api/v1/auth/token", &[], &format!(r#"{{"username":"{}"}}"#, "x".repeat(20_000)));
    assert_eq!((large.status, gateway.why(&large)), (413, "refused listener body_too_large".to_owned()));
}

/// J10: logout ends the session on every credential that belongs to it.
#[test]
fn logout_ends_access_and_refresh() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    gateway.add_user("ann", "correct horse", &["prod=viewer"]);
    let (token, refresh) = gateway.login("ann", "correct horse");
    let (other, _) = gateway.login("ann", "correct horse");
    let bearer = format!("Authorization: Bearer {token}");
    let out = gateway.request("POST", "/api/v1/auth/logout", &[&bearer], "");
    assert_eq!((out.status, out.body.as_str(), out.header("content-type")), (204, "", None));
    let used = gateway.get("/api/v1/tenants/prod/nodes", &[&bearer]);
    assert_eq!((used.status, gateway.why(&used)), (401, "refused authenticate session_ended".to_owned()));
    let again = gateway.post("/api/v1/auth/refresh", &[], &format!(r#"{{"refresh_token":"{refresh}"}}"#));
    assert_eq!((again.status, gateway.why(&again)), (401, "refused authenticate session_ended".to_owned()));
    assert_eq!(gateway.get("/api/v1/tenants/prod/nodes", &[&format!("Authorization: Bearer {other}")]).status, 200);
    let junk = gateway.post("/api/v1/auth/refresh", &[], r#"{"refresh_token":"junk"}"#);
    assert_eq!((junk.status, gateway.why(&junk)), (401, "refused issuer refresh_unknown".to_owned()));
    assert_eq!(junk.body, r#"{"error":{"code":"UNAUTHORIZED","message":"Invalid or expired token"}}"#);
}

/// J4 J11: a new password ends every session, and sessions stay ended after a restart.
#[test]
fn a_new_password_ends_all_sessions_for_good() {
    let upstream = Upstream::start();
    let mut gateway = gateway(&upstream);
    gateway.add_user("ann", "correct horse", &["prod=viewer"]);
    let (token, refresh) = gateway.login("ann", "correct horse");
    let bearer = format!("Authorization: Bearer {token}");
    gateway.cli_ok(&["user", "passwd", "ann", "--password-stdin"], "battery staple");
    gateway.kill_nine();
    gateway.restart();
    assert_eq!(gateway.get("/api/v1/tenants/prod/nodes", &[&bearer]).status, 401);
    assert_eq!(gateway.post("/api/v1/auth/refresh", &[], &format!(r#"{{"refresh_token":"{refresh}"}}"#)).status, 401);
    let (fresh, _) = gateway.login("ann", "battery staple");
    assert_eq!(gateway.get("/api/v1/tenants/prod/nodes", &[&format!("Authorization: Bearer {fresh}")]).status, 200);
}

/// IC 137 IC 139, H13: creating, listing and revoking keys.
#[test]
fn keys_are_made_listed_and_revoked() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    gateway.add_user("root", "correct horse", &["admin"]);
    gateway.add_user("ann", "correct horse", &["prod=viewer"]);
    let (admin, _) = gateway.login("root", "correct horse");
    let (viewer, _) = gateway.login("ann", "correct horse");
    let bearer = format!("Authorization: Bearer {admin}");
    let create = |body: &str| gateway.post("/api/v1/api-keys", &[&bearer], body);
    let made = create(
        r#"{"name":"ci-cd-integration","tenants":["my-tenant"],"permissions":["nodes:read","findings:read"],"expires_at":"2999-03-16T00:00:00Z"}"#,
    );
    assert_eq!(made.status, 201);
    let key = made.json();
    assert_eq!(keys(&key), ["id", "name", "key", "created_at", "expires_at"]);
    assert_eq!(key["expires_at"], "2999-03-16T00:00:00Z");
    let id = key["id"].as_str().unwrap();
    assert!(id.starts_with("key-") && key["key"].as_str().unwrap().starts_with("ic_live_"), "{key}");
    let with_key = format!("Authorization: Bearer {}", key["key"].as_str().unwrap());
    assert_eq!(gateway.get("/api/v1/tenants/my-tenant/nodes", &[&with_key]).status, 200);
    assert_eq!(gateway.get("/api/v1/tenants/other/nodes", &[&with_key]).status, 403);
    let list = gateway.get("/api/v1/api-keys?page=1&per_page=1", &[&bearer]).json();
    assert_eq!(keys(&list), ["items", "total", "page", "per_page", "total_pages"]);
    assert_eq!(
        keys(&list["items"][0]),
        ["id", "name", "tenants", "permissions", "allowed_ips", "created_at", "expires_at", "last_used_at", "revoked"]
    );
    assert!(!list.to_string().contains("ic_live_"), "{list}");
    for (query, message) in
        [("page=0", "page must be a number from 1 to 4294967295"), ("per_page=501", "per_page must be a number from 1 to 500")]
    {
        bad_request(&gateway.get(&format!("/api/v1/api-keys?{query}"), &[&bearer]), message);
    }
    for (body, message) in [
        ("{}", "name is required"),
        (r#"{"name":"k","permissions":["nodes:fly"]}"#, "permissions holds an unknown permission"),
        (r#"{"name":"k","expires_at":"2020-01-01T00:00:00Z"}"#, "expires_at must be in the future"),
        (r#"{"name":"k","allowed_ips":["10.0.0.0/33"]}"#, "allowed_ips must be a list of IP addresses and CIDR networks"),
    ] {
        bad_request(&create(body), message);
    }
    let by_viewer = gateway.post("/api/v1/api-keys", &[&format!("Authorization: Bearer {viewer}")], r#"{"name":"k"}"#);
    assert_eq!((by_viewer.status, gateway.why(&by_viewer)), (403, "refused authorize scope_missing".to_owned()));
    let by_key = gateway.post("/api/v1/api-keys", &[&with_key], r#"{"name":"k"}"#);
    assert_eq!(by_key.status, 403);
    let revoke = |id: &str| gateway.request("DELETE", &format!("/api/v1/api-keys/{id}"), &[&bearer], "");
    assert_eq!([revoke(id).status, revoke(id).status], [204, 204]);
    assert_eq!(gateway.get("/api/v1/tenants/my-tenant/nodes", &[&with_key]).status, 401);
    let unknown = revoke("key-none");
    assert_eq!((unknown.status, unknown.body.as_str()), (404, r#"{"error":{"code":"NOT_FOUND","message":"no such API key"}}"#));
}

/// H14, IC 137: a key with admin:* makes keys, and none that exceeds itself.
#[test]
fn a_key_cannot_make_a_key_beyond_itself() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    gateway.add_user("root", "correct horse", &["admin"]);
    let (admin, _) = gateway.login("root", "correct horse");
    let post =
        |credential: &str, body: &str| gateway.post("/api/v1/api-keys", &[&format!("Authorization: Bearer {credential}")], body);
    let parent = post(
        &admin,
        r#"{"name":"parent","permissions":["admin:*"],"allowed_ips":["127.0.0.0/8"],"expires_at":"2998-01-01T00:00:00Z"}"#,
    );
    let parent = parent.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(post(&parent, r#"{"name":"child","allowed_ips":["127.0.0.1"]}"#).status, 201);
    bad_request(
        &post(&parent, r#"{"name":"c","allowed_ips":["10.0.0.0/8"]}"#),
        "allowed_ips must lie within the networks of the key that asks",
    );
    bad_request(
        &post(&parent, r#"{"name":"c","expires_at":"2999-01-01T00:00:00Z"}"#),
        "expires_at must not be later than that of the key that asks",
    );
    let inherited = post(&parent, r#"{"name":"heir","tenants":["prod"]}"#).json();
    assert_eq!(inherited["expires_at"], "2998-01-01T00:00:00Z");
    let heir = format!("Authorization: Bearer {}", inherited["key"].as_str().unwrap());
    assert_eq!(gateway.get("/api/v1/tenants/prod/nodes", &[&heir]).status, 200);
    assert_eq!(gateway.get("/api/v1/tenants/dev/nodes", &[&heir]).status, 403);
}

/// IC 186: a key that is made for a tenant is nothing outside it, whatever else it may there.
#[test]
fn a_key_of_a_tenant_administers_no_realm() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    gateway.add_user("root", "correct horse", &["admin"]);
    let (admin, _) = gateway.login("root", "correct horse");
    let bearer = |credential: &str| format!("Authorization: Bearer {credential}");
    let make = |body: &str| gateway.post("/api/v1/api-keys", &[&bearer(&admin)], body).json();
    let bound = make(r#"{"name":"bound","permissions":["admin:*"],"tenants":["prod"]}"#);
    let free = make(r#"{"name":"free","permissions":["admin:*"]}"#);
    let key = bearer(bound["key"].as_str().unwrap());
    upstream.forget();
    for (method, path) in [
        ("GET", "/api/v1/api-keys".to_owned()),
        ("DELETE", format!("/api/v1/api-keys/{}", free["id"].as_str().unwrap())),
        ("POST", "/api/v1/api-keys".to_owned()),
        ("GET", "/api/v1/admin/settings".to_owned()),
    ] {
        let answer = gateway.request(method, &path, &[&key, "Content-Type: application/json"], "");
        assert_eq!((answer.status, gateway.why(&answer)), (403, "refused authorize tenant_bound".to_owned()), "{method} {path}");
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(gateway.get("/api/v1/tenants/prod/nodes", &[&key]).status, 200);
    assert_eq!(gateway.get("/api/v1/admin/settings", &[&bearer(free["key"].as_str().unwrap())]).status, 200);
}

/// An upstream that judges by role must not take an admin's key that may read for the admin.
#[test]
fn a_key_is_shown_with_the_roles_that_it_stands_for() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    gateway.add_user("root", "correct horse", &["admin", "prod=editor"]);
    let (admin, _) = gateway.login("root", "correct horse");
    for (permissions, roles, role) in [(r#"["nodes:read"]"#, "", None), (r#"["admin:*"]"#, "admin", Some("editor"))] {
        let body = format!(r#"{{"name":"k","permissions":{permissions},"tenants":["prod"]}}"#);
        let made = gateway.post("/api/v1/api-keys", &[&format!("Authorization: Bearer {admin}")], &body).json();
        let key = format!("Authorization: Bearer {}", made["key"].as_str().unwrap());
        assert_eq!(gateway.get("/api/v1/tenants/prod/nodes", &[&key]).status, 200);
        let told = |name: &str| {
            let head = upstream.last();
            let line = head.lines().find_map(|line| line.split_once(": ").filter(|(known, _)| known.eq_ignore_ascii_case(name)));
            line.map(|(_, value)| value.to_owned())
        };
        assert_eq!(told("x-auth-roles").unwrap_or_default(), roles, "{permissions}");
        assert_eq!(told("x-auth-tenant-role").as_deref(), role, "{permissions}");
    }
}
