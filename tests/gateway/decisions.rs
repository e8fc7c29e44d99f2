//! A proxy asks whether a request may pass, and forwards it by itself.

use std::net::SocketAddr;

use crate::servers::free_address;
use crate::support::{Answer, Client, Gateway, Message, Upstream};

/// What a proxy tells beside the client's own headers: method, target, host and client.
fn telling(method: &str, target: &str) -> Vec<String> {
    vec![
        format!("X-Forwarded-Method: {method}"),
        format!("X-Forwarded-Uri: {target}"),
        "X-Forwarded-Host: api.test".to_owned(),
        "X-Forwarded-For: 203.0.113.9".to_owned(),
    ]
}

struct Deciding {
    gateway: Gateway,
    decisions: SocketAddr,
    upstream: Upstream,
}

impl Deciding {
    /// A gateway that answers by one listener and decides by another, where `askers` may ask.
    fn start(askers: &str, listener: &str, api: &str) -> Self {
        let (upstream, decisions) = (Upstream::start(), free_address());
        let gateway = Gateway::start(&format!(
            "[[listener]]\nname = \"decisions\"\naddress = \"{decisions}\"\ndecides_for = \"public\"\ntrusted_proxies = [{askers}]\n\
             {listener}\n[[api]]\nupstream = \"{}\"\n{api}",
            upstream.url()
        ));
        Self { gateway, decisions, upstream }
    }

    fn infracast() -> Self {
        Self::start("\"127.0.0.1/32\"", "", "contract = \"infracast\"\n")
    }

    fn ask(&self, line: &str, headers: &[String]) -> Answer {
        let mut client = Client::connect(self.decisions);
        client.send(format!("{line} HTTP/1.1\r\nHost: gateway.internal\r\n{}\r\n\r\n", headers.join("\r\n")));
        client.receive()
    }

    /// In the way of nginx, Caddy and Traefik.
    fn decide(&self, method: &str, target: &str, headers: &[&str]) -> Answer {
        let sent: Vec<String> = headers.iter().map(|line| (*line).to_owned()).chain(telling(method, target)).collect();
        self.ask("GET /decisions", &sent)
    }

    /// Status and reason of an answer.
    fn why(&self, answer: &Answer) -> (u16, String) {
        let reason = self.gateway.logged(answer)["reason"].as_str().unwrap_or("-").to_owned();
        (answer.status, reason)
    }
}

/// The identity headers of a request that came.
fn identity(message: &Message) -> Vec<(String, String)> {
    let ours = message.fields.iter().filter(|(name, _)| name.starts_with("x-auth-"));
    let mut lines: Vec<_> = ours.cloned().collect();
    lines.sort();
    lines
}

/// What an answer says beyond what every answer says.
fn told(answer: &Answer) -> Vec<(String, String)> {
    let always = ["content-length", "date", "x-request-id"];
    let mut lines = answer.headers.clone();
    lines.retain(|(name, _)| !always.contains(&name.as_str()) && !name.starts_with("x-ratelimit"));
    lines.sort();
    lines
}

/// B1 B2: the answer names the caller as a forwarded request would have, whatever the client claims to be.
#[test]
fn an_allowed_request_is_told_with_the_identity_that_would_be_forwarded() {
    let at = Deciding::infracast();
    at.gateway.add_user("edit", "correct horse", &["prod=editor"]);
    let (token, _) = at.gateway.login("edit", "correct horse");
    let bearer = format!("Authorization: Bearer {token}");
    let forged = ["X-Auth-Roles: admin", "X_Auth_User_Id: root", "x-auth-key-id: key-1", "Connection: X-Auth-Tenant"];
    let sent = [&[bearer.as_str()], &forged[..]].concat();
    assert_eq!(at.gateway.get("/api/v1/tenants/prod/nodes", &sent).status, 200);
    let forwarded = identity(&at.upstream.messages()[0]);
    assert_eq!(forwarded.iter().map(|(_, value)| value.as_str()).filter(|value| *value == "edit").count(), 1, "{forwarded:?}");
    at.upstream.forget();

    let allowed = at.decide("GET", "/api/v1/tenants/prod/nodes?x=1", &sent);
    assert_eq!((allowed.status, told(&allowed)), (200, forwarded.clone()));
    assert!(allowed.body.is_empty());
    let line = at.gateway.logged(&allowed);
    let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let seen = ["verdict", "listener", "method", "host", "path", "client_ip"].map(word);
    assert_eq!(seen, ["allowed", "decisions", "GET", "api.test", "/api/v1/tenants/prod/nodes", "203.0.113.9"]);

    let all =
        at.ask("GET /decisions?absent=empty", &[vec![bearer.clone()], telling("GET", "/api/v1/tenants/prod/nodes")].concat());
    let absent = ["x-auth-email", "x-auth-key-id"].map(|name| (name.to_owned(), String::new()));
    let mut every = [&forwarded[..], &absent].concat();
    every.sort();
    assert_eq!(told(&all), every);

    // As Envoy asks: the request itself, after a prefix.
    let client = "X-Forwarded-For: 203.0.113.9".to_owned();
    let answer = at.ask("DELETE /decisions/api/v1/tenants/prod/nodes/n1", &[bearer, client]);
    let (removed, identity): (Vec<_>, Vec<_>) =
        told(&answer).into_iter().partition(|(name, _)| name == "x-envoy-auth-headers-to-remove");
    assert_eq!((answer.status, identity), (200, forwarded));
    assert_eq!(removed[0].1, "authorization,x-auth-email,x-auth-key-id");
    assert_eq!(at.gateway.logged(&answer)["method"], "DELETE");
    assert_eq!(at.upstream.count(), 0);
}

/// What the client is told does not depend on who forwards.
#[test]
fn a_refusal_is_the_one_that_the_gateway_gives() {
    let at = Deciding::infracast();
    at.gateway.add_user("view", "correct horse", &["prod=viewer"]);
    let (token, _) = at.gateway.login("view", "correct horse");
    let bearer = format!("Authorization: Bearer {token}");
    for (method, target, header) in [
        ("GET", "/api/v1/tenants/prod/nodes", "Accept: */*"),
        ("GET", "/api/v1/tenants/prod/nodes", "Authorization: Bearer x.y.z"),
        ("DELETE", "/api/v1/tenants/prod/nodes/n1", &bearer),
        ("GET", "/api/v1/tenants/other/nodes", &bearer),
        ("GET", "/api/v1/tenants/prod/../../admin/x", &bearer),
        ("GET", "/api/v1//tenants/prod/nodes", &bearer),
        ("GET", "/api/v1/tenants/prod%2fnodes", &bearer),
        ("GET", "/nowhere", &bearer),
        ("TRACE", "/api/v1/tenants/prod/nodes", &bearer),
    ] {
        let own = at.gateway.request(method, target, &[header], "");
        let decided = at.decide(method, target, &[header]);
        let without_id = |answer: &Answer| {
            let body = answer.body.replace(answer.request_id(), "ID");
            (answer.status, told(answer), body)
        };
        assert!(own.status >= 400, "{method} {target}");
        assert_eq!(without_id(&decided), without_id(&own), "{method} {target}");
        assert_eq!(at.why(&decided), at.why(&own), "{method} {target}");
    }
    assert_eq!(at.upstream.count(), 0);
}

/// B5: whose word it is that tells of a request, decides.
#[test]
fn only_a_trusted_proxy_may_ask() {
    let at = Deciding::start(
        "\"127.0.0.2/32\"",
        "",
        "contract = \"native\"\n[[api.route]]\nname = \"open\"\npath = \"/open\"\npublic = true\n",
    );
    let answer = at.decide("GET", "/open", &[]);
    assert_eq!(at.why(&answer), (403, "asker_untrusted".to_owned()));
    assert_eq!(at.gateway.get("/open", &[]).status, 200);
}

/// N9 B5: a reload says anew who may ask, and what is decided.
#[test]
fn a_reload_holds_for_decisions_too() {
    let open = "contract = \"native\"\n[[api.route]]\nname = \"open\"\npath = \"/open\"\npublic = true\n";
    let at = Deciding::start("\"127.0.0.1/32\"", "", open);
    assert_eq!((at.decide("GET", "/open", &[]).status, at.decide("GET", "/other", &[]).status), (200, 401));
    assert_eq!(at.gateway.reload_with(|text| text.replace("/open", "/other")).status, 200);
    assert_eq!((at.decide("GET", "/open", &[]).status, at.decide("GET", "/other", &[]).status), (401, 200));
    assert_eq!(at.gateway.reload_with(|text| text.replace("[\"127.0.0.1/32\"]", "[\"127.0.0.2/32\"]")).status, 200);
    let answer = at.decide("GET", "/other", &[]);
    assert_eq!(at.why(&answer), (403, "asker_untrusted".to_owned()));
}

/// B5 A2: a client adds a second telling, a proxy leaves one out: nobody guesses what was meant.
#[test]
fn a_request_that_is_not_told_clearly_is_refused() {
    let at = Deciding::start(
        "\"127.0.0.1/32\"",
        "",
        "contract = \"native\"\n[[api.route]]\nname = \"open\"\npath = \"/open\"\npublic = true\n",
    );
    let clear = telling("GET", "/open");
    assert_eq!(at.ask("GET /decisions", &clear).status, 200);
    let without = |name: &str| clear.iter().filter(|line| !line.starts_with(name)).cloned().collect::<Vec<_>>();
    let with = |line: &str| [&clear[..], &[line.to_owned()]].concat();
    let instead = |line: &str| [without(line.split(": ").next().unwrap()), vec![line.to_owned()]].concat();
    let client = || vec!["X-Forwarded-For: 203.0.113.9".to_owned()];
    for (line, headers, reason) in [
        ("GET /decisions", without("X-Forwarded-Method"), "question_malformed"),
        ("GET /decisions", without("X-Forwarded-Uri"), "question_malformed"),
        ("GET /decisions", without("X-Forwarded-Host"), "question_malformed"),
        ("GET /decisions", without("X-Forwarded-For"), "question_malformed"),
        ("GET /decisions", with("X-Forwarded-Uri: /open"), "question_malformed"),
        ("GET /decisions", with("X-Original-URI: /open"), "question_malformed"),
        ("GET /decisions", with("X-Forwarded-Method: GET"), "question_malformed"),
        ("GET /decisions", with("X-Original-Method: GET"), "question_malformed"),
        ("GET /decisions", with("X-Forwarded-Host: api.test"), "question_malformed"),
        ("GET /decisions", instead("X-Forwarded-Uri: http://api.test/open"), "question_malformed"),
        ("GET /decisions", instead("X-Forwarded-Uri: open"), "question_malformed"),
        ("GET /decisions", instead("X-Forwarded-Uri: /open /x"), "question_malformed"),
        ("GET /decisions", instead("X-Forwarded-Method: G T"), "question_malformed"),
        ("GET /decisions", instead("X-Forwarded-Uri: /open#x"), "head_malformed"),
        ("GET /decisions", instead("X-Forwarded-Uri: /open?x=\"y\""), "head_malformed"),
        ("GET /decisions", instead("X-Forwarded-Host: api.test, evil.test"), "host_malformed"),
        ("GET /decisions", instead("X-Forwarded-Uri: /open/%2e%2e/x"), "path_ambiguous"),
        ("GET /decisions", instead("X-Forwarded-Uri: /open%2fx"), "path_ambiguous"),
        ("GET /decisions", instead("X-Forwarded-Uri: //open"), "path_ambiguous"),
        ("GET /decisions/open", clear.clone(), "question_malformed"),
        ("GET /decisions/", clear.clone(), "question_malformed"),
        ("GET /decisions/%2e%2e/open", client(), "path_ambiguous"),
        ("GET /decisions//open", client(), "path_ambiguous"),
        ("GET /decisionsx", clear.clone(), "no_route"),
        ("GET /open", clear.clone(), "no_route"),
        ("GET http://gateway.internal/decisions", clear.clone(), "question_malformed"),
    ] {
        let answer = at.ask(line, &headers);
        assert_eq!(at.why(&answer).1, reason, "{line} {headers:?}");
    }
    assert_eq!(at.ask("GET /decisions/open?x=/../", &client()).status, 200);
    assert_eq!(at.ask("GET /decisions?/open/..", &clear).status, 200);
    assert_eq!(
        at.ask("GET /decisions", &[without("X-Forwarded-Method"), vec!["X-Original-Method: GET".to_owned()]].concat()).status,
        200
    );
    assert_eq!(at.upstream.count(), 0);
}

/// A login is answered here and nowhere else: to forward it would be to hand a password to who has no use for it.
#[test]
fn an_endpoint_of_the_gateway_is_not_decided_about() {
    let at = Deciding::infracast();
    let answer = at.decide("POST", "/api/v1/auth/token", &[]);
    assert_eq!(at.why(&answer), (403, "gateway_only".to_owned()));
}

/// M2: each client has its own share, though all are asked about by one proxy; and a proxy that takes two statuses only is
/// told the third beside.
#[test]
fn limits_are_spent_by_the_client_that_was_told() {
    let api = "contract = \"native\"\n[[api.route]]\nname = \"open\"\npath = \"/open\"\npublic = true\nlimits = [\"edge\"]\n\
               [[api.limit]]\nname = \"edge\"\nper = [\"client_ip\"]\nquota = \"2 per 1h\"\nalgorithm = \"fixed_window\"\n";
    let at = Deciding::start("\"127.0.0.1/32\"", "", api);
    let ask = |path: &str, client: u8| {
        let mut headers = telling("GET", "/open");
        headers.retain(|line| !line.starts_with("X-Forwarded-For"));
        headers.push(format!("X-Forwarded-For: 203.0.113.{client}"));
        at.ask(&format!("GET {path}"), &headers)
    };
    let statuses: Vec<u16> = (0..3).map(|_| ask("/decisions", 1).status).collect();
    assert_eq!((statuses, ask("/decisions", 2).status), (vec![200, 200, 429], 200));
    let (exact, narrow) = (ask("/decisions", 1), ask("/decisions?refusals=401,403", 1));
    assert_eq!((exact.status, exact.header("x-decision-status")), (429, None));
    assert_eq!((narrow.status, narrow.header("x-decision-status")), (403, Some("429")));
    assert_eq!(narrow.header("retry-after"), exact.header("retry-after"));
    assert!(exact.header("retry-after").is_some() && exact.header("ratelimit").is_some(), "{exact:?}");
    // What the public listener lets through is counted with what was asked about.
    assert_eq!(ask("/decisions?refusals=401,403", 2).status, 200);
    let at_public = at.gateway.get("/open", &[]);
    assert_eq!(at_public.status, 200);
}
