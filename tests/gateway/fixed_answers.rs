//! Routes that answer by themselves: redirects and fixed responses, inside the same pipeline.

use crate::support::{Gateway, Upstream, vectors};

fn gateway(upstream: &Upstream) -> Gateway {
    let route = |name: &str, path: &str, more: &str| format!("[[api.route]]\nname = \"{name}\"\npath = \"{path}\"\n{more}\n");
    Gateway::start(&format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"native\"\n{}{}{}{}{}",
        upstream.url(),
        route("moved", "/moved/**", "public = true\nredirect = { to = \"https://new.example.com{path}\" }"),
        route("home", "/home", "public = true\nredirect = { to = \"/start\", status = 302 }"),
        route("gone", "/gone", "public = true\nrespond = { status = 410, body = \"gone\", headers = { \"X-Why\" = \"old\" } }"),
        route("closed", "/closed", "accept = [\"jwt\"]\nrespond = { body = \"{}\", content_type = \"application/json\" }"),
        route("via", "/via/**", "public = true\nrewrite = { strip_prefix = \"/via\" }"),
    ))
}

#[test]
fn a_route_answers_by_itself_after_everything_that_it_asks_for() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let moved = gateway.get("/moved/a%20b?c=d&e", &[]);
    assert_eq!((moved.status, moved.header("location")), (308, Some("https://new.example.com/moved/a%20b?c=d&e")));
    assert_eq!(gateway.why(&moved), "answered - -");
    let home = gateway.get("/home?a", &[]);
    assert_eq!((home.status, home.header("location")), (302, Some("/start")));
    let gone = gateway.post("/gone", &[], "{}");
    assert_eq!((gone.status, gone.body.as_str(), gone.header("x-why")), (410, "gone", Some("old")));
    assert_eq!(gone.header("content-type"), Some("text/plain; charset=utf-8"));
    let closed = gateway.get("/closed", &[]);
    assert_eq!((closed.status, gateway.why(&closed).as_str()), (401, "refused credential credential_missing"));
    gateway.add_user("ann", "correct horse", &[]);
    let login = gateway.post("/auth/login", &[], r#"{"username":"ann","password":"correct horse"}"#).json();
    let bearer = format!("Authorization: Bearer {}", login["access_token"].as_str().unwrap());
    let answer = gateway.get("/closed", &[&bearer]);
    assert_eq!((answer.status, answer.body.as_str(), answer.header("content-type")), (200, "{}", Some("application/json")));
    assert_eq!(upstream.count(), 0);
    let shown = gateway.cli_ok(&["routes"], "");
    assert!(shown.contains("308 -> https://new.example.com{path}") && shown.contains("410"), "{shown}");
}

/// A3: a rewrite is no way to the upstream past a route that answers by itself.
#[test]
fn a_rewrite_does_not_lead_past_a_fixed_answer() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for path in ["/via/gone", "/via/moved/x", "/via/home"] {
        let answer = gateway.get(path, &[]);
        assert_eq!((answer.status, gateway.why(&answer).as_str()), (404, "refused route no_route"), "{path}");
    }
    assert_eq!(upstream.count(), 0);
}

/// K1: whatever the client asks for, a redirect leads to the host that the config names.
#[test]
fn no_path_changes_the_host_of_a_redirect() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let mut seen = 0;
    let shared = vectors("own/redirects.json").map(|rows| rows.to_string()).unwrap_or_default();
    let urls = shared.split('"').filter(|text| text.contains("//") && text.bytes().all(|b| b.is_ascii_graphic()));
    let own = ["@evil.test", "/@evil.test", ".evil.test", "//evil.test", "/\\evil.test", "/%2f%2fevil.test", "/?//evil.test"];
    for text in own.into_iter().chain(urls) {
        for target in [format!("/moved{text}"), format!("/moved/{text}")] {
            let answer = gateway.raw(format!("GET {target} HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n"));
            if let Some(location) = answer.header("location") {
                seen += 1;
                assert!(location.starts_with("https://new.example.com/moved/"), "{target}: {location}");
            }
        }
    }
    assert!(seen > 3, "{seen}");
}

#[test]
fn a_redirect_that_lets_the_client_name_the_host_is_refused() {
    for (redirect, why) in [
        ("to = \"https://{path}\"", "has something between the host or segment and `{path}`"),
        ("to = \"{path}\"", "is neither a path nor a URL of http or https"),
        ("to = \"//a{path}\"", "is neither a path nor a URL of http or https"),
        ("to = \"https://a/{path}x\"", "has a placeholder that is no `{path}` at its end"),
        ("to = \"ftp://a\"", "is neither a path nor a URL of http or https"),
        ("to = \"https://a@b\"", "is neither a path nor a URL of http or https"),
        ("to = \"/a\", status = 200", "200 redirects nobody"),
    ] {
        let config = format!(
            "[[api]]\nupstream = \"http://127.0.0.1:9\"\ncontract = \"native\"\n[[api.route]]\nname = \"e\"\npath = \"/e/**\"\n\
             public = true\nredirect = {{ {redirect} }}\n"
        );
        let (code, said) = Gateway::prepare("", &config).run_to_end();
        assert_eq!(code, Some(78), "{redirect}: {said}");
        assert!(said.contains(why), "{redirect}: {said}");
    }
}
