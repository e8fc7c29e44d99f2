//! Request targets that hyper settles before the gateway judges them: each with what becomes of it today.

use serde_json::Value;

use crate::support::{Client, Gateway, Upstream, vectors};

/// The rows of own/paths.json whose target never reaches the pipeline as it was sent: hyper cuts `#…` off, and refuses or
/// rewrites what is no path. The raw-head guard will refuse them with 400, but for
/// the absolute form that names the Host exactly: its path is judged like any other. Until then: target, status (0 = the
/// connection ends), and the line that the upstream sees.
const SETTLED_BY_HYPER: &[(&str, u16, &str)] = &[
    ("/admin#x", 401, ""),
    ("/public#/admin", 200, "GET /public HTTP/1.1"),
    ("/admin\u{0}", 400, ""),
    ("/ad\u{7f}min", 400, ""),
    ("/\u{e9}", 400, ""),
    ("http://evil.test/admin", 400, ""),
    ("HTTP://gw.test/admin", 401, ""),
    ("http://gw.test:80/../admin", 400, ""),
    ("admin", 400, ""),
    ("*", 400, ""),
    ("", 400, ""),
    ("?x", 400, ""),
    ("../admin", 400, ""),
];

/// A4 A7: no row is left out in silence: a new row of the vectors, or another outcome of an old one, fails here.
#[test]
fn targets_that_hyper_settles_have_known_outcomes() {
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
    let listed: Vec<&str> = SETTLED_BY_HYPER.iter().map(|(target, _, _)| *target).collect();
    assert_eq!(targets, listed);
    let mut wrong = Vec::new();
    for (target, status, line) in SETTLED_BY_HYPER {
        upstream.forget();
        let mut client = Client::connect(gateway.address);
        let answer = client.try_ask(&format!("GET {target} HTTP/1.1\r\nHost: gw.test\r\n\r\n"));
        let seen: Vec<String> = upstream.requests();
        let found =
            (answer.map_or(0, |answer| answer.status), seen.first().and_then(|request| request.lines().next()).unwrap_or(""));
        if found != (*status, *line) {
            wrong.push(format!("{target:?}: {found:?}"));
        }
        assert!(seen.iter().all(|request| request.starts_with("GET /public")), "{target:?}: {seen:?}");
    }
    assert_eq!(wrong, Vec::<String>::new());
}
