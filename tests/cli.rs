//! The command line, black box: what is printed where, and how it exits.
#![cfg(test)]

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const CONFIG: &str = r#"
[[api]]
name = "nodes"
upstream = "http://127.0.0.1:9000"
contract = "infracast"
"#;

const TWO_REALMS: &str = r#"
[[api]]
name = "nodes"
hosts = ["a.test"]
upstream = "http://127.0.0.1:9000"
contract = "infracast"

[[api]]
name = "staging"
hosts = ["b.test"]
upstream = "http://127.0.0.1:9001"
contract = "infracast"
environment = "test"
"#;

/// A folder with a config, and what ran in it.
struct Place(TempDir);

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Place {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gateway.toml"), config).unwrap();
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateward"));
        command.current_dir(self.path()).env_remove("GATEWARD_CONFIG").env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command().args(arguments).output().unwrap())
    }

    fn feed(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.command();
        let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        ran(child.wait_with_output().unwrap())
    }

    /// What a command that must succeed prints, read as JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["--json"]].concat());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
        serde_json::from_str(&ran.out).unwrap()
    }

    fn add(&self, arguments: &[&str]) -> Value {
        self.json(&[&["user", "add"], arguments].concat())
    }

    /// The only verdict on a credential.
    fn verdict(&self, credential: &str) -> (bool, String) {
        let ran = self.feed(&["token", "inspect", "-", "--json"], credential);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        let found: Value = serde_json::from_str(&ran.out).unwrap();
        let verdict = &found["verdicts"][0];
        (verdict["accepted"].as_bool().unwrap(), verdict["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl Ran {
    fn ends(&self, code: i32, out: &str, err: &str) {
        assert_eq!((self.code, self.out.as_str(), self.err.as_str()), (Some(code), out, err));
    }
}

fn ran(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn an_account_is_added_listed_disabled_and_enabled() {
    let place = Place::new(CONFIG);
    let alice = place.add(&["alice", "--email", "alice@example.com", "--role", "admin", "--tenant", "prod=viewer"]);
    assert!(text(&alice["id"]).starts_with("user-"), "{alice}");
    assert_eq!(text(&alice["password"]).len(), 20);
    let status = || place.json(&["user", "list"])[0]["status"].as_str().map(str::to_owned);
    assert_eq!(status().as_deref(), Some("active"));
    let id = text(&alice["id"]);
    place.run(&["user", "disable", "ALICE"]).ends(0, &format!("disabled alice ({id}) in realm nodes\n"), "");
    assert_eq!(status().as_deref(), Some("disabled"));
    place.run(&["user", "enable", id]).ends(0, &format!("enabled alice ({id}) in realm nodes\n"), "");
    assert_eq!(status().as_deref(), Some("active"));
    let list = place.run(&["user", "list"]).out;
    let mut lines = list.lines();
    assert_eq!(lines.next().unwrap().split_whitespace().next(), Some("REALM"));
    let cells: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(cells[..7], ["nodes", id, "alice", "alice@example.com", "active", "admin", "prod=viewer"]);
    assert_eq!(lines.next(), None);
}

#[test]
fn a_one_time_password_is_shown_once_and_a_given_one_never() {
    let place = Place::new(CONFIG);
    let made = place.run(&["user", "add", "alice"]);
    assert_eq!((made.code, made.err.as_str()), (Some(0), "The password is shown only now.\n"));
    assert_eq!(made.out.lines().nth(1).unwrap().strip_prefix("password: ").map(str::len), Some(20));
    let given = place.feed(&["user", "passwd", "alice", "--password-stdin"], "correct horse\n");
    assert_eq!((given.code, given.err.as_str(), given.out.lines().count()), (Some(0), "", 1), "{}", given.out);
    place.feed(&["user", "add", "bob", "--password-stdin"], "short\n").ends(
        1,
        "",
        "error: the password has fewer than 8 characters\n",
    );
    let again = place.json(&["user", "passwd", "alice"]);
    assert_eq!(text(&again["password"]).len(), 20);
    let found: Vec<String> = ["gateward.db", "gateward.db-wal"]
        .iter()
        .filter_map(|name| std::fs::read(place.path().join(name)).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect();
    assert!(!found.is_empty() && found.iter().all(|bytes| !bytes.contains(text(&again["password"]))));
}

#[test]
fn mistakes_about_accounts_are_told_with_what_would_be_right() {
    let place = Place::new(CONFIG);
    place.run(&["user", "add", "alice", "--role", "amdin"]).ends(
        1,
        "",
        "error: unknown role `amdin`; did you mean `admin`? known: admin, editor, viewer\n",
    );
    assert_eq!(place.json(&["user", "list"]), Value::Array(Vec::new()), "nothing is added");
    place.add(&["alice", "--id", "42"]);
    place.run(&["user", "add", "Alice"]).ends(
        1,
        "",
        "error: `Alice` was not added to realm nodes: there already is one: account with this login name\n",
    );
    place.run(&["user", "add", "bob", "--id", "42"]).ends(
        1,
        "",
        "error: `bob` was not added to realm nodes: there already is one: account with this id\n",
    );
    place.run(&["user", "disable", "alcie"]).ends(
        1,
        "",
        "error: there is no account `alcie` in realm nodes; did you mean `alice`?\n",
    );
    place.run(&["user", "list", "--realm", "node"]).ends(
        1,
        "",
        "error: unknown realm `node`; did you mean `nodes`? known: nodes\n",
    );
}

#[test]
fn names_that_could_break_a_header_or_a_list_are_wrong_usage() {
    let place = Place::new(CONFIG);
    for arguments in [
        ["alice", "--role", "admin,root"],
        ["alice", "--role", "ad min"],
        ["alice", "--tenant", "prod"],
        ["alice", "--tenant", "a b=viewer"],
        ["alice", "--id", "a\nb"],
        ["alice", "--email", "alice"],
        ["alice", "--attribute", "plan"],
        ["al\u{1b}[2Jice", "--role", "admin"],
        ["admin\u{200b}", "--role", "admin"],
    ] {
        let ran = place.run(&[&["user", "add"], &arguments[..]].concat());
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(!ran.err.contains('\u{1b}'), "{arguments:?}: {:?}", ran.err);
    }
}

#[test]
fn one_of_several_realms_must_be_named() {
    let place = Place::new(TWO_REALMS);
    place.run(&["user", "add", "alice"]).ends(2, "", "error: say which realm with --realm: nodes, staging\n");
    place.add(&["alice", "--realm", "staging", "--role", "viewer"]);
    let key = place.json(&["key", "create", "--owner", "alice", "--realm", "staging"]);
    assert!(text(&key["key"]).starts_with("ic_test_"), "{}", key["id"]);
    place.run(&["key", "create", "--owner", "alice", "--realm", "staging", "--environment", "live"]).ends(
        1,
        "",
        "error: unknown environment `live`; known: test\n",
    );
}

#[test]
fn one_of_several_apis_of_a_realm_must_be_named_for_a_key() {
    let config = TWO_REALMS.replace("upstream", "realm = \"main\"\nupstream");
    let place = Place::new(&config);
    place.add(&["alice", "--role", "viewer"]);
    let create = ["key", "create", "--owner", "alice"];
    place.run(&create).ends(2, "", "error: say which API the key is for with --api: nodes, staging\n");
    for (option, value, prefix) in [("--api", "nodes", "ic_live_"), ("--environment", "test", "ic_test_")] {
        let key = place.json(&[&create[..], &[option, value]].concat());
        assert!(text(&key["key"]).starts_with(prefix), "{option}");
    }
    place.run(&[&create[..], &["--api", "nodes", "--environment", "test"]].concat()).ends(
        1,
        "",
        "error: no API of realm main has both this name and this environment\n",
    );
}

#[test]
fn a_key_is_created_listed_inspected_and_revoked() {
    let place = Place::new(CONFIG);
    let alice = place.add(&["alice", "--tenant", "prod=viewer"]);
    let made = place.run(&["key", "create", "--owner", "alice", "--name", "ci", "--expires", "90d", "--allow-ip", "10.1.2.3/8"]);
    assert_eq!((made.code, made.err.as_str()), (Some(0), "The key is shown only now.\n"));
    let id = made.out.lines().next().unwrap().strip_prefix("id:  ").unwrap().to_owned();
    let key = made.out.lines().nth(1).unwrap().strip_prefix("key: ").unwrap().to_owned();
    assert!(key.starts_with("ic_live_"));

    let list = place.json(&["key", "list", "--owner", "alice"]);
    let row = &list[0];
    assert_eq!([&row["id"], &row["owner"], &row["name"], &row["status"]].map(text), [&id, text(&alice["id"]), "ci", "active"]);
    assert_eq!(row["scopes"], serde_json::json!(["nodes:read", "findings:read", "jobs:read", "reports:read"]));
    assert_eq!((&row["tenants"], &row["allowed_ips"]), (&serde_json::json!(["prod"]), &serde_json::json!(["10.0.0.0/8"])));
    assert!(!list.to_string().contains(&key));

    let shown = place.feed(&["token", "inspect"], &format!("Bearer {key}\n"));
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    let secret = key.rsplit('_').nth(1).unwrap();
    assert!(!shown.out.contains(secret) && secret.len() == 43);
    let first: Vec<&str> = shown.out.lines().take(4).collect();
    let owner = format!("owner: {} (alice)", text(&alice["id"]));
    assert_eq!(first, ["an API key of API nodes", "", &format!("id: {id}"), &owner]);
    let verdict = format!("nodes: would be accepted now, as account {} (alice)", text(&alice["id"]));
    assert_eq!(shown.out.lines().last(), Some(verdict.as_str()));

    let said = format!("revoked {id} in realm nodes\n");
    place.run(&["key", "revoke", &id]).ends(0, &said, "");
    assert_eq!(place.verdict(&key), (false, "key_revoked".to_owned()));
    let again = place.run(&["key", "revoke", &id]);
    assert!(again.out.starts_with(&format!("{id} was revoked already, at ")) && again.code == Some(0), "{}", again.out);
    assert_eq!(place.json(&["key", "list"])[0]["status"], "revoked");
    place.run(&["key", "revoke", "key-none"]).ends(
        1,
        "",
        "error: `key-none` was not revoked in realm nodes: there is no such API key\n",
    );
}

#[test]
fn a_key_never_exceeds_its_owner() {
    let place = Place::new(CONFIG);
    place.add(&["alice", "--tenant", "prod=viewer"]);
    let create = |option: &str, value: &str| place.run(&["key", "create", "--owner", "alice", option, value]);
    create("--scope", "nodes:write").ends(
        1,
        "",
        "error: the owner, alice, does not have nodes:write: a key never exceeds its owner\n",
    );
    create("--tenant", "dev").ends(1, "", "error: the owner, alice, has no part in the tenant dev\n");
    create("--expires", "2020-01-01T00:00:00Z").ends(1, "", "error: --expires: that is over\n");
    let unknown = create("--scope", "nodes:raed");
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.starts_with("error: unknown scope `nodes:raed`; did you mean `nodes:read`? known: "), "{}", unknown.err);
    assert_eq!(create("--allow-ip", "0.0.0.0/0").code, Some(2));
    place.run(&["user", "disable", "alice"]);
    assert_eq!(create("--name", "ci").code, Some(1));
    assert_eq!(place.json(&["key", "list"]), Value::Array(Vec::new()), "nothing is made");
}

#[test]
fn the_verdict_on_a_credential_follows_the_store() {
    let place = Place::new(CONFIG);
    place.add(&["alice", "--role", "admin"]);
    let key = place.json(&["key", "create", "--owner", "alice"]);
    let key = text(&key["key"]);
    assert_eq!(place.verdict(key), (true, String::new()));
    let mut typo = key.to_owned();
    let last = if typo.pop() == Some('7') { '8' } else { '7' };
    typo.push(last);
    for (credential, code) in [
        (typo.as_str(), "key_checksum"),
        ("ic_live_abc", "key_malformed"),
        ("ic_test_abc", "environment_foreign"),
        ("eyJhbGciOiJub25lIn0.e30.", "token_algorithm"),
        ("eyJhbGciOiJIUzI1NiIsImtpZCI6IngifQ.e30.c2ln", "token_key_unknown"),
    ] {
        assert_eq!(place.verdict(credential), (false, code.to_owned()), "{credential}");
    }
    place.run(&["user", "disable", "alice"]);
    assert_eq!(place.verdict(key), (false, "account_disabled".to_owned()));
    let nothing = "error: this is neither a JSON Web Token nor begins like a key of an API of the config\n";
    place.feed(&["token", "inspect", "-"], "hello\n").ends(1, "", nothing);
}

#[test]
fn a_token_is_shown_with_its_times_and_without_its_signature() {
    let place = Place::new(CONFIG);
    // {"alg":"HS256","kid":"x"} . {"sub":"1","iat":1,"exp":2,"name":"a\u009bb"}
    let token = "eyJhbGciOiJIUzI1NiIsImtpZCI6IngifQ.eyJzdWIiOiIxIiwiaWF0IjoxLCJleHAiOjIsIm5hbWUiOiJhXHUwMDliYiJ9.c2lnbmF0dXJl";
    let shown = place.run(&["token", "inspect", token]);
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    assert!(!shown.out.contains("c2lnbmF0dXJl") && !shown.out.contains('\u{9b}'));
    for line in ["a JSON Web Token", "  \"name\": \"a\\u009bb\"", "kid: names no signing key of an API of the config"] {
        assert!(shown.out.lines().any(|found| found == line), "{line}: {}", shown.out);
    }
    assert!(shown.out.contains("\nexp: 1970-01-01T00:00:02Z ("), "{}", shown.out);
    let verdict = "nodes: would be refused: no key has the id \"x\" (token_key_unknown)";
    assert_eq!(shown.out.lines().last(), Some(verdict));
}

#[test]
fn a_signing_key_that_cannot_be_used_is_named_and_not_shown() {
    for (tokens, secret, why) in [
        (r#"secret_file = "s""#, "hunter2hunter2\n", "the signing key file s: the secret has 14 bytes; HS256 needs at least 32"),
        (r#"secret_file = "none""#, "", "the signing key file none: No such file or directory (os error 2)"),
        (r#"key_file = "s""#, "", "its contract signs with HS256, which takes `secret_file`, not `key_file`"),
    ] {
        let place = Place::new(&format!("{CONFIG}tokens = {{ {tokens} }}\n"));
        std::fs::write(place.path().join("s"), secret).unwrap();
        place.run(&["token", "inspect", "ic_live_abc"]).ends(1, "", &format!("error: API nodes: {why}\n"));
    }
}

#[test]
fn a_config_with_mistakes_ends_every_command_with_78() {
    let place = Place::new("[server]\nwokers = 4\n");
    for arguments in [&["check"][..], &["routes"], &["user", "list"], &["key", "list"], &["token", "inspect", "x"]] {
        let ran = place.run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(78), ""), "{arguments:?}");
        assert!(
            ran.err.starts_with("gateway.toml:1:1: there is no `[[api]]`") || ran.err.contains("unknown key `wokers`"),
            "{}",
            ran.err
        );
        assert!(ran.err.ends_with("2 errors\n"), "{}", ran.err);
    }
    assert!(!place.path().join("gateward.db").exists());
    let ran = place.run(&["check", "--json"]);
    let found: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, ran.err.as_str(), found.as_array().map(Vec::len)), (Some(78), "", Some(2)));
    assert!(found.as_array().unwrap().iter().any(|one| one["line"] == 2 && one["column"] == 1), "{found}");
}

#[test]
fn a_config_that_is_not_there_is_said_to_be_missing() {
    let place = Place::new(CONFIG);
    place.run(&["check", "other.toml"]).ends(78, "", "other.toml: there is no such file\n1 error\n");
    place.run(&["--config", "other.toml", "routes"]).ends(78, "", "other.toml: there is no such file\n1 error\n");
    std::fs::remove_file(place.path().join("gateway.toml")).unwrap();
    if !Path::new("/etc/gateward/gateway.toml").exists() {
        let why = "there is no config: looked for gateway.toml and /etc/gateward/gateway.toml; name one with --config FILE";
        place.run(&["routes"]).ends(78, "", &format!("error: {why}\n"));
    }
}

#[test]
fn the_config_is_named_by_an_option_or_the_environment_and_the_store_lies_beside_it() {
    let place = Place::new(CONFIG);
    std::fs::create_dir(place.path().join("etc")).unwrap();
    std::fs::rename(place.path().join("gateway.toml"), place.path().join("etc/my.toml")).unwrap();
    let named = place.run(&["user", "add", "alice", "--config", "etc/my.toml"]);
    assert_eq!(named.code, Some(0), "{}", named.err);
    let by_environment = place.command().args(["user", "list", "--json"]).env("GATEWARD_CONFIG", "etc/my.toml").output().unwrap();
    let list: Value = serde_json::from_slice(&by_environment.stdout).unwrap();
    assert_eq!(list[0]["username"], "alice");
    let mut files: Vec<String> = std::fs::read_dir(place.path().join("etc"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.contains(".db-"))
        .collect();
    files.sort();
    assert_eq!(files, ["gateward.db", "gateward.key", "my.toml"]);
}

#[test]
fn a_clean_config_is_counted() {
    let place = Place::new(TWO_REALMS);
    let ran = place.run(&["check"]);
    let words: Vec<&str> = ran.out.trim_end().split(", ").collect();
    assert_eq!((ran.code, words[0], words[2], ran.err.as_str()), (Some(0), "gateway.toml: 2 APIs", "no errors", ""));
    assert_eq!(place.json(&["check"]), Value::Array(Vec::new()));
    let routes = place.json(&["routes"]);
    assert_eq!(words[1], format!("{} routes", routes.as_array().unwrap().len()));
}

#[test]
fn routes_are_shown_with_access_and_target() {
    let place = Place::new(CONFIG);
    let table = place.run(&["routes"]);
    assert_eq!((table.code, table.err.as_str()), (Some(0), ""));
    let cells: Vec<Vec<&str>> = table.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[0], ["API", "METHOD", "PATH", "ACCESS", "TENANT", "TARGET", "NAME"]);
    let login = cells.iter().find(|row| row[2] == "/api/v1/auth/token").unwrap();
    assert_eq!(login[..6], ["nodes", "POST", "/api/v1/auth/token", "public", "-", "login"]);
    let routes = place.json(&["routes"]);
    let nodes = routes.as_array().unwrap().iter().find(|route| route["demand"]["scopes"] == serde_json::json!(["nodes:read"]));
    let nodes = nodes.unwrap();
    assert_eq!((&nodes["public"], &nodes["tenant"], &nodes["operation"]), (&false.into(), &"tenant".into(), &Value::Null));
    assert_eq!(nodes["upstream"], "http://127.0.0.1:9000");
}

#[test]
fn wrong_usage_is_2_and_asking_for_help_is_not() {
    let place = Place::new(CONFIG);
    for arguments in
        [&[][..], &["frobnicate"], &["user"], &["user", "add"], &["key", "create"], &["check", "a", "b"], &["routes", "--jsno"]]
    {
        let ran = place.run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(ran.err.contains("Usage: gateward"), "{arguments:?}: {}", ran.err);
    }
    for command in [
        "",
        "serve",
        "run",
        "demo",
        "check",
        "routes",
        "explain",
        "user",
        "user add",
        "user list",
        "user disable",
        "user enable",
        "user passwd",
        "key",
        "key create",
        "key list",
        "key revoke",
        "token",
        "token inspect",
        "store",
        "store migrate",
        "store check",
        "store backup",
        "schema",
        "completions",
        "version",
    ] {
        let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let ran = place.run(&arguments);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{command}");
        assert!(ran.out.contains("\nExample") && !ran.out.contains('\u{1b}'), "{command}: {}", ran.out);
    }
}

#[test]
fn a_store_is_made_checked_and_copied() {
    let place = Place::new(CONFIG);
    let why = "error: the store gateward.db: error returned from database: (code: 14) unable to open database file\n";
    place.run(&["store", "check"]).ends(1, "", why);
    place.run(&["store", "migrate"]).ends(0, "made the tables, version 1\n", "");
    place.run(&["store", "migrate"]).ends(0, "the tables are at version 1\n", "");
    assert_eq!(place.json(&["store", "migrate"]), serde_json::json!({ "from": 1, "to": 1 }));
    assert_eq!(place.run(&["user", "add", "ann"]).code, Some(0));
    let rows = "  accounts: 1\n  sessions: 0\n  keys: 0\n  signing_keys: 0\n  audit: 1\nno problems\n";
    place.run(&["store", "check"]).ends(0, &format!("gateward.db: tables of version 1\n{rows}"), "");
    assert_eq!(place.json(&["store", "check"])["rows"]["accounts"], 1);
    let copied = "copied to copy.db; it is of no use without a copy of gateward.key\n";
    place.run(&["store", "backup", "copy.db"]).ends(0, copied, "");
    place.run(&["store", "backup", "copy.db"]).ends(1, "", "error: the backup copy.db: File exists (os error 17)\n");
    std::fs::rename(place.path().join("copy.db"), place.path().join("gateward.db")).unwrap();
    assert_eq!(place.json(&["store", "check"])["problems"], serde_json::json!([]));
    std::fs::write(place.path().join("gateward.db"), "x".repeat(5000)).unwrap();
    assert_eq!(place.run(&["store", "check"]).code, Some(1));
}

#[test]
fn a_backup_of_postgres_is_pg_dumps_and_shows_no_password() {
    let place = Place::new(&format!("[store]\nurl = \"postgres://gw:hunter2@127.0.0.1:1/gw\"\n{CONFIG}"));
    let told = "error: Postgres makes its own backups; run\n  pg_dump --format=custom --file=gw.dump \
                'postgresql://gw@127.0.0.1:1/gw?sslmode=prefer'\n";
    place.run(&["store", "backup", "gw.dump"]).ends(2, "", told);
    let why = "error: the store postgres://127.0.0.1:1/gw: error communicating with database: 127.0.0.1:1: error communicating \
               with database: Connection refused (os error 111)\n";
    place.run(&["store", "check"]).ends(1, "", why);
}

#[test]
fn the_program_describes_itself() {
    let place = Place::new(CONFIG);
    let schema: Value = serde_json::from_str(&place.run(&["schema"]).out).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]);
        assert_eq!(script.code, Some(0));
        assert!(script.out.contains("gateward") && script.out.contains("passwd"), "{shell}");
    }
    let version = env!("CARGO_PKG_VERSION");
    place.run(&["version"]).ends(0, &format!("gateward {version}\n"), "");
    assert_eq!(place.json(&["version"]), serde_json::json!({ "version": version }));
}

#[test]
fn who_reads_only_the_beginning_breaks_nothing() {
    let place = Place::new(CONFIG);
    for arguments in [&["schema"][..], &["routes"], &["completions", "bash"], &["--help"], &["user", "list"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        // Nobody reads: the first byte meets a broken pipe.
        drop(reader);
        let child = place.command().args(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = ran(child.wait_with_output().unwrap());
        assert_eq!((output.code, output.err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn the_sample_api_runs_alone_and_ends_when_told() {
    let place = Place::new(CONFIG);
    let mut child = place.command().args(["demo", "--api-only", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    let address = said.trim_end().strip_prefix("the sample API answers on http://").unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(b"GET /items?id=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let seen: Value = serde_json::from_str(body).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!((&seen["path"], &seen["query"]), (&"/items".into(), &"id=1".into()));
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// What a reload would change: keys with both values, routes that open stand out, secrets stay out; the exit codes are those of
/// diff(1), and 78 where one of the files has mistakes.
#[test]
fn diff_shows_what_a_reload_would_change() {
    let old = "[store]\nurl = \"postgres://gw:hunter2@db/gw\"\n[[api]]\nname = \"nodes\"\nupstream = \"http://127.0.0.1:9000\"\n\
               contract = \"native\"\n[[api.route]]\nname = \"r\"\npath = \"/r\"\naccept = [\"jwt\"]\n";
    let place = Place::new(old);
    let write = |text: &str| std::fs::write(place.path().join("new.toml"), text).unwrap();
    write(&format!("# the same\n{old}"));
    let same = place.run(&["diff", "new.toml"]);
    assert_eq!((same.code, same.out.as_str(), same.err.as_str()), (Some(0), "", ""));

    write(&old.replace("hunter2", "hunter3").replace("accept = [\"jwt\"]", "public = true").replace(":9000", ":9001"));
    let differs = place.run(&["diff", "new.toml"]);
    assert_eq!(differs.code, Some(1));
    let lines: Vec<&str> = differs.out.lines().collect();
    assert_eq!(
        lines,
        [
            "- api.nodes.route.r.accept: [\"jwt\"]",
            "+ api.nodes.route.r.public: true",
            "~ api.nodes.upstream: \"http://127.0.0.1:9000\" -> \"http://127.0.0.1:9001\"",
            "~ store.url: \"postgres://**********@db/gw\", which stands for something else now",
            "! route r of API nodes (* /r): PUBLIC now, was for jwt",
            "A reload would be refused; a restart is needed for store.url",
        ]
    );
    assert_eq!(differs.err, "");
    let json: Value = serde_json::from_str(&place.run(&["diff", "new.toml", "--json"]).out).unwrap();
    assert_eq!(json["restart"], serde_json::json!(["store.url"]));
    assert_eq!((&json["routes"][0]["old"], &json["routes"][0]["opens"]), (&"jwt".into(), &true.into()));

    write("[[api]]");
    let invalid = place.run(&["diff", "new.toml"]);
    assert_eq!((invalid.code, invalid.out.as_str()), (Some(78), ""));
    assert!(invalid.err.contains("new.toml"), "{}", invalid.err);
}
