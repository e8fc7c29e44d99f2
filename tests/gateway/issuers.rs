//! Tokens that others sign: which are taken, and what their claims give.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Provider, Upstream, until};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const REFUSED: &str = "Invalid or expired token";
const NODES: &str = "/api/v1/tenants/prod/nodes";

/// A gateway with one provider, whose section has these members besides.
struct Stage {
    upstream: Upstream,
    provider: Provider,
    gateway: Gateway,
}

impl Stage {
    fn new(more: &str) -> Self {
        let (upstream, provider) = (Upstream::start(), Provider::start());
        let gateway = Gateway::start(&format!("{}{}", api(&upstream), section(&provider, more)));
        Self { upstream, provider, gateway }
    }

    fn ask(&self, token: &str) -> Answer {
        self.gateway.get(NODES, &[&format!("Authorization: Bearer {token}")])
    }

    /// Status and reason; a 200 has none.
    fn outcome(&self, token: &str) -> (u16, String) {
        let answer = self.ask(token);
        if answer.status == 401 {
            assert_eq!(answer.json()["error"]["message"], REFUSED);
        }
        (answer.status, self.gateway.why(&answer))
    }

    fn told(&self, name: &str) -> Option<String> {
        let head = self.upstream.last();
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    }
}

pub fn api(upstream: &Upstream) -> String {
    format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\npublic_url = \"https://api.test\"\n", upstream.url())
}

pub fn section(provider: &Provider, more: &str) -> String {
    format!(
        "[[api.issuer]]\nissuer = \"{}\"\naudience = [\"https://api.test\", \"other\"]\njwks_url = \"discover\"\n\
         allow_private = true\n{more}\n",
        provider.url()
    )
}

/// The upstream learns who calls from the claims that the config names, and nothing else of the token.
#[test]
fn a_token_of_an_issuer_says_who_calls() {
    let stage = Stage::new(
        "claims = { subject = \"sub\", roles = \"realm_access.roles\", tenant = \"org\", username = \"name\", email = \"email\" }",
    );
    let token = stage.provider.token(&json!({
        "realm_access": { "roles": ["viewer"] }, "org": "prod", "name": "J\u{fc}rgen", "email": "j@example.com", "roles": ["admin"],
    }));
    assert_eq!(stage.outcome(&token), (200, "forwarded - -".to_owned()));
    for (name, value) in [
        ("X-Auth-User-Id", Some("ext-1")),
        ("X-Auth-Username", Some("J%C3%BCrgen")),
        ("X-Auth-Email", Some("j@example.com")),
        ("X-Auth-Roles", Some("")),
        ("X-Auth-Tenant", Some("prod")),
        ("X-Auth-Tenant-Role", Some("viewer")),
        ("X-Auth-Permissions", Some("*:read")),
        ("X-Auth-Method", Some("jwt")),
        ("Authorization", None),
    ] {
        assert_eq!(stage.told(name).as_deref(), value, "{name}");
    }
    let log = stage.gateway.logged(&stage.ask(&token));
    assert_eq!(
        (log["account"].as_str(), log["credential"].as_str()),
        (Some("ext-1"), Some(format!("jwt:t-1 of {}", stage.provider.url()).as_str())),
        "{log}"
    );
}

/// F4 F9: what a token of this issuer must say, through the gateway.
#[test]
fn a_token_that_says_anything_else_is_refused() {
    let stage = Stage::new("claims = { roles = \"roles\" }");
    let admin = json!({ "roles": ["admin"] });
    let with = |name: &str, value: Value| {
        let mut claims = admin.clone();
        claims[name] = value;
        claims
    };
    assert_eq!(stage.outcome(&stage.provider.token(&admin)).0, 200);
    assert_eq!(stage.outcome(&stage.provider.token(&with("aud", json!(["x", "other"])))).0, 200);
    let forwarded = stage.upstream.count();
    for (claims, reason) in [
        (with("aud", json!("https://api.test/")), "token_audience"),
        (with("aud", json!("client-id")), "token_audience"),
        (with("aud", Value::Null), "token_claim"),
        (with("exp", json!(1_700_000_001)), "token_expired"),
        (with("exp", Value::Null), "token_claim"),
        (with("exp", json!("4000000000")), "token_claim"),
        (with("nbf", json!(3_999_999_999_u64)), "token_not_yet_valid"),
        (with("sub", Value::Null), "token_claim"),
        (with("sub", json!("a\nb")), "token_claim"),
        (with("roles", json!([1])), "token_claim"),
    ] {
        let token = stage.provider.token(&claims);
        assert_eq!(stage.outcome(&token), (401, format!("refused authenticate {reason}")), "{claims}");
    }
    for (header, reason) in [
        (json!({ "typ": "JWT" }), "token_type"),
        (json!({}), "token_type"),
        (json!({ "typ": "logout+jwt" }), "token_type"),
        (json!({ "typ": "at+jwt", "alg": "none" }), "token_algorithm"),
        (json!({ "typ": "at+jwt", "alg": "HS256" }), "token_algorithm"),
        (json!({ "typ": "at+jwt", "crit": ["exp"] }), "token_malformed"),
        (json!({ "typ": "at+jwt", "jku": "http://127.0.0.1/keys" }), "token_malformed"),
    ] {
        let token = stage.provider.signed("one", &header, &admin);
        assert_eq!(stage.outcome(&token), (401, format!("refused authenticate {reason}")), "{header}");
    }
    // Its keys, but another's name: no issuer of that name is known, and ours did not sign it.
    let strange = stage.provider.token(&with("iss", json!("https://elsewhere.test")));
    assert_eq!(stage.outcome(&strange), (401, "refused authenticate token_key_unknown".to_owned()));
    let ours = stage.provider.token(&with("iss", json!("https://api.test")));
    assert_eq!(stage.outcome(&ours), (401, "refused authenticate token_key_unknown".to_owned()));
    assert_eq!(stage.upstream.count(), forwarded);
}

/// Where both are read, a token does what its scopes and its roles allow; where only scopes are, they are all.
#[test]
fn scopes_and_roles_bound_each_other() {
    let both = Stage::new("claims = { roles = \"roles\", scopes = \"scope\" }");
    for (claims, expected) in [
        (json!({ "roles": ["admin"], "scope": "openid nodes:read" }), (200, "forwarded - -")),
        (json!({ "roles": ["admin"], "scope": "findings:read" }), (403, "refused authorize scope_missing")),
        (json!({ "roles": ["admin"] }), (403, "refused authorize scope_missing")),
        (json!({ "scope": "nodes:read" }), (403, "refused authorize tenant_foreign")),
    ] {
        assert_eq!(both.outcome(&both.provider.token(&claims)), (expected.0, expected.1.to_owned()), "{claims}");
    }
    assert_eq!(both.outcome(&both.provider.token(&json!({ "roles": ["admin"], "scope": "nodes:read" }))).0, 200);
    assert_eq!(
        (both.told("X-Auth-Roles").as_deref(), both.told("X-Auth-Permissions").as_deref()),
        (Some(""), Some("nodes:read"))
    );
    let scopes = Stage::new("claims = { scopes = \"scp\", tenant = \"org\" }");
    for (claims, expected) in [
        (json!({ "org": "prod", "scp": ["nodes:read"] }), (200, "forwarded - -")),
        (json!({ "org": "dev", "scp": ["nodes:read"] }), (403, "refused authorize tenant_foreign")),
        (json!({ "org": "prod", "scp": ["findings:read"] }), (403, "refused authorize scope_missing")),
        (json!({ "org": "prod", "roles": ["admin"] }), (403, "refused authorize scope_missing")),
        (json!({ "scp": ["admin:*"] }), (401, "refused authenticate token_claim")),
    ] {
        assert_eq!(scopes.outcome(&scopes.provider.token(&claims)), (expected.0, expected.1.to_owned()), "{claims}");
    }
    let realm = scopes.provider.token(&json!({ "org": "prod", "scp": ["admin:*"] }));
    let answer = scopes.gateway.get("/api/v1/api-keys", &[&format!("Authorization: Bearer {realm}")]);
    assert_eq!((answer.status, scopes.gateway.why(&answer)), (403, "refused authorize tenant_bound".to_owned()));
}

/// Keys belong to accounts, and a session is ours to end only where we began it.
#[test]
fn a_subject_without_an_account_is_given_no_keys() {
    let stage = Stage::new("claims = { roles = \"roles\" }");
    let bearer = format!("Authorization: Bearer {}", stage.provider.token(&json!({ "roles": ["admin"] })));
    let answer = stage.gateway.post("/api/v1/api-keys", &[&bearer], r#"{"name":"k"}"#);
    assert_eq!((answer.status, stage.gateway.why(&answer)), (403, "refused issuer account_foreign".to_owned()));
    assert_eq!(stage.gateway.get("/api/v1/api-keys", &[&bearer]).json()["total"], 0);
    let answer = stage.gateway.post("/api/v1/auth/logout", &[&bearer], "");
    assert_eq!((answer.status, stage.gateway.why(&answer)), (403, "refused issuer session_foreign".to_owned()));
}

/// An API that signs its own tokens today: they keep working, for accounts that came along, as long as the account does.
#[test]
fn tokens_that_the_api_signs_itself_keep_working() {
    let upstream = Upstream::start();
    let issuer = "[[api.issuer]]\nsecret_file = \"old.secret\"\naccounts = \"store\"\nclaims = { subject = \"userId\" }\n";
    let mut gateway = Gateway::prepare("", &format!("{}{issuer}", api(&upstream)));
    std::fs::write(gateway.folder.path().join("old.secret"), format!("{SECRET}\n")).unwrap();
    gateway.restart();
    let add = ["user", "add", "ann", "--id", "42", "--tenant", "prod=viewer", "--password-stdin"];
    gateway.cli_ok(&add, "correct horse");
    let sign = |claims: &Value| {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(&json!({ "alg": "HS256", "typ": "JWT" })), encode(claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        format!("Authorization: Bearer {message}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes())))
    };
    let old = json!({ "sub": "x", "userId": "42", "iat": 1_700_000_000, "exp": 4_000_000_000_u64 });
    let ask = |claims: &Value| {
        let answer = gateway.get(NODES, &[&sign(claims)]);
        (answer.status, gateway.why(&answer))
    };
    until("the account", || (ask(&old).0 == 200).then_some(()));
    assert!(upstream.last().to_lowercase().contains("x-auth-username: ann"), "{}", upstream.last());
    let mut other = old.clone();
    other["userId"] = json!("43");
    assert_eq!(ask(&other), (401, "refused authenticate account_gone".to_owned()));
    other = old.clone();
    // Under the API's own name too: the key tells whose it is.
    other["iss"] = json!("https://api.test");
    assert_eq!(ask(&other).0, 200);
    let bearer = sign(&old);
    let logout = gateway.post("/api/v1/auth/logout", &[&bearer], "");
    assert_eq!((logout.status, gateway.why(&logout)), (403, "refused issuer session_foreign".to_owned()));
    other["iss"] = json!(5);
    assert_eq!(ask(&other), (401, "refused authenticate token_claim".to_owned()));
    other = old.clone();
    other["aud"] = json!("somebody else");
    assert_eq!(ask(&other), (401, "refused authenticate token_audience".to_owned()));
    gateway.cli_ok(&["user", "disable", "ann"], "");
    until("the end of the account", || (ask(&old) == (401, "refused authenticate account_disabled".to_owned())).then_some(()));
    gateway.cli_ok(&["user", "enable", "ann"], "");
    // It was issued before the account's sessions were ended.
    until("the account again", || (ask(&old) == (401, "refused authenticate session_ended".to_owned())).then_some(()));
}

/// The upstream knows accounts by their ids: no issuer can make one up that somebody here has, nor a role that nobody knows.
#[test]
fn an_issuer_cannot_name_an_account_of_the_realm() {
    let stage = Stage::new("claims = { roles = \"roles\", tenant = \"org\" }");
    stage.gateway.cli_ok(&["user", "add", "ann", "--id", "42", "--tenant", "dev=editor", "--password-stdin"], "correct horse");
    let token = |subject: &str| stage.provider.token(&json!({ "sub": subject, "org": "prod", "roles": ["viewer", "superuser"] }));
    until("the account", || {
        (stage.outcome(&token("42")) == (401, "refused authenticate subject_taken".to_owned())).then_some(())
    });
    stage.upstream.forget();
    assert_eq!(stage.outcome(&token("43")).0, 200);
    assert_eq!(
        (stage.told("X-Auth-User-Id").as_deref(), stage.told("X-Auth-Tenant-Role").as_deref()),
        (Some("43"), Some("viewer"))
    );
    assert!(!stage.upstream.last().contains("superuser"), "{}", stage.upstream.last());
}

/// A tenant in a token takes rights away and gives none: the account must be in it.
#[test]
fn a_tenant_of_a_token_is_no_membership() {
    let stage = Stage::new("accounts = \"store\"\nclaims = { tenant = \"org\" }");
    let add = ["user", "add", "ann", "--id", "42", "--tenant", "dev=editor", "--tenant", "lab=viewer", "--password-stdin"];
    stage.gateway.cli_ok(&add, "correct horse");
    let ask = |tenant: &str, org: &str| {
        let bearer = format!("Authorization: Bearer {}", stage.provider.token(&json!({ "sub": "42", "org": org })));
        let answer = stage.gateway.get(&format!("/api/v1/tenants/{tenant}/other"), &[&bearer]);
        (answer.status, stage.gateway.why(&answer))
    };
    until("the account", || (ask("dev", "dev").0 == 200).then_some(()));
    assert_eq!(stage.told("X-Auth-Tenant-Role").as_deref(), Some("editor"));
    assert_eq!(ask("prod", "prod"), (403, "refused authorize tenant_foreign".to_owned()));
    assert_eq!(ask("dev", "lab"), (403, "refused authorize tenant_foreign".to_owned()));
}
