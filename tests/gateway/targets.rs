//! Request targets that are no path: each with what becomes of it.

use serde_json::Value;

use crate::support::{Gateway, Upstream, vectors};

/// The rows of own/paths.json whose target is no plain path: target, status, and the reason in the log. An absolute
/// target that names the Host exactly is judged by its path like any other.
const UNUSUAL: &[(&str, u16, &str)] = &[
    ("/admin#x", 400, "head_malformed"),
    ("/public#/admin", 400, "head_malformed"),
    ("/admin\u{0}", 400, "head_malformed"),
    ("/ad\u{7f}min", 400, "head_malformed"),
    ("/\u{e9}", 400, "head_malformed"),
    ("http://evil.test/admin", 400, "host_malformed"),
    ("HTTP://gw.test/admin", 401, "credential_missing"),
    ("http://gw.test:80/../admin", 400, "host_malformed"),
    ("admin", 400, "head_malformed"),
    ("*", 400, "head_malformed"),
    ("", 400, "head_malformed"),
    ("?x", 400, "head_malformed"),
    ("../admin", 400, "head_malformed"),
];

/// A4 A7: no row is left out in silence: a new row of the vectors, or another outcome of an old one, fails here. Nothing
/// of them reaches the upstream, and each has its line in the log.
#[test]
fn targets_that_are_no_path_are_refused() {
    let Some(rows) = vectors("own/paths.json") else { return };
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"native\"\nendpoints = \"none\"\n[[api.route]]\nname = \"public\"\n\
         path = \"/public/**\"\npublic = true\n",
        upstream.url()
    ));
    let unusual = |target: &str| {
        target.contains('#') || !target.starts_with('/') || target.bytes().any(|byte| byte <= b' ' || byte >= 0x7f)
    };
    let rows: Vec<&Value> = rows["tests"].as_array().unwrap().iter().collect();
    let targets: Vec<&str> = rows.iter().filter_map(|row| row["target"].as_str()).filter(|target| unusual(target)).collect();
    let listed: Vec<&str> = UNUSUAL.iter().map(|(target, _, _)| *target).collect();
    assert_eq!(targets, listed);
    for (target, status, reason) in UNUSUAL {
        let answer = gateway.raw(format!("GET {target} HTTP/1.1\r\nHost: gw.test\r\n\r\n"));
        assert_eq!((answer.status, &gateway.logged(&answer)["reason"]), (*status, &Value::from(*reason)), "{target:?}");
        let closes = (*reason == "head_malformed").then_some("close");
        assert_eq!(answer.header("connection"), closes, "{target:?}");
    }
    assert_eq!(upstream.count(), 0);
}
