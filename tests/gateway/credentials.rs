//! Credentials: what is found, what is accepted, and that all refusals look alike.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::{Gateway, Upstream};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const REFUSED: &str = r#"{"error":{"code":"UNAUTHORIZED","message":"Invalid or expired token"}}"#;
const NODES: &str = "/api/v1/tenants/prod/nodes";

/// A gateway whose signing secret the test knows, with one viewer in `prod` and her token.
struct Stage {
    upstream: Upstream,
    gateway: Gateway,
    token: String,
    claims: Value,
    header: Value,
}

impl Stage {
    fn new() -> Self {
        let upstream = Upstream::start();
        let mut gateway = Gateway::prepare(
            "",
            &format!(
                "[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\npublic_url = \"https://api.test\"\n\
                 tokens = {{ secret_file = \"hs.key\" }}\n",
                upstream.url()
            ),
        );
        std::fs::write(gateway.folder.path().join("hs.key"), SECRET).unwrap();
        gateway.restart();
        gateway.add_user("ann", "correct horse", &["prod=viewer"]);
        let (token, _) = gateway.login("ann", "correct horse");
        let part = |index: usize| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
        };
        let (header, claims) = (part(0), part(1));
        Self { upstream, gateway, token, claims, header }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes())))
    }

    fn with(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[name] = value;
        self.sign(&self.header, &claims)
    }

    /// Sends a bearer credential; asserts the uniform refusal and its reason, and that nothing was forwarded.
    fn refused(&self, token: &str, reason: &str) {
        let before = self.upstream.count();
        let answer = self.gateway.get(NODES, &[&format!("Authorization: Bearer {token}")]);
        assert_eq!((answer.status, answer.body.as_str()), (401, REFUSED), "{reason}");
        let line = self.gateway.logged(&answer);
        assert_eq!(line["reason"], reason, "{line}");
        assert_eq!(answer.header("www-authenticate"), None);
        assert_eq!(self.upstream.count(), before);
    }
}

/// F1 F2 F3 F4 F6 F8 F9 F10 F11, IC 4: every attack on a token gets the same bytes, and the log says which it was.
#[test]
fn attacks_on_tokens_are_refused_alike() {
    let stage = Stage::new();
    let good = stage.sign(&stage.header, &stage.claims);
    assert_eq!(stage.gateway.get(NODES, &[&format!("Authorization: Bearer {good}")]).status, 200);
    let (message, signature) = stage.token.rsplit_once('.').unwrap();
    let none = URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "typ": "JWT" }).to_string());
    let claims_part = message.split_once('.').unwrap().1;
    stage.refused(&format!("{none}.{claims_part}."), "token_algorithm");
    stage.refused(&format!("{none}.{claims_part}.{signature}"), "token_algorithm");
    let first = if signature.starts_with('A') { "B" } else { "A" };
    stage.refused(&format!("{message}.{first}{}", signature.get(1..).unwrap()), "token_signature");
    stage.refused(&format!("{message}.{signature}="), "token_malformed");
    stage.refused(&format!("{message}.{signature}.x"), "token_malformed");
    stage.refused(&"a.".repeat(3000), "token_malformed");
    stage.refused("junk", "token_malformed");
    stage.refused(&stage.with("exp", json!(1_000_000_000)), "token_expired");
    stage.refused(&stage.with("exp", json!("4000000000")), "token_claim");
    stage.refused(&stage.with("exp", Value::Null), "token_claim");
    stage.refused(&stage.with("nbf", json!(4_000_000_000_u64)), "token_not_yet_valid");
    stage.refused(&stage.with("iss", json!("https://other.test")), "token_issuer");
    stage.refused(&stage.with("aud", json!("https://other.test")), "token_audience");
    stage.refused(&stage.with("aud", json!("https://api.test/")), "token_audience");
    stage.refused(&stage.with("env", json!("test")), "environment_foreign");
    stage.refused(&stage.with("sub", json!("user-nobody")), "account_gone");
    stage.refused(&stage.with("epoch", json!(1)), "session_ended");
    for (member, value) in
        [("crit", json!(["x"])), ("jwk", json!({})), ("jku", json!("https://evil.test/jwks")), ("b64", json!(false))]
    {
        let mut header = stage.header.clone();
        header[member] = value;
        stage.refused(&stage.sign(&header, &stage.claims), "token_malformed");
    }
    let mut header = stage.header.clone();
    header["typ"] = json!("refresh+jwt");
    stage.refused(&stage.sign(&header, &stage.claims), "token_type");
    let mut header = stage.header.clone();
    header["kid"] = json!("../../etc/passwd");
    stage.refused(&stage.sign(&header, &stage.claims), "token_key_unknown");
}

/// H1 H2 H13, IC 139: unknown, mistyped, cut, revoked, expired and foreign keys answer with identical bytes.
#[test]
fn bad_keys_are_refused_alike() {
    let stage = Stage::new();
    let gateway = &stage.gateway;
    let create = |more: &[&str]| -> (String, String) {
        let made: Value =
            serde_json::from_str(&gateway.cli_ok(&[&["key", "create", "--owner", "ann", "--json"], more].concat(), "")).unwrap();
        (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
    };
    let (id, key) = create(&[]);
    crate::support::until("the key to be followed", || {
        let answer = gateway.get(NODES, &[&format!("Authorization: Bearer {key}")]);
        (answer.status == 200).then_some(())
    });
    for cut in [1, 7, 20, 51, 60] {
        stage.refused(key.get(..key.len() - cut).unwrap(), "key_malformed");
    }
    stage.refused(&format!("{key}0"), "key_malformed");
    let flipped: String =
        key.chars().rev().enumerate().map(|(at, c)| if at == 10 { if c == 'x' { 'y' } else { 'x' } } else { c }).collect();
    stage.refused(&flipped.chars().rev().collect::<String>(), "key_checksum");
    stage.refused(&key.replace("ic_live_", "ic_test_"), "environment_foreign");
    // With a digit: an id of letters alone reads as an environment.
    stage.refused(&key.replace("ic_live_", "ic_0"), "key_malformed");
    gateway.cli_ok(&["key", "revoke", &id], "");
    crate::support::until("the revocation to be followed", || {
        let answer = gateway.get(NODES, &[&format!("Authorization: Bearer {key}")]);
        (answer.status == 401).then_some(())
    });
    stage.refused(&key, "key_revoked");
}

/// B9: the first credential decides, two lines of one header are refused, and a query is no place for a token.
#[test]
fn one_credential_is_looked_at() {
    let stage = Stage::new();
    let gateway = &stage.gateway;
    let bearer = format!("Authorization: Bearer {}", stage.token);
    let before = stage.upstream.count();
    let twice = gateway.get(NODES, &[&bearer, &bearer]);
    assert_eq!((twice.status, gateway.why(&twice)), (400, "refused credential credential_duplicate".to_owned()));
    for (header, reason) in [
        ("Authorization: Basic YTpi", "credential_malformed"),
        ("Authorization: Bearer", "credential_malformed"),
        ("Authorization: Bearer a b", "credential_malformed"),
        ("X-API-Key: whatever", "credential_missing"),
    ] {
        let answer = gateway.get(NODES, &[header]);
        assert_eq!((answer.status, answer.body.as_str()), (401, REFUSED), "{header}");
        assert_eq!(gateway.logged(&answer)["reason"], reason, "{header}");
    }
    let query = gateway.get(&format!("{NODES}?access_token={}", stage.token), &[]);
    assert_eq!((query.status, gateway.why(&query)), (401, "refused credential credential_missing".to_owned()));
    assert_eq!(stage.upstream.count(), before);
    let lower = gateway.get(NODES, &[&format!("authorization: bearer   {}", stage.token)]);
    assert_eq!(lower.status, 200);
}

/// B9: with two carriers the first that is there decides, also when it is refused and the other would be good.
#[test]
fn a_refused_first_credential_ends_the_search() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"native\"\n[api.credentials]\ncarriers = [\"header X-API-Key\", \"bearer\"]\n",
        upstream.url()
    ));
    gateway.add_user("ann", "correct horse", &["editor"]);
    let answer = gateway.post("/auth/login", &[], r#"{"username":"ann","password":"correct horse"}"#);
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(gateway.get("/items", &[&bearer]).status, 200);
    let both = gateway.get("/items", &[&bearer, "X-API-Key: gw_live_wrong"]);
    assert_eq!((both.status, gateway.why(&both)), (401, "refused authenticate key_malformed".to_owned()));
    let unused = gateway.get("/items", &[&format!("X-API-Key: {token}"), "Authorization: Bearer other"]);
    assert_eq!(unused.status, 200);
    let seen = upstream.last().to_lowercase();
    assert!(!seen.contains("authorization:") && !seen.contains("x-api-key:"), "{seen}");
}
