//! Routes that ask for headers: which of several takes a request, and that no choice of headers opens anything.

use crate::support::{Gateway, Upstream};

fn route(name: &str, path: &str, more: &str) -> String {
    format!("[[api.route]]\nname = \"{name}\"\npath = \"{path}\"\n{more}\n")
}

/// The one that asks for most wins; who meets none gets the route of the same path that asks for none, else 404, also where a
/// wider route is open.
#[test]
fn headers_choose_a_route_and_never_a_wider_one() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\noutside = \"public\"\n{}{}{}{}{}",
        upstream.url(),
        route("plain", "/p", "accept = [\"jwt\"]"),
        route("two", "/p", "public = true\nmatch = { headers = { \"X-Version\" = \"2\" } }\nrespond = { body = \"two\" }"),
        route(
            "both",
            "/p",
            "public = true\nmatch = { headers = { \"X-Version\" = \"2\", \"X-Beta\" = \"yes\" } }\nrespond = { body = \"both\" }"
        ),
        route("only", "/only", "accept = [\"jwt\"]\nmatch = { headers = { \"X-Version\" = \"2\" } }"),
        route("via", "/via/**", "public = true\nrewrite = { strip_prefix = \"/via\" }"),
    ));
    for (path, headers, status, body) in [
        ("/p", &["X-Version: 2"][..], 200, Some("two")),
        ("/p", &["X-Version: 2", "x-beta: yes"][..], 200, Some("both")),
        ("/p", &["X-Version: 2", "X-Beta: no"][..], 200, Some("two")),
        ("/p", &["X-Version: 2", "X-Version: 2"][..], 401, None),
        ("/p", &["X-Version: 3"][..], 401, None),
        ("/p", &[][..], 401, None),
        ("/only", &["X-Version: 2"][..], 401, None),
        ("/only", &[][..], 404, None),
        ("/only", &["X-Version: 3"][..], 404, None),
        ("/Only", &[][..], 400, None),
        ("/via/only", &[][..], 404, None),
        ("/via/Only", &[][..], 400, None),
        ("/via/only", &["X-Version: 2"][..], 401, None),
    ] {
        let answer = gateway.get(path, headers);
        assert_eq!(answer.status, status, "{path} {headers:?}");
        assert_eq!(body.unwrap_or(&answer.body), answer.body, "{path} {headers:?}");
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(gateway.get("/elsewhere", &[]).status, 200);
    let shown = gateway.cli_ok(&["routes"], "");
    assert!(shown.contains("/p x-beta=yes x-version=2"), "{shown}");
}

/// Beside a route of the contract, what that one demands holds: nobody gets around it by a header.
#[test]
fn a_header_opens_no_route_of_the_contract() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n{}",
        upstream.url(),
        route(
            "nodes-2",
            "/api/v1/tenants/{tenant}/nodes",
            "methods = [\"POST\"]\naccept = [\"jwt\"]\nmatch = { headers = { \"X-Version\" = \"2\" } }",
        )
    ));
    gateway.add_user("view", "correct horse", &["prod=viewer"]);
    let bearer = format!("Authorization: Bearer {}", gateway.login("view", "correct horse").0);
    for headers in [&[bearer.as_str()][..], &[bearer.as_str(), "X-Version: 2"][..]] {
        let refused = gateway.post("/api/v1/tenants/prod/nodes", headers, "{}");
        assert_eq!((refused.status, gateway.why(&refused).as_str()), (403, "refused authorize scope_missing"));
    }
    let chosen = gateway.post("/api/v1/tenants/prod/nodes", &[&bearer, "X-Version: 2"], "{}");
    assert_eq!((gateway.logged(&chosen)["route"].as_str(), upstream.count()), (Some("nodes-2"), 0));
}
