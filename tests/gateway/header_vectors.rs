//! What a client says of itself and of its connection, row by row from the shared vectors: what the upstream is told.

use serde_json::Value;

use crate::support::{Answer, Gateway, Upstream, vectors};

/// The vectors' `X-Auth-User` and `X-Auth-Roles` stand for every header that the gateway sets.
const IDENTITY: &str = r#"
[[api.route]]
name = "public"
path = "/public/**"
public = true

[[api.route]]
name = "known"
path = "/known/**"
accept = ["jwt", "api_key"]

[api.identity]
headers = { "X-Auth-User" = "account.id", "X-Auth-User-Id" = "account.id", "X-Auth-Roles" = "account.email" }
"#;

struct Stage {
    upstream: Upstream,
    gateway: Gateway,
    id: String,
    bearer: String,
}

impl Stage {
    fn new() -> Self {
        let upstream = Upstream::start();
        let gateway = Gateway::start(&format!(
            "[[api]]\nhosts = [\"gw.test\"]\nupstream = \"{}\"\ncontract = \"native\"\n{IDENTITY}",
            upstream.url()
        ));
        let id = gateway.add_user("ann", "correct horse", &["viewer"]);
        let login = "{\"username\":\"ann\",\"password\":\"correct horse\"}";
        let answer = gateway.raw(format!(
            "POST /auth/login HTTP/1.1\r\nHost: gw.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{login}",
            login.len()
        ));
        let bearer = format!("Bearer {}", answer.json()["access_token"].as_str().unwrap());
        Self { upstream, gateway, id, bearer }
    }

    /// Sends the fields of a row beside a host and, where it brings none, a good credential.
    fn send(&self, path: &str, fields: &[(String, String)], body: &str) -> Answer {
        self.upstream.forget();
        let has = |name: &str| fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name));
        let mut head = format!("GET {path} HTTP/1.1\r\n");
        if !has("host") {
            head.push_str("Host: gw.test\r\n");
        }
        if !has("authorization") && path.starts_with("/known") {
            head.push_str(&format!("Authorization: {}\r\n", self.bearer));
        }
        for (name, value) in fields {
            let value =
                value.replace("Bearer good", &self.bearer).replace("bEaReR <valid>", &self.bearer.replace("Bearer", "bEaReR"));
            head.push_str(&format!("{name}: {}\r\n", value.replace("Bearer <valid>", &self.bearer)));
        }
        self.gateway.raw(format!("{head}\r\n{body}"))
    }

    fn refused(&self, answer: &Answer, status: u16, why: &str, row: &str) {
        assert_eq!((answer.status, self.gateway.why(answer).as_str(), self.upstream.count()), (status, why, 0), "{row}");
    }
}

/// The values of a field in a recorded request, its name folded as CGI does.
fn folded(request: &str, name: &str) -> Vec<String> {
    let fold = |text: &str| text.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let head = request.split("\r\n\r\n").next().unwrap_or_default();
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    fields.filter(|(found, _)| fold(found) == fold(name)).map(|(_, value)| value.to_owned()).collect()
}

fn fields(row: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    row["headers"].as_array().unwrap().iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

/// B1 B2 B3 B4 B5 B7 B9 B12 B14: each row of the vectors, with what becomes of it here; a row that none of these knows fails.
///
/// Policy where the vectors leave a choice: a bearer token beside a parameter `access_token` is the credential, and the
/// parameter is a parameter like any other; of a bearer token and a key the contract's order decides.
#[test]
fn the_rows_about_headers_have_the_outcomes_that_they_ask_for() {
    let Some(rows) = vectors("own/headers.json") else { return };
    let stage = Stage::new();
    let mut played = 0;
    for row in rows["tests"].as_array().unwrap() {
        let (name, fields) = (row["name"].as_str().unwrap(), fields(row));
        let (field, value) = fields[0].clone();
        match name {
            "Host against :authority" | "SNI against Host" => continue,
            _ if name.starts_with("client sends ")
                || ["anonymous route", "claim absent from the token", "duplicate"].contains(&name) =>
            {
                assert_eq!(stage.send("/known/a", &fields, "").status, 200, "{name}");
                let seen = stage.upstream.last();
                let ours = |header: &str| if header == "X-Auth-Roles" { vec![] } else { vec![stage.id.clone()] };
                for header in ["X-Auth-User", "X-Auth-User-Id", "X-Auth-Roles"] {
                    assert_eq!(folded(&seen, header), ours(header), "{name}: {seen}");
                }
                assert_eq!(stage.send("/public/a", &fields, "").status, 200, "{name}");
                assert_eq!(folded(&stage.upstream.last(), &field), Vec::<String>::new(), "{name}");
            }
            _ if name.starts_with("Connection: ") => connection(&stage, name, &value),
            "trailer" => {
                let body = "3\r\nabc\r\n0\r\nX-Auth-User: admin\r\nContent-Length: 5\r\nAuthorization: Bearer x\r\n\r\n";
                assert_eq!(stage.send("/known/a", &fields, body).status, 200);
                let seen = stage.upstream.last();
                assert!(seen.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n") && !seen.contains("admin"), "{seen}");
            }
            _ if name.starts_with("untrusted peer sends ") => {
                let answer = stage.send("/known/a", &fields, "");
                assert_eq!(
                    (answer.status, stage.gateway.logged(&answer)["client_ip"].as_str()),
                    (200, Some("127.0.0.1")),
                    "{name}"
                );
                assert!(!stage.upstream.last().contains("spoof"), "{name}: {}", stage.upstream.last());
            }
            "malformed 'X-A': ' \\t'" => assert_eq!(stage.send("/known/a", &fields, "").status, 200),
            _ if name.starts_with("malformed ") => {
                let answer = stage.send("/known/a", &fields, "");
                assert_eq!((answer.status, stage.upstream.count()), (400, 0), "{name}");
            }
            "101 headers" => {
                let answer = stage.send("/public/a", &fields, "");
                assert_eq!((answer.status, stage.upstream.count()), (431, 0), "{name}");
            }
            _ => credential_or_host(&stage, name, &fields),
        }
        played += 1;
    }
    assert_eq!(played, rows["tests"].as_array().unwrap().len() - 2, "HTTP/2 and TLS rows apart");
}

/// What `Connection` names is gone unless it was judged or is ours.
fn connection(stage: &Stage, name: &str, value: &str) {
    let sent = ["X-Auth-User: admin", "X-Real-Ip: 10.9.9.9", "X-Auth-Sig: 1", "Cookie: a=1", "X-Forwarded-For: 10.9.9.9"];
    let mut lines: Vec<(String, String)> =
        sent.iter().filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    lines.push(("Connection".to_owned(), value.to_owned()));
    lines.push(("Content-Length".to_owned(), "3".to_owned()));
    assert_eq!(stage.send("/known/a", &lines, "abc").status, 200, "{name}");
    let seen = stage.upstream.last();
    assert_eq!(folded(&seen, "X-Auth-User"), [stage.id.as_str()], "{name}");
    assert_eq!(folded(&seen, "X-Forwarded-For"), ["127.0.0.1"], "{name}");
    assert_eq!(folded(&seen, "X-Real-Ip"), ["127.0.0.1"], "{name}");
    assert_eq!(folded(&seen, "X-Request-Id").len(), 1, "{name}");
    assert_eq!((folded(&seen, "Host"), folded(&seen, "Cookie")), (vec!["gw.test".to_owned()], vec!["a=1".to_owned()]), "{name}");
    assert_eq!((folded(&seen, "Content-Length"), folded(&seen, "Authorization")), (vec!["3".to_owned()], vec![]), "{name}");
    assert!(seen.ends_with("\r\n\r\nabc") && folded(&seen, "Connection").is_empty(), "{name}: {seen}");
    assert_eq!(folded(&seen, "X-Auth-Sig").is_empty(), value.contains("x-auth-sig"), "{name}");
}

fn credential_or_host(stage: &Stage, name: &str, fields: &[(String, String)]) {
    let mut lines = fields.to_vec();
    match name {
        "two Authorization" => {
            stage.refused(&stage.send("/known/a", &lines, ""), 400, "refused credential credential_duplicate", name);
        }
        "bearer in header and query" => {
            lines.truncate(1);
            let answer = stage.send("/known/x?access_token=b", &lines, "");
            stage.refused(&answer, 401, "refused authenticate token_malformed", name);
            let answer = stage.gateway.raw("GET /known/x?access_token=b HTTP/1.1\r\nHost: gw.test\r\n\r\n");
            stage.refused(&answer, 401, "refused credential credential_missing", name);
        }
        "bearer plus API key plus signature" => {
            stage.refused(&stage.send("/known/a", &lines, ""), 401, "refused authenticate token_malformed", name);
        }
        "Authorization with a comma list" | "empty bearer" => {
            stage.refused(&stage.send("/known/a", &lines, ""), 401, "refused credential credential_malformed", name);
        }
        "scheme case" | "credential must not leak upstream" => {
            assert_eq!(stage.send("/known/a", &lines, "").status, 200, "{name}");
            let seen = stage.upstream.last();
            assert_eq!([folded(&seen, "Authorization"), folded(&seen, "X-Api-Key")], [vec![], Vec::<String>::new()], "{name}");
        }
        "two Host" => stage.refused(&stage.send("/public/a", &lines, ""), 400, "refused listener host_missing", name),
        "Host with user info" => {
            stage.refused(&stage.send("/public/a", &lines, ""), 400, "refused listener host_malformed", name);
        }
        "Host upper case" | "Host trailing dot" => assert_eq!(stage.send("/public/a", &lines, "").status, 200, "{name}"),
        _ => panic!("a new row: {name}"),
    }
}
