//! Planted secrets, hunted in everything that the gateway writes, shows and forwards.

use serde_json::{Value, json};

use crate::support::{Answer, Client, Gateway, Reply, Upstream};

const NODES: &str = "/api/v1/tenants/prod/nodes";
const LOGIN: &str = "/api/v1/auth/token";
const SIGNING_SECRET: &str = "planted-in-the-file-of-the-signing-secret";

/// What is planted, each text with where it was, and what clients were told in refusals.
struct Hunt<'a> {
    gateway: &'a Gateway,
    upstream: &'a Upstream,
    planted: Vec<(String, String)>,
    told: String,
}

impl<'a> Hunt<'a> {
    fn plant(&mut self, place: &str) -> String {
        let text = format!("Pl4ntedSecret{:04}", self.planted.len());
        self.found(place, &text);
        text
    }

    /// A secret that the gateway itself has made.
    fn found(&mut self, place: &str, text: &str) {
        assert!(text.len() >= 16, "{place}: {text}");
        self.planted.push((place.to_owned(), text.to_owned()));
    }

    /// Keeps what a refusal told. What an upstream answers is the client's own.
    fn hear(&mut self, answer: Answer) -> Answer {
        if answer.status >= 400 && self.gateway.logged(&answer)["verdict"] != "forwarded" {
            self.told.push_str(&format!("{answer:?}\n"));
        }
        answer
    }

    fn get(&mut self, path: &str, headers: &[&str], status: u16) -> Answer {
        let answer = self.gateway.get(path, headers);
        let answer = self.hear(answer);
        assert_eq!(answer.status, status, "{path} {headers:?}");
        answer
    }

    fn bearer(&mut self, credential: &str, status: u16) {
        self.get(NODES, &[&format!("Authorization: Bearer {credential}")], status);
    }

    fn post(&mut self, path: &str, headers: &[&str], body: &str, status: u16) -> Answer {
        let answer = self.gateway.post(path, headers, body);
        let answer = self.hear(answer);
        assert_eq!(answer.status, status, "{path} {body}");
        answer
    }

    fn logins(&mut self, password: &str) -> (String, String) {
        let wrong = self.plant("a wrong password");
        self.post(LOGIN, &[], &json!({ "username": "ann", "password": wrong }).to_string(), 401);
        let unknown = self.plant("a password of nobody");
        self.post(LOGIN, &[], &json!({ "username": "nobody", "password": unknown }).to_string(), 401);
        let name = self.plant("a password in place of the name");
        self.post(LOGIN, &[], &json!({ "username": name, "password": "x" }).to_string(), 401);
        let long = self.plant("a password that is too long");
        self.post(LOGIN, &[], &json!({ "username": "ann", "password": format!("{long}{}", "x".repeat(1024)) }).to_string(), 400);
        let nested = self.plant("a password in an object");
        self.post(LOGIN, &[], &json!({ "username": "ann", "password": { "value": nested } }).to_string(), 400);
        let other = self.plant("a password in a field of another name");
        self.post(LOGIN, &[], &json!({ "username": "ann", "passwd": other }).to_string(), 400);
        let broken = self.plant("a password in broken JSON");
        self.post(LOGIN, &[], &format!("{{\"username\":\"ann\",\"password\":\"{broken}"), 400);
        let query = self.plant("a password in the query of a login");
        self.post(&format!("{LOGIN}?password={query}"), &[], "{}", 400);
        let form = self.plant("a password in a form");
        let sent = self.gateway.request("POST", LOGIN, &["Content-Type: text/plain"], &format!("password={form}"));
        assert_eq!(self.hear(sent).status, 415);
        let good = self.post(LOGIN, &[], &json!({ "username": "ann", "password": password }).to_string(), 200).json();
        let member = |name: &str| good[name].as_str().unwrap().to_owned();
        (member("token"), member("refresh_token"))
    }

    fn tokens(&mut self, token: &str, refresh: &str) {
        self.found("the signature of an access token", token.rsplit('.').next().unwrap());
        self.found("a refresh token", refresh);
        self.bearer(token, 200);
        let (message, _) = token.rsplit_once('.').unwrap();
        let signature = self.plant("the signature of a forged token");
        self.bearer(&format!("{message}.{signature}"), 401);
        let junk = self.plant("a bearer token that is none");
        self.bearer(&junk, 401);
        self.bearer(refresh, 401);
        let fresh = self.post("/api/v1/auth/refresh", &[], &json!({ "refresh_token": refresh }).to_string(), 200).json();
        self.found("the signature of a fresh token", fresh["token"].as_str().unwrap().rsplit('.').next().unwrap());
        let wrong = self.plant("a refresh token that is none");
        self.post("/api/v1/auth/refresh", &[], &json!({ "refresh_token": wrong }).to_string(), 401);
        let query = self.plant("a token in the query");
        self.get(&format!("{NODES}?access_token={query}"), &[], 401);
    }

    fn keys(&mut self, token: &str) {
        let bearer = format!("Authorization: Bearer {token}");
        let mut make = || {
            let made = self.post("/api/v1/api-keys", &[&bearer], r#"{"name":"k"}"#, 201).json();
            let (id, key) = (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned());
            self.found("the secret of a key", key.split('_').nth(3).unwrap());
            (id, key)
        };
        let (_, key) = make();
        let (id, revoked) = make();
        self.bearer(&key, 200);
        self.bearer(&format!("{key}x"), 401);
        self.bearer(&key.replace("ic_live_", "ic_test_"), 401);
        assert_eq!(self.gateway.request("DELETE", &format!("/api/v1/api-keys/{id}"), &[&bearer], "").status, 204);
        self.bearer(&revoked, 401);
        let foreign = self.plant("a key of another environment");
        self.bearer(&format!("ic_test_{foreign}"), 401);
        let odd = self.plant("a key that is none");
        self.bearer(&format!("ic_live_{odd}"), 401);
        let unused = self.plant("a key in another carrier");
        self.get(NODES, &[&format!("X-API-Key: {unused}")], 401);
    }

    fn headers(&mut self, token: &str) {
        let bearer = format!("Authorization: Bearer {token}");
        for (field, status) in [
            ("Authorization: Basic {}", 401),
            ("Authorization: Digest username=\"ann\", response=\"{}\"", 401),
            ("Authorization: Bearer {}, Bearer {}", 401),
            ("Authorization: Bearer x\r\nAuthorization: Bearer {}", 400),
            ("Cookie: session={}", 401),
            ("Proxy-Authorization: Basic {}", 401),
            ("X-Custom-Secret: {}", 401),
            ("Referer: http://api.test/?token={}", 401),
            ("X-Forwarded-For: {}", 401),
            ("Expect: {}", 417),
        ] {
            let secret = self.plant(field);
            self.get(NODES, &[&field.replace("{}", &secret)], status);
            if status == 401 && !field.starts_with("Authorization") {
                self.get(NODES, &[&bearer, &field.replace("{}", &secret)], 200);
            }
        }
        for (head, status) in [
            ("GET /health HTTP/1.1\r\nHost: user:{}@api.test", 400),
            ("GET http://user:{}@api.test/health HTTP/1.1\r\nHost: api.test", 400),
            ("GET /health?token={} HTTP/1.1\r\nHost: api.test", 200),
            ("GET /nowhere?token={} HTTP/1.1\r\nHost: api.test", 404),
            ("GET /a//b?token={} HTTP/1.1\r\nHost: api.test", 400),
            ("GET /health?token={} HTTP/1.1\r\nHost: api.test\r\nHost: b", 400),
            ("TRACE /health?token={} HTTP/1.1\r\nHost: api.test", 405),
        ] {
            let secret = self.plant(head);
            let answer = self.gateway.raw(format!("{}\r\n\r\n", head.replace("{}", &secret)));
            let answer = self.hear(answer);
            assert_eq!(answer.status, status, "{head}");
        }
        let (body, trailer) = (self.plant("a body"), self.plant("a trailer"));
        let answer = self.gateway.raw(format!(
            "POST {NODES} HTTP/1.1\r\nHost: api.test\r\n{bearer}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\nX-T: {trailer}\r\n\r\n",
            body.len()
        ));
        assert_eq!(answer.status, 200);
    }

    fn answers(&mut self) {
        let (cookie, body, field) =
            (self.plant("a cookie of an answer"), self.plant("the body of an answer"), self.plant("a field of an answer"));
        let head = format!("Set-Cookie: s={cookie}\r\nX-Secret: {field}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        for (line, status) in [("HTTP/1.1 200 OK", 200), ("HTTP/1.1 500 No", 500)] {
            self.upstream.reply(Reply::Bytes(format!("{line}\r\n{head}").into_bytes()));
            assert_eq!(self.get("/health", &[], status).body, body);
        }
        let broken = self.plant("an answer that is none");
        for bytes in
            [format!("{broken}\r\n\r\n"), format!("HTTP/1.1 200 OK\r\n{broken}\r\n\r\n"), format!("HTTP/1.1 {broken}\r\n\r\n")]
        {
            self.upstream.reply(Reply::BytesThenClose(bytes.into_bytes()));
            self.get("/health", &[], 502);
        }
        self.upstream.reply(Reply::Ok);
    }

    /// What operators are shown of requests that carry secrets, and of everything else.
    fn admin(&mut self) -> String {
        let (header, query, name) =
            (self.plant("a credential to explain"), self.plant("a query to explain"), self.plant("a field to explain"));
        let question = json!({
            "method": "GET",
            "url": format!("http://api.test{NODES}?q={query}"),
            "headers": [["Authorization", format!("Bearer {header}")], ["X-Custom", name]],
        });
        let ask = |question: &Value| {
            let (text, mut client) = (question.to_string(), Client::connect(self.gateway.admin));
            client.send(format!(
                "POST /explain HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
                self.gateway.admin,
                text.len()
            ));
            client.receive()
        };
        let explained = ask(&question);
        assert_eq!((explained.status, explained.json()["reason"].as_str()), (200, Some("token_malformed")));
        let mut shown = explained.body;
        for wrong in [
            json!({ "method": "GET", "url": format!("http://api.test/a b?q={query}") }),
            json!({ "method": "GET", "url": "http://api.test/", "headers": [["X A", name]] }),
            json!({ "method": "GET", "url": "http://api.test/", "headers": [["X-A", format!("{name}\n")]] }),
            json!({ "method": "GET", "url": 1, "headers": [["Authorization", header]] }),
            json!([header, query, name]),
        ] {
            let answer = ask(&wrong);
            assert_eq!(answer.status, 422);
            shown.push_str(&answer.body);
        }
        for page in ["/metrics", "/healthz", "/readyz", "/", "/requests/none"] {
            shown.push_str(&self.gateway.admin(&format!("GET {page}")).body);
        }
        for line in self.gateway.log() {
            shown.push_str(&self.gateway.admin(&format!("GET /requests/{}", line["request_id"].as_str().unwrap())).body);
        }
        let url = format!("http://api.test{NODES}?q={query}");
        let line = format!("Authorization: Bearer {header}");
        for command in [
            ["explain", "GET", &url, "-H", &line].as_slice(),
            &["explain", "GET", &url, "-H", &line, "--offline", "--json"],
            &["user", "list", "--json"],
            &["key", "list", "--json"],
            &["routes"],
            &["check"],
        ] {
            shown.push_str(&self.gateway.cli_ok(command, ""));
        }
        shown
    }
}

/// O1: forty secrets and more, in every place where one may stand: passwords, tokens, keys, headers, queries, bodies, answers
/// and files. None is in a log, with everything that can be logged, in a number, in what operators are shown, in a refusal,
/// or, of those that are kept, in the store.
#[test]
fn no_secret_is_written_or_shown() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::prepare(
        "",
        &format!(
            "[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\ntokens = {{ secret_file = \"hs.key\" }}\n\n\
             [[api.limit]]\nname = \"login\"\nper = [\"client_ip\"]\nquota = \"1000 per 1m\"\nalgorithm = \"fixed_window\"\n\n\
             [log]\nlevel = \"trace\"\n",
            upstream.url()
        ),
    )
    .limited("export RUST_LOG=trace");
    std::fs::write(gateway.folder.path().join("hs.key"), SIGNING_SECRET).unwrap();
    gateway.restart();
    let mut hunt = Hunt { gateway: &gateway, upstream: &upstream, planted: Vec::new(), told: String::new() };
    hunt.found("the file of the signing secret", SIGNING_SECRET);
    let key_file = std::fs::read_to_string(gateway.folder.path().join("gateward.key")).unwrap();
    hunt.found("the file of the store's key", key_file.trim());
    hunt.found("a password's hash", "$argon2id$v=19$m=");
    let password = hunt.plant("a password");
    gateway.add_user("ann", &password, &["admin"]);
    let (token, refresh) = hunt.logins(&password);
    hunt.tokens(&token, &refresh);
    hunt.keys(&token);
    hunt.headers(&token);
    hunt.answers();
    let shown = hunt.admin();
    gateway.logged(&gateway.get("/health", &[]));
    assert!(hunt.planted.len() >= 40, "{}", hunt.planted.len());
    assert!(gateway.stderr().contains(" INFO ") && hunt.told.lines().count() > 30 && shown.len() > 10_000);
    let kept: Vec<u8> = ["gateward.db", "gateward.db-wal"]
        .iter()
        .flat_map(|file| std::fs::read(gateway.folder.path().join(file)).unwrap_or_default())
        .collect();
    let kept = String::from_utf8_lossy(&kept);
    let written = gateway.everything_written();
    for (place, secret) in &hunt.planted {
        for (name, text) in [("the logs", &written), ("a refusal", &hunt.told), ("what operators are shown", &shown)] {
            assert!(!text.contains(secret), "{place}: {secret} is in {name}");
        }
        // Who tried to log in is what an audit is for, and a hash is what is to be kept of a password.
        let may_be_kept = ["a password in place of the name", "a password's hash"].contains(&place.as_str());
        assert!(may_be_kept || !kept.contains(secret), "{place}: {secret} is in the store");
    }
}

/// B8: neither the credential that was used nor one beside it reaches the upstream or a log, also when the upstream fails.
#[test]
fn credentials_reach_neither_the_upstream_nor_a_log() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"native\"\n\n[log]\nlevel = \"debug\"\n",
        upstream.url()
    ));
    gateway.add_user("ann", "correct horse", &["editor"]);
    let login = gateway.post("/auth/login", &[], r#"{"username":"ann","password":"correct horse"}"#).json();
    let token = login["access_token"].as_str().unwrap();
    let key: Value = serde_json::from_str(&gateway.cli_ok(&["key", "create", "--owner", "ann", "--json"], "")).unwrap();
    let key = key["key"].as_str().unwrap();
    let (bearer, header) = (format!("Authorization: Bearer {token}"), format!("X-API-Key: {key}"));
    for (reply, status) in [
        (Reply::Bytes(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno".to_vec()), 500),
        (Reply::BytesThenClose(b"junk\r\n\r\n".to_vec()), 502),
        (Reply::Ok, 200),
    ] {
        upstream.reply(reply);
        assert_eq!(gateway.get("/items", &[&bearer, &header]).status, status);
    }
    gateway.logged(&gateway.get("/items", &[&bearer, &header]));
    assert_eq!(upstream.count(), 4);
    let (seen, written) = (upstream.requests().concat(), gateway.everything_written());
    for secret in [token.rsplit('.').next().unwrap(), key.split('_').nth(3).unwrap(), "uthorization", "-api-key"] {
        assert!(!seen.to_lowercase().contains(&secret.to_lowercase()), "{secret}: {seen}");
        assert!(!written.contains(secret), "{secret} was written");
    }
}
