//! Two APIs in one gateway: what is good at one says nothing at the other, unless they share a realm.

use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Upstream, until};

const REFUSED: &str = r#"{"error":{"code":"UNAUTHORIZED","message":"Invalid or expired token"}}"#;
const NODES: &str = "/api/v1/tenants/prod/nodes";

/// Two APIs, `one` at one.test and `two` at two.test, that sign with the same secret: only claims keep them apart.
struct Pair {
    upstream: Upstream,
    gateway: Gateway,
}

impl Pair {
    /// `one` and `two` are members of the two `[[api]]` sections.
    fn new(one: &str, two: &str) -> Self {
        let upstream = Upstream::start();
        let api = |name: &str, more: &str| {
            format!(
                "[[api]]\nname = \"{name}\"\nhosts = [\"{name}.test\"]\nupstream = \"{}\"\ncontract = \"infracast\"\n\
                 tokens = {{ secret_file = \"shared.key\" }}\n{more}\n",
                upstream.url()
            )
        };
        let mut gateway = Gateway::prepare("", &format!("{}{}", api("one", one), api("two", two)));
        std::fs::write(gateway.folder.path().join("shared.key"), "0123456789abcdef0123456789abcdef").unwrap();
        gateway.restart();
        Self { upstream, gateway }
    }

    fn add_admin(&self, realm: &str) {
        let arguments = ["user", "add", "root", "--id", "user-root", "--role", "admin", "--realm", realm, "--password-stdin"];
        self.gateway.cli_ok(&arguments, "correct horse");
    }

    /// `host` is the API's name; `credential` may be empty.
    fn ask(&self, host: &str, line: &str, credential: &str, body: &Value) -> Answer {
        let credential = if credential.is_empty() { String::new() } else { format!("Authorization: Bearer {credential}\r\n") };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.gateway.raw(format!(
            "{line} HTTP/1.1\r\nHost: {host}.test\r\n{credential}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn nodes(&self, host: &str, credential: &str) -> Answer {
        self.ask(host, &format!("GET {NODES}"), credential, &Value::Null)
    }

    /// Access token, refresh token.
    fn login(&self, host: &str) -> (String, String) {
        let body = json!({ "username": "root", "password": "correct horse" });
        let answer = self.ask(host, "POST /api/v1/auth/token", "", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
        (text("token"), text("refresh_token"))
    }

    /// Id and text of a new key.
    fn key(&self, host: &str, token: &str) -> (String, String) {
        let made = self.ask(host, "POST /api/v1/api-keys", token, &json!({ "name": "k", "permissions": ["admin:*"] }));
        assert_eq!(made.status, 201, "{made:?}");
        let text = |name: &str| made.json()[name].as_str().unwrap().to_owned();
        (text("id"), text("key"))
    }

    fn refused(&self, answer: &Answer, why: &str) {
        assert_eq!((answer.status, answer.body.as_str()), (401, REFUSED), "{why}");
        assert_eq!(self.gateway.why(answer), format!("refused {why}"));
    }
}

/// F4 F13 H13, IC 4: with one signing secret for two APIs, token, key and refresh token of one are nothing at the other.
#[test]
fn credentials_of_one_api_are_nothing_at_another() {
    let pair = Pair::new("", "");
    pair.add_admin("one");
    pair.add_admin("two");
    let (token, refresh) = pair.login("one");
    let (id, key) = pair.key("one", &token);
    assert_eq!([pair.nodes("one", &token).status, pair.nodes("one", &key).status], [200, 200]);
    pair.upstream.forget();
    pair.refused(&pair.nodes("two", &token), "authenticate token_issuer");
    pair.refused(&pair.nodes("two", &key), "authenticate key_unknown");
    let body = json!({ "refresh_token": refresh });
    pair.refused(&pair.ask("two", "POST /api/v1/auth/refresh", "", &body), "issuer refresh_unknown");
    assert_eq!(pair.upstream.count(), 0);
    // Its keys are not there to be seen or revoked, and an admin of the other API cannot end its sessions.
    let (stranger, _) = pair.login("two");
    let list = pair.ask("two", "GET /api/v1/api-keys", &stranger, &Value::Null).json();
    assert_eq!((&list["total"], &list["items"]), (&json!(0), &json!([])));
    let revoke = pair.ask("two", &format!("DELETE /api/v1/api-keys/{id}"), &stranger, &Value::Null);
    assert_eq!((revoke.status, pair.gateway.why(&revoke)), (404, "refused issuer record_unknown".to_owned()));
    assert_eq!(pair.ask("two", "POST /api/v1/auth/logout", &stranger, &body).status, 204);
    assert_eq!([pair.nodes("one", &token).status, pair.nodes("one", &key).status], [200, 200]);
    assert_eq!(pair.ask("one", "POST /api/v1/auth/refresh", "", &body).status, 200);
}

/// F13 H13: APIs of one realm share accounts and keys; tokens are for the API that gave them.
#[test]
fn a_shared_realm_shares_accounts_and_keys_but_no_tokens() {
    let pair = Pair::new("realm = \"main\"", "realm = \"main\"");
    pair.add_admin("main");
    let (token, refresh) = pair.login("one");
    let (_, key) = pair.key("one", &token);
    assert_eq!([pair.nodes("one", &key).status, pair.nodes("two", &key).status], [200, 200]);
    pair.refused(&pair.nodes("two", &token), "authenticate token_issuer");
    let body = json!({ "refresh_token": refresh });
    pair.refused(&pair.ask("two", "POST /api/v1/auth/refresh", "", &body), "issuer refresh_unknown");
    pair.gateway.cli_ok(&["user", "disable", "root"], "");
    until("the end of the key at both", || {
        (pair.nodes("one", &key).status == 401 && pair.nodes("two", &key).status == 401).then_some(())
    });
    pair.refused(&pair.nodes("one", &token), "authenticate account_disabled");
}

/// IC 4, H13: in one realm with one issuer it is the environment that keeps credentials of staging out.
#[test]
fn credentials_of_another_environment_are_refused() {
    let common = "realm = \"main\"\npublic_url = \"https://api.test\"\n";
    let pair = Pair::new(common, &format!("{common}environment = \"test\"\n"));
    pair.add_admin("main");
    let (token, _) = pair.login("two");
    let (_, key) = pair.key("two", &token);
    assert!(key.starts_with("ic_test_"), "{key:.8}");
    assert_eq!([pair.nodes("two", &token).status, pair.nodes("two", &key).status], [200, 200]);
    pair.upstream.forget();
    pair.refused(&pair.nodes("one", &token), "authenticate environment_foreign");
    pair.refused(&pair.nodes("one", &key), "authenticate environment_foreign");
    // The same key in this environment's clothes: its checksum no longer fits.
    pair.refused(&pair.nodes("one", &key.replacen("ic_test_", "ic_live_", 1)), "authenticate key_checksum");
    assert_eq!(pair.upstream.count(), 0);
}

/// F13: one issuer and one secret for two realms: an account id that both know is still the account of its own realm.
#[test]
fn an_account_id_of_another_realm_is_another_account() {
    let common = "public_url = \"https://api.test\"\n";
    let pair = Pair::new(common, common);
    pair.add_admin("one");
    let (token, _) = pair.login("one");
    assert_eq!(pair.nodes("one", &token).status, 200);
    pair.refused(&pair.nodes("two", &token), "authenticate account_gone");
    pair.add_admin("two");
    // The other realm's account has the same id and another epoch.
    until("the other realm to know its account", || {
        let answer = pair.nodes("two", &token);
        assert_eq!(answer.status, 401);
        (pair.gateway.why(&answer) == "refused authenticate session_ended").then_some(())
    });
    assert_eq!(pair.upstream.count(), 1);
}
