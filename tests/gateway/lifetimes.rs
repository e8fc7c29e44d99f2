//! Credentials at the end of their lives, and credentials that were never made here: one answer for all of them.

use serde_json::Value;

use crate::support::{Answer, Gateway, Upstream, until};

const NODES: &str = "/api/v1/tenants/prod/nodes";

fn gateway(upstream: &Upstream, rest: &str) -> Gateway {
    let gateway = Gateway::start(&format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n{rest}", upstream.url()));
    gateway.add_user("ann", "correct horse", &["prod=viewer"]);
    gateway
}

fn key(gateway: &Gateway, more: &[&str]) -> String {
    let made = gateway.cli_ok(&[&["key", "create", "--owner", "ann", "--json"], more].concat(), "");
    serde_json::from_str::<Value>(&made).unwrap()["key"].as_str().unwrap().to_owned()
}

fn ask(gateway: &Gateway, credential: &str) -> Answer {
    gateway.get(NODES, &[&format!("Authorization: Bearer {credential}")])
}

/// All of an answer that a client can tell apart: not its id, not the time of day.
fn shown(mut answer: Answer) -> Answer {
    answer.headers.retain(|(name, _)| name != "x-request-id" && name != "date");
    answer
}

/// H1, IC 4: unknown, expired, cut and foreign keys, a dead token and none at all: the same bytes, apart in the log.
#[test]
fn no_refusal_of_a_credential_looks_like_another() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "");
    // Well formed in every respect, but of a gateway elsewhere.
    let elsewhere = key(&self::gateway(&upstream, ""), &[]);
    let short = key(&gateway, &["--expires", "2s"]);
    until("the key to be followed", || (ask(&gateway, &short).status == 200).then_some(()));
    until("the key to expire", || (ask(&gateway, &short).status == 401).then_some(()));
    upstream.forget();
    let missing = gateway.get(NODES, &[]);
    assert_eq!(
        (missing.status, missing.body.as_str()),
        (401, r#"{"error":{"code":"UNAUTHORIZED","message":"Invalid or expired token"}}"#)
    );
    assert_eq!(gateway.why(&missing), "refused credential credential_missing");
    let cut = elsewhere.get(..elsewhere.len() - 1).unwrap();
    for (credential, reason) in [
        (short.as_str(), "key_expired"),
        (elsewhere.as_str(), "key_unknown"),
        (cut, "key_malformed"),
        ("junk", "token_malformed"),
        (&elsewhere.replace("ic_live_", "ic_test_"), "environment_foreign"),
    ] {
        let answer = ask(&gateway, credential);
        assert_eq!(gateway.why(&answer), format!("refused authenticate {reason}"));
        assert_eq!(shown(answer), shown(missing.clone()), "{reason}");
    }
    assert_eq!(upstream.count(), 0);
    let written = gateway.everything_written();
    for secret in [&short, &elsewhere] {
        assert!(!written.contains(secret.rsplit('_').nth(1).unwrap()), "a key was written");
    }
}

/// F9: an access token and a refresh token end when they say, and neither is taken for the other.
#[test]
fn tokens_end_when_they_say_and_are_not_interchangeable() {
    let upstream = Upstream::start();
    let gateway = gateway(
        &upstream,
        "tokens = { access_ttl = \"2s\", refresh_ttl = \"4s\" }\n[[api.limit]]\nname = \"refresh\"\nper = [\"client_ip\"]\nquota = \"100000 per 1m\"\n\
                                     algorithm = \"fixed_window\"\n",
    );
    let (token, refresh) = gateway.login("ann", "correct horse");
    let renew =
        |refresh: &str| gateway.post("/api/v1/auth/refresh", &[], &serde_json::json!({ "refresh_token": refresh }).to_string());
    assert_eq!(ask(&gateway, &token).status, 200);
    let swapped = [ask(&gateway, &refresh), renew(&token)];
    assert_eq!(swapped.each_ref().map(|answer| answer.status), [401, 400]);
    assert_eq!(gateway.why(&swapped[0]), "refused authenticate token_malformed");
    assert_eq!(gateway.why(&swapped[1]), "refused issuer field_invalid", "longer than any refresh token");
    let ended = until("the token to expire", || Some(ask(&gateway, &token)).filter(|answer| answer.status == 401));
    assert_eq!(gateway.why(&ended), "refused authenticate token_expired");
    let ended = until("the refresh token to expire", || Some(renew(&refresh)).filter(|answer| answer.status == 401));
    assert_eq!(gateway.why(&ended), "refused issuer refresh_expired");
    assert_eq!(ended.body, r#"{"error":{"code":"UNAUTHORIZED","message":"Invalid or expired token"}}"#);
}
