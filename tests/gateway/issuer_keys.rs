//! The keys of other issuers while the gateway runs: they change, they cannot be had, and strangers ask for those that never
//! were.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::issuers::{api, section};
use crate::support::{Answer, Client, Gateway, Provider, Telling, Upstream, until};

const NODES: &str = "/api/v1/tenants/prod/nodes";
const ROLES: &str = "claims = { roles = \"roles\" }";

struct Stage {
    upstream: Upstream,
    provider: Provider,
    gateway: Gateway,
}

impl Stage {
    /// `listener` are members of `[[listener]]`.
    fn new(listener: &str) -> Self {
        let (upstream, provider) = (Upstream::start(), Provider::start());
        let gateway = Gateway::start_with(listener, &format!("{}{}", api(&upstream), section(&provider, ROLES)));
        Self { upstream, provider, gateway }
    }

    fn admin(&self, more: &Value) -> String {
        let mut claims = json!({ "roles": ["admin"] });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.provider.token(&claims)
    }

    fn outcome(&self, token: &str) -> (u16, String) {
        let answer = ask(&self.gateway, token);
        (answer.status, self.gateway.why(&answer))
    }

    fn shown(&self) -> Value {
        serde_json::from_str(&self.gateway.cli_ok(&["jwks", "show", "--json"], "")).unwrap()
    }
}

fn ask(gateway: &Gateway, token: &str) -> Answer {
    gateway.get(NODES, &[&format!("Authorization: Bearer {token}")])
}

fn forwarded() -> (u16, String) {
    (200, "forwarded - -".to_owned())
}

fn refused(reason: &str) -> (u16, String) {
    (401, format!("refused authenticate {reason}"))
}

/// G1: 2,000 tokens with keys that never were, while the provider fails: it is asked once, and good tokens stay good.
#[test]
fn keys_that_never_were_ask_the_provider_once() {
    let stage = Stage::new("limits = { cold_verifications = \"100000 per 1s\" }");
    let good = stage.admin(&json!({}));
    assert_eq!(stage.outcome(&good), forwarded());
    assert_eq!(stage.provider.fetches(), 1);
    stage.provider.tell(Telling::Bytes(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let mut client = Client::connect(stage.gateway.address);
    let mut strangers = |count: usize| {
        let mut statuses = BTreeSet::new();
        for number in 0..count {
            let kid = json!({ "typ": "at+jwt", "kid": format!("never-{count}-{number}") });
            let token = stage.provider.signed("one", &kid, &json!({}));
            let request = format!("GET {NODES} HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {token}\r\n\r\n");
            statuses.insert(client.try_ask(&request).unwrap().status);
        }
        statuses
    };
    // What the provider has now nobody can say while it fails: its key may be a new one.
    assert_eq!(strangers(2_000), BTreeSet::from([503]));
    assert_eq!(stage.provider.fetches(), 2);
    // Another good token, whose signature was not verified before.
    assert_eq!(stage.outcome(&stage.admin(&json!({ "jti": "t-2" }))), forwarded());
    stage.provider.tell(Telling::Keys);
    stage.gateway.cli_ok(&["jwks", "refresh"], "");
    assert_eq!(strangers(1_000), BTreeSet::from([401]));
    assert_eq!(stage.provider.fetches(), 3);
    assert_eq!(stage.upstream.count(), 2);
}

/// F14 F15: a new key is fetched when its first token comes, and what an old one signed is refused once it is gone, also when
/// it was accepted a moment ago.
#[test]
fn keys_change_while_the_gateway_runs() {
    let stage = Stage::new("");
    let old = stage.admin(&json!({}));
    assert_eq!(stage.outcome(&old), forwarded());
    stage.provider.add_key("two");
    let new = stage.provider.signed("two", &json!({ "typ": "at+jwt" }), &json!({ "roles": ["admin"], "jti": "t-2" }));
    let first = ask(&stage.gateway, &new);
    assert_eq!((first.status, stage.gateway.why(&first)), (503, "failed authenticate keys_pending".to_owned()));
    assert_eq!(first.header("retry-after"), Some("1"));
    until("the new key", || (stage.outcome(&new) == forwarded()).then_some(()));
    assert_eq!(stage.provider.fetches(), 2);
    assert_eq!(stage.outcome(&old), forwarded());
    stage.provider.drop_key("one");
    let shown: Value = serde_json::from_str(&stage.gateway.cli_ok(&["jwks", "refresh", "--json"], "")).unwrap();
    assert_eq!(shown[0]["keys"], json!([{ "kid": "two", "algorithms": ["EdDSA"] }]), "{shown}");
    assert_eq!(stage.outcome(&old), refused("token_key_unknown"));
    assert_eq!(stage.outcome(&new), forwarded());
}

/// G7: without the provider nothing is guessed and nobody waits: 503 until its keys are known, and the gateway says so.
#[test]
fn a_provider_that_is_away_is_a_503_and_no_401() {
    let (upstream, provider) = (Upstream::start(), Provider::start());
    provider.tell(Telling::Silence);
    let mut gateway = Gateway::prepare("", &format!("{}{}", api(&upstream), section(&provider, ROLES)));
    gateway.spawn();
    let token = provider.token(&json!({ "roles": ["admin"] }));
    until("the listener", || Client::try_connect(gateway.address).map(|client| client.end()));
    let answer = ask(&gateway, &token);
    assert_eq!((answer.status, gateway.why(&answer)), (503, "failed authenticate keys_unavailable".to_owned()));
    assert_eq!(answer.header("retry-after"), Some("1"));
    let ready = gateway.admin("GET /readyz");
    assert_eq!((ready.status, ready.json()["conditions"]["issuers"]["ready"].clone()), (503, json!(false)), "{ready:?}");
    // What needs no keys of others is served.
    assert_eq!(gateway.get("/health", &[]).status, 200);
    provider.tell(Telling::Keys);
    until("the keys", || (ask(&gateway, &token).status == 200).then_some(()));
    until("readiness", || (gateway.admin("GET /readyz").status == 200).then_some(()));
    // And once they are known, its absence is no event for requests.
    provider.tell(Telling::Silence);
    gateway.cli(&["jwks", "refresh"], "");
    assert_eq!(ask(&gateway, &provider.token(&json!({ "roles": ["admin"], "jti": "t-2" }))).status, 200);
}

/// G5: metadata of another issuer is believed in nothing, and the log names both.
#[test]
fn an_issuer_that_calls_itself_otherwise_is_not_believed() {
    let (upstream, provider) = (Upstream::start(), Provider::start());
    provider.call_itself(&format!("{}/", provider.url()));
    let mut gateway = Gateway::prepare("", &format!("{}{}", api(&upstream), section(&provider, ROLES)));
    gateway.spawn();
    until("the listener", || Client::try_connect(gateway.address).map(|client| client.end()));
    let told = until("the reason", || gateway.stderr().lines().find(|line| line.contains(&provider.url())).map(str::to_owned));
    assert!(told.contains(&format!("{}/", provider.url())), "{told}");
    let answer = ask(&gateway, &provider.token(&json!({ "roles": ["admin"] })));
    assert_eq!((answer.status, gateway.why(&answer)), (503, "failed authenticate keys_unavailable".to_owned()));
    assert_eq!((upstream.count(), provider.fetches()), (0, 0));
    let shown = gateway.cli(&["jwks", "show", "--offline"], "");
    assert_eq!(shown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&shown.stdout).contains("FAILS"), "{shown:?}");
}

/// G2: two providers may call their keys the same; each key speaks for its own.
#[test]
fn keys_of_one_name_at_two_issuers_are_two_keys() {
    let (upstream, one, two) = (Upstream::start(), Provider::start(), Provider::start());
    let gateway = Gateway::start(&format!("{}{}{}", api(&upstream), section(&one, ROLES), section(&two, ROLES)));
    let outcome = |token: &str| {
        let answer = ask(&gateway, token);
        (answer.status, gateway.why(&answer))
    };
    let admin = json!({ "roles": ["admin"] });
    assert_eq!((outcome(&one.token(&admin)), outcome(&two.token(&admin))), (forwarded(), forwarded()));
    let crossed = json!({ "roles": ["admin"], "iss": one.url() });
    assert_eq!(outcome(&two.token(&crossed)), refused("token_signature"));
    assert_eq!(upstream.count(), 2);
}

/// F12 F13: a token that one API has verified is nothing at another that is not meant, cached or not.
#[test]
fn what_one_api_has_verified_another_judges_anew() {
    let (upstream, provider) = (Upstream::start(), Provider::start());
    let own = |name: &str, audience: &str| {
        let head = format!(
            "[[api]]\nname = \"{name}\"\nhosts = [\"{name}.test\"]\nupstream = \"{}\"\ncontract = \"infracast\"\n",
            upstream.url()
        );
        format!("{head}{}", section(&provider, ROLES).replace("\"https://api.test\", \"other\"", &format!("\"{audience}\"")))
    };
    let gateway = Gateway::start(&format!("{}{}", own("one", "https://api.test"), own("two", "https://two.test")));
    let token = provider.token(&json!({ "roles": ["admin"] }));
    let at =
        |host: &str| gateway.raw(format!("GET {NODES} HTTP/1.1\r\nHost: {host}.test\r\nAuthorization: Bearer {token}\r\n\r\n"));
    for _ in 0..2 {
        assert_eq!(at("one").status, 200);
        let answer = at("two");
        assert_eq!((answer.status, gateway.why(&answer)), refused("token_audience"));
    }
    assert_eq!(upstream.count(), 2);
}

/// What is remembered is whole tokens: one more character is another token.
#[test]
fn a_remembered_token_is_the_whole_token() {
    let stage = Stage::new("");
    let token = stage.admin(&json!({}));
    assert_eq!(stage.outcome(&token), forwarded());
    assert_eq!(stage.outcome(&token), forwarded());
    for other in [format!("{token}A"), token.split_at(token.len() - 1).0.to_owned(), token.replacen('.', "..", 1)] {
        assert_eq!(stage.outcome(&other).0, 401, "{other}");
    }
    let page = stage.gateway.admin("GET /metrics").body;
    assert!(page.contains("\ngateward_verified_tokens 1\n") || page.contains("\ngateward_verified_tokens 1.0\n"), "{page}");
}

/// One client cannot have signatures verified without end; what was verified before costs it nothing, and others are served.
#[test]
fn cold_verifications_are_bounded_per_client() {
    let stage = Stage::new("trusted_proxies = [\"127.0.0.0/8\"]\nlimits = { cold_verifications = \"3 per 1h\" }");
    let from = |client: &str, token: &str| {
        let answer =
            stage.gateway.get(NODES, &[&format!("Authorization: Bearer {token}"), &format!("X-Forwarded-For: {client}")]);
        (answer.status, stage.gateway.why(&answer))
    };
    let token = |number: u32| stage.admin(&json!({ "jti": format!("t-{number}") }));
    for number in 1..=3 {
        assert_eq!(from("203.0.113.9", &token(number)), forwarded());
    }
    let over = (429, "refused limit over_limit".to_owned());
    assert_eq!(from("203.0.113.9", &token(4)), over);
    // No signature is looked at, so it costs nothing, and nobody behind the same address pays for it.
    assert_eq!(from("203.0.113.9", "a.b.c"), refused("token_malformed"));
    assert_eq!(from("203.0.113.9", &token(3)), forwarded());
    assert_eq!(from("203.0.113.10", &token(4)), forwarded());
    // By now it is known.
    assert_eq!(from("203.0.113.9", &token(4)), forwarded());
}

/// Operators see where keys come from and which they are; nobody sees a key.
#[test]
fn keys_are_shown_without_what_they_are_made_of() {
    let stage = Stage::new("");
    let shown = stage.shown();
    assert_eq!(shown[0]["issuer"], json!(stage.provider.url()));
    assert_eq!(shown[0]["url"], json!(format!("{}/keys", stage.provider.url())));
    assert_eq!((shown[0]["usable"].clone(), shown[0]["last_error"].clone()), (json!(true), Value::Null));
    assert_eq!(shown[0]["keys"], json!([{ "kid": "one", "algorithms": ["EdDSA"] }]));
    let inspected = stage.gateway.cli_ok(&["token", "inspect", "--json"], &stage.admin(&json!({})));
    assert!(inspected.contains("\"accepted\": true"), "{inspected}");
    let text = stage.gateway.cli_ok(&["jwks", "show"], "");
    assert!(text.contains("  key       one  EdDSA\n"), "{text}");
}
