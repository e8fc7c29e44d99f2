//! A sixth API needs a contract file and no Rust: an invented one that is unlike the others in everything.

use serde_json::{Value, json};

use crate::support::{Gateway, Upstream};

const CONTRACT: &str = r#"
contract = "shop"
prefixes = ["/v2"]

[option.greeting]
default = "hello"
help = "what a login is greeted with"

[credentials]
order = ["header X-Shop-Token"]
kinds = [{ prefix = "shop-", kind = "api_key" }, { kind = "jwt" }]

[ids]
account = "u{random:8}"
api_key = "k{random:10}"

[token.access]
algorithm = "ES256"
typ = "shop"
ttl = "5m"
claims = { nick = "{account.username}" }

[token.refresh]
ttl = "1h"

[token.api_key]
prefix = "shop-"

[permissions]
known = ["cart:use", "cart:empty"]
default = ["cart:use"]
everything = []

[roles]
buyer = { rank = 1, scopes = ["cart:*"], everywhere = true }

[[endpoint]]
operation = "login"
on = "PUT /v2/session"
public = true
unknown_fields = "refuse"
body.mail = { type = "string", required = true, is = "login.name", message = "please" }
body.word = { type = "string", required = true, is = "login.password" }
[endpoint.answer]
status = 202
json = { result = { "pass" = "{access}", seconds = "{access.expires_in}", say = "{option.greeting}, {account.username}", plan = "{account.attributes.plan}" } }

[[endpoint]]
operation = "keys.create"
on = "POST /v2/devices"
body.label = { type = "string", required = true, matches = "[a-z]+", is = "key.name" }
[endpoint.answer]
status = 200
json = ["{key.id}", "{key.secret}", "{key.scopes}"]

[errors]
content_type = "application/vnd.shop+json"
json = { ok = false, why = "{message}", n = "{status}", ref = "{request_id}" }

[errors.when]
credential_missing = { status = 402, code = "-", message = "who?" }
credential_refused = { code = "-", message = "no" }
"credential_refused / api_key" = { status = 403, code = "-", message = "no such device" }
login_password = { status = 400, code = "-", message = "typo?" }
not_permitted = { code = "-", message = "no" }
address_refused = { code = "-", message = "no" }
bad_request = { code = "-", message = "bad: {reason}" }
invalid_body = { code = "-", message = "bad: {reason}" }
not_found = { code = "-", message = "no" }
method_not_allowed = { code = "-", message = "no" }
misdirected = { code = "-", message = "not here" }
request_timeout = { code = "-", message = "no" }
conflict = { code = "-", message = "no" }
body_too_large = { code = "-", message = "no" }
uri_too_long = { code = "-", message = "no" }
unsupported_media_type = { code = "-", message = "no" }
expectation_failed = { code = "-", message = "no" }
over_limit = { code = "-", message = "slow" }
head_too_large = { code = "-", message = "no" }
internal = { code = "-", message = "no" }
bad_gateway = { code = "-", message = "gone" }
unavailable = { code = "-", message = "no" }
gateway_timeout = { code = "-", message = "no" }

[headers]
"X-Shop" = "1"

[routes]
unmapped = "deny"

[[route]]
on = "GET /v2/carts/{id}"
scopes = ["cart:use"]

[[route]]
on = "DELETE /v2/carts/{id}"
scopes = ["cart:empty"]

[limits]
headers = "x-ratelimit"

[identity.headers]
"X-Shop-User" = "account.id"
"X-Shop-Can" = "permissions"
"#;

/// IC 1 IC 2: paths, names, statuses and shapes are the contract file's.
#[test]
fn an_invented_api_is_served_from_its_contract_file() {
    let upstream = Upstream::start();
    let config =
        format!("[[api]]\nupstream = \"{}/base\"\ncontract = \"shop.toml\"\noptions = {{ greeting = \"hi\" }}\n", upstream.url());
    let mut gateway = Gateway::prepare("", &config);
    std::fs::write(gateway.folder.path().join("shop.toml"), CONTRACT).unwrap();
    gateway.cli_ok(&["user", "add", "ann", "--role", "buyer", "--attribute", "plan=gold", "--password-stdin"], "correct horse");
    gateway.restart();
    let login = |word: &str| {
        gateway.request(
            "PUT",
            "/v2/session",
            &["Content-Type: application/json"],
            &format!(r#"{{"mail":"ann","word":"{word}"}}"#),
        )
    };
    let answer = login("correct horse");
    let body = answer.json();
    assert_eq!((answer.status, &body["result"]["seconds"]), (202, &json!(300)));
    assert_eq!((&body["result"]["say"], &body["result"]["plan"]), (&json!("hi, ann"), &json!("gold")));
    let pass = format!("X-Shop-Token: {}", body["result"]["pass"].as_str().unwrap());
    assert_eq!(gateway.get("/v2/carts/7", &[&pass]).status, 200);
    let seen = upstream.last().to_lowercase();
    assert!(seen.starts_with("get /base/v2/carts/7 http/1.1\r\n") && seen.contains("x-shop-can: cart:*\r\n"), "{seen}");
    assert!(!seen.contains("x-shop-token"), "{seen}");
    let made = gateway.post("/v2/devices", &[&pass], r#"{"label":"phone"}"#);
    let device: Value = made.json();
    assert_eq!((made.status, &device[2]), (200, &json!(["cart:use"])));
    let device = format!("X-Shop-Token: {}", device[1].as_str().unwrap());
    assert_eq!(gateway.get("/v2/carts/7", &[&device]).status, 200);
    assert_eq!(gateway.request("DELETE", "/v2/carts/7", &[&device], "").status, 403);
    for (answer, status, why) in [
        (gateway.get("/v2/carts/7", &[]), 402, "who?"),
        (gateway.get("/v2/carts/7", &["X-Shop-Token: shop-x"]), 403, "no such device"),
        (gateway.get("/v2/carts/7", &["X-Shop-Token: junk"]), 401, "no"),
        (login("wrong"), 400, "typo?"),
        (gateway.post("/v2/devices", &[&pass], r#"{"label":"Phone\n"}"#), 400, "bad: label has the wrong form"),
        (gateway.request("PUT", "/v2/session", &["Content-Type: application/json"], r#"{"word":"x"}"#), 400, "bad: mail please"),
        (gateway.get("/v2/other", &[&pass]), 403, "no"),
        (gateway.get("/other", &[&pass]), 404, "no"),
    ] {
        let body = answer.json();
        assert_eq!((answer.status, &body["why"]), (status, &json!(why)), "{answer:?}");
        assert_eq!(body, json!({ "ok": false, "why": why, "n": status, "ref": answer.request_id() }));
        assert_eq!(answer.header("content-type"), Some("application/vnd.shop+json"));
        assert_eq!(answer.header("x-shop"), Some("1"));
    }
}

/// A config that has the upstream answer its own login forwards it, untouched.
#[test]
fn endpoints_that_are_not_chosen_are_forwarded() {
    let upstream = Upstream::start();
    let rest = "[[api.route]]\nname = \"own-login\"\npath = \"/api/v1/auth/token\"\nmethods = [\"POST\"]\npublic = true\n";
    let config =
        format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\nendpoints = [\"keys.list\"]\n{rest}", upstream.url());
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.post("/api/v1/auth/token", &[], r#"{"a":1}"#).status, 200);
    assert!(upstream.last().ends_with("\r\n\r\n{\"a\":1}"), "{}", upstream.last());
}
