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

/// A12: rules hold for the real method, and TRACE and CONNECT are refused.
#[test]
fn methods_are_what_they_are() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for method in ["OPTIONS", "HEAD", "DELETE"] {
        let answer = gateway.request(method, "/admin/x", &["Origin: http://a", "X-HTTP-Method-Override: GET"], "");
        assert_eq!(answer.status, 401, "{method}");
    }
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

/// O9 A11: prefixes end at a slash, and what nobody opened is closed.
#[test]
fn what_no_route_opens_is_closed() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for path in ["/publicx", "/", "/anything"] {
        assert_eq!(gateway.get(path, &[]).status, 401, "{path}");
    }
    assert_eq!(upstream.count(), 0);
}
