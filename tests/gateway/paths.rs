//! What is judged is what is forwarded: paths, methods and hosts.

use serde_json::Value;

use crate::support::{Gateway, Upstream, vectors};

/// `/public/**` is open, `/admin/**` wants a credential, everything else is closed.
const RULES: &str = r#"
[[api.route]]
name = "public"
path = "/public/**"
public = true

[[api.route]]
name = "admin"
path = "/admin/**"
accept = ["jwt"]
"#;

fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::start(&format!("[[api]]\nupstream = \"{}\"\ncontract = \"native\"\nendpoints = \"none\"\n{RULES}", upstream.url()))
}

/// Targets with a raw `#`, a raw control byte or no path at all: the listener refuses their heads, and targets.rs has
/// each of them.
fn is_no_path(target: &str) -> bool {
    target.contains('#') || !target.starts_with('/') || target.bytes().any(|b| b <= b' ' || b >= 0x7f)
}

/// A1 A2 A5 A6 A9: every row of the vectors; the upstream sees the path that was matched, or nothing.
#[test]
fn paths_are_forwarded_as_they_were_judged_or_refused() {
    let Some(rows) = vectors("own/paths.json") else { return };
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for row in rows["tests"].as_array().unwrap() {
        let expect = row["expect"].as_str().unwrap();
        let Some(target) = target(row) else { continue };
        upstream.forget();
        let answer = gateway.raw(format!("GET {target} HTTP/1.1\r\nHost: gw.test\r\n\r\n"));
        let seen = upstream.requests();
        let path = target.split('?').next().unwrap();
        if is_no_path(&target) {
            assert_eq!(seen, Vec::<String>::new(), "{target:?}");
            continue;
        }
        if expect.starts_with("414") {
            assert_eq!((answer.status, seen.len()), (414, 0), "{path:.40}");
        } else if expect.starts_with("reject") {
            assert_eq!((answer.status, seen.len()), (400, 0), "{target:?}");
            assert_eq!(gateway.why(&answer), "refused route path_ambiguous", "{target:?}");
        } else if expect.contains("needs auth") || !path.starts_with("/public") {
            assert_eq!((answer.status, seen.len()), (401, 0), "{target:?}");
        } else {
            assert_eq!(answer.status, 200, "{target:?}");
            assert!(seen[0].starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{target:?}: {}", seen[0]);
        }
    }
}

fn target(row: &Value) -> Option<String> {
    if let Some(target) = row["target"].as_str() {
        return Some(target.to_owned());
    }
    let repeat = &row["repeat"];
    let count = usize::try_from(repeat["count"].as_u64()?).ok()?;
    Some(format!("{}{}", repeat["prefix"].as_str()?, repeat["unit"].as_str()?.repeat(count)))
}

/// A1: decoded spellings of a protected path do not dodge its rule.
#[test]
fn an_encoded_spelling_of_a_protected_path_is_protected() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for target in ["/ad%6din", "/%61dmin/x", "/admin/", "/admin"] {
        let answer = gateway.get(target, &[]);
        assert_eq!((answer.status, upstream.count()), (401, 0), "{target}");
        assert_eq!(gateway.logged(&answer)["route"], "admin", "{target}");
    }
}

/// A5: what stands behind the question mark opens nothing and closes nothing, and arrives as it came.
#[test]
fn the_query_takes_no_part_in_the_rules() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for target in ["/admin?x=/public", "/admin?/public/", "/admin/x?../public", "/admin?/../public/x"] {
        let answer = gateway.get(target, &[]);
        assert_eq!((answer.status, gateway.why(&answer).as_str()), (401, "refused credential credential_missing"), "{target}");
        assert_eq!((gateway.logged(&answer)["route"].as_str(), upstream.count()), (Some("admin"), 0), "{target}");
    }
    for target in ["/public/x?/../admin", "/public?x=/admin", "/public/a?b=//c;d&e=%2e%2e"] {
        assert_eq!(gateway.get(target, &[]).status, 200, "{target}");
        assert!(upstream.last().starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{}", upstream.last());
    }
}

/// A10: whoever calls itself a health check is a caller like any other.
#[test]
fn a_health_check_needs_a_credential_too() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for sign in [
        "User-Agent: kube-probe/1.30",
        "User-Agent: GoogleHC/1.0",
        "User-Agent: ELB-HealthChecker/2.0",
        "X-Health-Check: 1",
        "X-Kubernetes-Probe: liveness",
    ] {
        for path in ["/admin", "/healthz", "/readyz", "/ping"] {
            let answer = gateway.get(path, &[sign]);
            assert_eq!(gateway.why(&answer), "refused credential credential_missing", "{path} {sign}");
            assert_eq!((answer.status, upstream.count()), (401, 0), "{path} {sign}");
        }
    }
}

/// A12: rules hold for the real method, and TRACE and CONNECT are refused.
#[test]
fn methods_are_what_they_are() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for method in ["OPTIONS", "HEAD", "DELETE", "POST"] {
        for headers in [&["Origin: http://a", "X-HTTP-Method-Override: GET"], ["Accept: */*"].as_slice()] {
            let answer = gateway.request(method, "/admin/x", headers, "");
            assert_eq!((answer.status, upstream.count()), (401, 0), "{method}");
            assert_eq!(gateway.why(&answer), "refused credential credential_missing", "{method}");
        }
    }
    let posted = gateway.request("POST", "/public/x", &["X-HTTP-Method-Override: DELETE", "X_HTTP_Method: DELETE"], "");
    assert_eq!((posted.status, gateway.logged(&posted)["method"].as_str()), (200, Some("POST")));
    let seen = upstream.last();
    assert!(seen.starts_with("POST /public/x HTTP/1.1\r\n") && !seen.contains("DELETE"), "{seen}");
    upstream.forget();
    let trace = gateway.request("TRACE", "/public/x", &[], "");
    assert_eq!((trace.status, gateway.why(&trace)), (405, "refused route trace_refused".to_owned()));
    let connect = gateway.raw("CONNECT gw.test:443 HTTP/1.1\r\nHost: gw.test:443\r\n\r\n");
    assert_eq!((connect.status, gateway.why(&connect)), (405, "refused route connect_refused".to_owned()));
    assert_eq!(upstream.count(), 0);
}

/// A8: an API is chosen by its host, in any case and with a trailing dot; an unknown host gets RFC 9457.
#[test]
fn the_host_chooses_the_api() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let api = |name: &str, host: &str, upstream: &Upstream| {
        format!(
            "[[api]]\nname = \"{name}\"\nhosts = [\"{host}\"]\nupstream = \"{}\"\ncontract = \"native\"\nendpoints = \"none\"\n{RULES}",
            upstream.url()
        )
    };
    let gateway = Gateway::start(&format!("{}\n{}", api("one", "one.test", &one), api("two", "*.two.test", &two)));
    let send = |host: &str| gateway.raw(format!("GET /public/x HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for host in ["one.test", "ONE.Test", "one.test.", "one.test:8080"] {
        assert_eq!(send(host).status, 200, "{host}");
    }
    assert_eq!((one.count(), two.count()), (4, 0));
    assert_eq!(send("a.two.test").status, 200);
    assert_eq!((one.count(), two.count()), (4, 1));
    let unknown = send("three.test");
    assert_eq!((unknown.status, gateway.why(&unknown)), (404, "refused route host_unknown".to_owned()));
    assert_eq!(unknown.header("content-type"), Some("application/problem+json"));
    for (head, reason) in [
        ("Host: one.test\r\nHost: two.test", "host_missing"),
        ("Host: a\";for=1.1.1.1", "host_malformed"),
        ("Host: user@one.test", "host_malformed"),
    ] {
        let answer = gateway.raw(format!("GET /public/x HTTP/1.1\r\n{head}\r\n\r\n"));
        assert_eq!((answer.status, gateway.why(&answer)), (400, format!("refused listener {reason}")), "{head}");
    }
    assert_eq!((one.count(), two.count()), (4, 1));
}

/// A8: among five hundred hosts each finds its own API, however it is written, and no other.
#[test]
fn of_many_hosts_each_finds_its_own() {
    let upstream = Upstream::start();
    let api = |number: usize| {
        format!(
            "[[api]]\nname = \"a{number}\"\nhosts = [\"h{number}.test\"]\nupstream = \"{}\"\ncontract = \"native\"\n\
             endpoints = \"none\"\nrealm = \"one\"\n{RULES}",
            upstream.url()
        )
    };
    let gateway = Gateway::start(&(0..500).map(api).collect::<String>());
    let send = |host: &str, path: &str| gateway.raw(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for (host, api) in [("h0.test", "a0"), ("H249.Test", "a249"), ("h499.test.", "a499"), ("H77.TEST.:8080", "a77")] {
        let open = send(host, "/public/x");
        assert_eq!((open.status, gateway.logged(&open)["api"].as_str()), (200, Some(api)), "{host}");
        for path in ["/admin", "/ADMIN", "/Public/x"] {
            let closed = send(host, path);
            assert_eq!((closed.status, gateway.logged(&closed)["api"].as_str()), (401, Some(api)), "{host} {path}");
        }
    }
    for host in ["h500.test", "h0.test.evil", "xh0.test", "h0", "h0.test..", "."] {
        let answer = send(host, "/public/x");
        assert!([400, 404].contains(&answer.status), "{host}: {answer:?}");
        assert!(
            ["refused route host_unknown", "refused listener host_malformed"].contains(&gateway.why(&answer).as_str()),
            "{host}"
        );
    }
    assert_eq!(upstream.count(), 4);
}

/// A11: a config that opens everything, or believes everybody, does not start, and says why.
#[test]
fn a_config_that_opens_everything_does_not_start() {
    let api = |rest: &str| format!("[[api]]\nupstream = \"http://127.0.0.1:9\"\ncontract = \"native\"\n{rest}");
    let route = |rest: &str| api(&format!("[[api.route]]\nname = \"r\"\npath = \"{rest}\n"));
    for (listener, apis, why) in [
        ("", route("/x\""), "says neither whom it takes nor that it is public"),
        ("", route("/**\"\npublic = true"), "lets everybody do everything"),
        ("", route("/{a}/**\"\npublic = true"), "lets everybody do everything"),
        ("", route("/x\"\naccept = [\"jwt\"]\nallow_ips = [\"0.0.0.0/0\"]"), "allows every address"),
        ("", api("outside = \"open\""), "unknown value `open`"),
        ("trusted_proxies = [\"::/0\"]", api(""), "lets everybody say which address they come from"),
    ] {
        let (code, said) = Gateway::prepare(listener, &apis).run_to_end();
        assert!(code == Some(78) && said.contains(why), "{why}: {code:?} {said}");
    }
}

/// O9 A11: prefixes end at a slash, and what nobody opened is closed.
#[test]
fn what_no_route_opens_is_closed() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for path in ["/publicx", "/", "/anything"] {
        let answer = gateway.get(path, &[]);
        assert_eq!((answer.status, gateway.why(&answer).as_str()), (401, "refused credential credential_missing"), "{path}");
    }
    // A contract with a prefix of its own: outside of it nothing is forwarded, even to somebody who is known.
    let gateway = Gateway::infracast(&upstream.url());
    gateway.add_user("root", "correct horse", &["admin"]);
    let bearer = format!("Authorization: Bearer {}", gateway.login("root", "correct horse").0);
    for path in ["/", "/anything", "/api", "/api/v2/me", "/healthx"] {
        let answer = gateway.get(path, &[&bearer]);
        assert_eq!((answer.status, gateway.why(&answer).as_str()), (404, "refused route no_route"), "{path}");
    }
    assert_eq!(upstream.count(), 0);
}
