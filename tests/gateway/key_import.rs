//! Keys that clients already hold, imported while the gateway runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Upstream, until};

const PREFIXED: &str = "ak_5f0c1d9e8b7a6f5e4d3c2b1a09f8e7d6";
/// Begins like nothing that anybody knows.
const PLAIN: &str = "Zq3+9/fT=kx.71~Wm0_pLs-4Rb8YcUe2";

struct Stage {
    upstream: Upstream,
    gateway: Gateway,
}

impl Stage {
    /// One realm with two APIs: `api.test` is live, `b.test` is for tests.
    fn new() -> Self {
        let upstream = Upstream::start();
        let api = |name: &str, host: &str, environment: &str| {
            format!(
                "[[api]]\nname = \"{name}\"\nrealm = \"all\"\nhosts = [\"{host}\"]\nupstream = \"{}\"\ncontract = \"native\"\n\
                 environment = \"{environment}\"\n[api.credentials]\nkey_prefixes = [\"ak_\"]\n",
                upstream.url()
            )
        };
        let gateway = Gateway::start(&format!("{}{}", api("one", "api.test", "live"), api("two", "b.test", "test")));
        gateway.add_user("ann", "correct horse", &["editor"]);
        gateway.add_user("bob", "correct horse", &["viewer"]);
        Self { upstream, gateway }
    }

    fn import(&self, lines: &[Value], more: &[&str]) -> Output {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let file = self.gateway.folder.path().join("keys.jsonl");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        self.gateway.cli(&[&["key", "import", "keys.jsonl", "--realm", "all"], more].concat(), "")
    }

    /// Imports what is good, and waits until the server knows a text of it: for at most the two seconds that are promised.
    #[expect(clippy::disallowed_methods, reason = "the test measures how long the server takes")]
    fn imported(&self, lines: &[Value], text: &str) {
        let output = self.import(lines, &[]);
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
        let start = Instant::now();
        until("the keys", || (self.by_header(text).status == 200).then_some(()));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }

    fn by_header(&self, key: &str) -> Answer {
        self.gateway.get("/items", &[&format!("X-API-Key: {key}")])
    }

    fn by_bearer(&self, key: &str) -> Answer {
        self.gateway.get("/items", &[&format!("Authorization: Bearer {key}")])
    }

    fn why(&self, answer: &Answer) -> (u16, String) {
        (answer.status, self.gateway.why(answer))
    }

    fn listed(&self) -> Vec<Value> {
        serde_json::from_str(&self.gateway.cli_ok(&["key", "list", "--realm", "all", "--json"], "")).unwrap()
    }
}

fn refused(reason: &str) -> (u16, String) {
    (401, format!("refused authenticate {reason}"))
}

/// What the client is told, but for the number of its request.
fn told(answer: &Answer) -> String {
    answer.body.replace(answer.request_id(), "-")
}

fn line(owner: &str, value: &str) -> Value {
    json!({ "owner": owner, "environment": "live", "value": value })
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// H2: a key of any form is found by its whole text; one that begins like ours and has a wrong checksum is not looked up.
#[test]
fn an_imported_key_is_good_by_its_whole_text_and_by_nothing_else() {
    let stage = Stage::new();
    let sha256: String = digest(&SHA256, PLAIN.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let plain =
        json!({ "owner": "ann", "environment": "live", "name": "old", "scopes": ["read"], "sha256": format!("sha256:{sha256}") });
    stage.imported(&[line("bob", PREFIXED), plain], PLAIN);
    for answer in [stage.by_header(PREFIXED), stage.by_bearer(PREFIXED), stage.by_header(PLAIN)] {
        assert_eq!(stage.why(&answer), (200, "forwarded - -".to_owned()));
    }
    let seen = stage.upstream.last();
    assert!(!seen.contains(PLAIN) && !seen.to_lowercase().contains("x-api-key"), "{seen}");
    // It may read, as its owner and it may; its owner may write.
    let write = stage.gateway.request("POST", "/items", &[&format!("X-API-Key: {PLAIN}")], "x");
    assert_eq!(stage.why(&write), (403, "refused authorize scope_missing".to_owned()));
    // What nothing tells from a token is one in the header that tokens stand in.
    assert_eq!(stage.why(&stage.by_bearer(PLAIN)), refused("token_malformed"));
    let unknown = stage.by_header("ak_00000000000000000000000000000000");
    assert_eq!(stage.why(&unknown), refused("key_unknown"));
    let cut = |text: &str| text.get(..text.len() - 1).unwrap().to_owned();
    for near in [cut(PREFIXED), cut(PLAIN), format!("{PREFIXED}0"), PREFIXED.to_uppercase(), PLAIN.to_lowercase(), "x".to_owned()]
    {
        let answer = stage.by_header(&near);
        assert_eq!((stage.why(&answer), told(&answer)), (refused("key_unknown"), told(&unknown)), "{near}");
    }
    let ours = format!("gw_live_0123456789_{}_000000", "a".repeat(43));
    assert_eq!(stage.why(&stage.by_header(&ours)), refused("key_checksum"));
    assert_eq!(stage.why(&stage.by_header("gw_live_abc")), refused("key_malformed"));
    let folder = stage.gateway.folder.path();
    for file in ["gateward.db", "gateward.db-wal", "access.log", "stderr.log"] {
        let bytes = fs::read(folder.join(file)).unwrap();
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!holds(PREFIXED) && !holds(PLAIN), "{file}");
    }
}

#[test]
fn an_imported_key_ends_like_any_other() {
    let stage = Stage::new();
    let soon = Command::new("date").args(["-u", "-d", "+3 seconds", "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    let soon = String::from_utf8(soon.stdout).unwrap();
    let mut short = line("ann", &format!("{PREFIXED}-short"));
    short["expires"] = soon.trim().into();
    let mut elsewhere = line("ann", &format!("{PREFIXED}-test"));
    elsewhere["environment"] = "test".into();
    stage.imported(&[line("ann", PREFIXED), short, elsewhere, line("bob", PLAIN)], PREFIXED);
    let unknown = told(&stage.by_header("ak_unknown-key"));
    let ends = |text: &str, reason: &str| {
        until(reason, || (stage.by_header(text).status == 401).then_some(()));
        let answer = stage.by_header(text);
        assert_eq!((stage.why(&answer), told(&answer)), (refused(reason), unknown.clone()));
    };
    ends(&format!("{PREFIXED}-short"), "key_expired");
    ends(&format!("{PREFIXED}-test"), "environment_foreign");
    for key in stage.listed() {
        stage.gateway.cli_ok(&["key", "revoke", key["id"].as_str().unwrap(), "--realm", "all"], "");
    }
    ends(PREFIXED, "key_revoked");
    ends(PLAIN, "key_revoked");
}

#[test]
fn a_file_is_imported_whole_or_not_at_all() {
    let stage = Stage::new();
    let good = line("ann", PREFIXED);
    let dry = stage.import(std::slice::from_ref(&good), &["--dry-run"]);
    assert_eq!(String::from_utf8_lossy(&dry.stdout), "would import 1 keys of 1 owners into realm all; nothing was written\n");
    let mut too_much = line("bob", PLAIN);
    too_much["scopes"] = json!(["write"]);
    let bad = stage.import(&[good.clone(), too_much, good.clone(), json!({ "owner": "eve", "value": "short" })], &[]);
    assert_eq!((bad.status.code(), bad.stdout.as_slice()), (Some(1), b"".as_slice()));
    assert_eq!(
        stderr(&bad),
        "keys.jsonl:2: the owner, bob, does not have write: a key never exceeds its owner\n\
         keys.jsonl:3: line 1 has this key already\n\
         keys.jsonl:4: `value`: expected 8 to 8192 characters, it has 5\n\
         error: nothing was imported; mistakes: 3\n"
    );
    assert_eq!(stage.listed(), [Value::Null; 0]);
    assert_eq!(stage.why(&stage.by_header(PREFIXED)), refused("key_unknown"));
    let done = stage.import(std::slice::from_ref(&good), &["--json"]);
    let summary: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(summary, json!({ "realm": "all", "keys": 1, "owners": 1, "guessable_lines": [], "imported": true }));
    let id = stage.listed()[0]["id"].as_str().unwrap().to_owned();
    let owner = stage.listed()[0]["owner"].as_str().unwrap().to_owned();
    let again = stage.import(&[line("bob", PLAIN), good], &[]);
    assert_eq!(
        stderr(&again),
        format!("keys.jsonl:2: the store has this key already: {id} of {owner}\nerror: nothing was imported; mistakes: 1\n")
    );
    assert_eq!(stage.listed().len(), 1);
}

/// What would be refused at every use is refused here, with what helps.
#[test]
fn a_key_that_no_request_could_use_is_not_imported() {
    let stage = Stage::new();
    let told = |value: &str| stderr(&stage.import(&[line("ann", value)], &[])).lines().next().unwrap().to_owned();
    assert_eq!(
        told("eyJhbGciOiJIUzI1NiJ9"),
        "keys.jsonl:1: API one takes such a text for no API key: \
         write what its keys begin with into `key_prefixes` of [api.credentials]"
    );
    assert_eq!(
        told("gw_test_0123456789"),
        "keys.jsonl:1: it begins like a key of the environment test: \
         write what such keys begin with into `key_prefixes` of [api.credentials], if they are none"
    );
    let ours = told("gw_live_0123456789");
    assert!(ours.starts_with("keys.jsonl:1: it begins like the keys that API one makes, and is none: "), "{ours}");
    let mut unsaid = line("ann", PREFIXED);
    unsaid["environment"] = Value::Null;
    assert_eq!(
        stderr(&stage.import(&[unsaid], &[])).lines().next(),
        Some("keys.jsonl:1: say which API the key is for with --api: one, two")
    );
    let weak = stage.import(&[line("ann", "ak_12345678")], &["--dry-run"]);
    assert_eq!(
        stderr(&weak),
        "1 of the keys could be guessed: they are too short for 128 random bits. Have them replaced. Lines 1\n"
    );
    fs::set_permissions(stage.gateway.folder.path().join("keys.jsonl"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = stage.gateway.cli(&["key", "import", "keys.jsonl", "--realm", "all", "--dry-run"], "");
    let told = stderr(&open);
    assert_eq!(told.lines().next(), Some("keys.jsonl holds keys, and others than its owner may read it: chmod 600"));
}

#[test]
fn ten_thousand_keys_are_followed_by_a_running_server() {
    let stage = Stage::new();
    let text = |number: u32| format!("ak_{number:040x}");
    let lines: Vec<Value> = (0..10_000).map(|number| line(if number % 2 == 0 { "ann" } else { "bob" }, &text(number))).collect();
    stage.imported(&lines, &text(9_999));
    for number in (0..10_000).step_by(997) {
        assert_eq!(stage.by_header(&text(number)).status, 200, "{number}");
    }
    assert_eq!(stage.why(&stage.by_header(&text(10_000))), refused("key_unknown"));
    // What comes after a bulk is followed as ever.
    let late = line("ann", PLAIN);
    stage.imported(&[late], PLAIN);
    assert_eq!(stage.listed().len(), 10_001);
}
