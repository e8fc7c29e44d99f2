//! Pages of other origins: what a preflight is told, and that nothing but a true one passes without a credential.

use crate::support::{Answer, Gateway, Reply, Upstream};

const APP: &str = "Origin: https://app.example.com";

/// `/open` says more than the API; `/admin` asks for a session.
fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::start(&format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"native\"\n\
         [api.cors]\norigins = [\"https://app.example.com\", \"https://*.pages.example.com\"]\ncredentials = true\n\
         expose_headers = [\"X-Request-Id\"]\nmax_age = \"1m\"\n\
         [[api.limit]]\nname = \"few\"\nper = [\"client_ip\"]\nquota = \"2 per 1h\"\n\
         [[api.route]]\nname = \"admin\"\npath = \"/admin/**\"\nmethods = [\"GET\", \"POST\"]\naccept = [\"jwt\"]\n\
         [[api.route]]\nname = \"options\"\npath = \"/own\"\npublic = true\n\
         [[api.route]]\nname = \"few\"\npath = \"/few\"\nmethods = [\"PUT\"]\naccept = [\"jwt\"]\nlimits = [\"few\"]\n\
         [[api.route]]\nname = \"open\"\npath = \"/open\"\npublic = true\n\
         cors = {{ origins = [\"*\"], methods = [\"GET\", \"PUT\"], headers = [\"X-A\"] }}\n",
        upstream.url()
    ))
}

fn said(answer: &Answer) -> Vec<String> {
    let about = |name: &str| name.starts_with("access-control-") || name == "vary";
    let mut lines: Vec<String> =
        answer.headers.iter().filter(|(name, _)| about(name)).map(|(name, value)| format!("{name}: {value}")).collect();
    lines.sort();
    lines
}

/// A12: a true preflight of a protected path is answered without a credential, goes no further, and tells a page of another
/// origin nothing.
#[test]
fn a_preflight_is_answered_before_anybody_is_known() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let asks = |path: &str, origin: &str, method: &str| {
        gateway.request("OPTIONS", path, &[origin, &format!("Access-Control-Request-Method: {method}")], "")
    };
    let full = [
        "access-control-allow-credentials: true",
        "access-control-allow-headers: authorization, x-api-key, content-type",
        "access-control-allow-methods: POST",
        "access-control-allow-origin: https://app.example.com",
        "access-control-expose-headers: X-Request-Id",
        "access-control-max-age: 60",
        "vary: Access-Control-Request-Method",
        "vary: Origin",
    ];
    let answer = asks("/admin/x", APP, "POST");
    let without_case: Vec<String> = said(&answer).iter().map(|line| line.replace("x-request-id", "X-Request-Id")).collect();
    assert_eq!((answer.status, without_case), (204, full.map(str::to_owned).to_vec()));
    assert_eq!(gateway.why(&answer), "answered - -");
    let other = asks("/admin/x", "Origin: https://a.b.pages.example.com", "POST");
    assert_eq!((other.status, said(&other)), (204, vec!["vary: Access-Control-Request-Method".into(), "vary: Origin".into()]));
    let open = asks("/open", "Origin: https://anybody.test", "PUT");
    let expected = [
        "access-control-allow-headers: x-a",
        "access-control-allow-methods: GET, PUT",
        "access-control-allow-origin: *",
        "access-control-max-age: 600",
        "vary: Access-Control-Request-Method",
    ];
    assert_eq!((open.status, said(&open)), (204, expected.map(str::to_owned).to_vec()));
    // The gateway's own endpoints too.
    assert_eq!(asks("/auth/login", APP, "POST").status, 204);
    // Limits by address are spent: a flood of preflights is one.
    let few: Vec<u16> = (0..3).map(|_| asks("/few", APP, "PUT").status).collect();
    assert_eq!(few, [204, 204, 429]);
    assert_eq!(upstream.count(), 0);
}

/// A12: OPTIONS without one origin and one method is a request like any other, with the rules of its own method.
#[test]
fn what_is_no_preflight_is_judged_like_any_request() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let asked = "Access-Control-Request-Method: GET";
    for (headers, status) in [
        (&[][..], 401),
        (&[APP][..], 401),
        (&[asked][..], 401),
        (&[APP, APP, asked][..], 401),
        (&[APP, asked, asked][..], 401),
        (&[APP, "Access-Control-Request-Method: TRACE"][..], 401),
        (&[APP, "Access-Control-Request-Method: a b"][..], 401),
    ] {
        assert_eq!(gateway.request("OPTIONS", "/admin/x", headers, "").status, status, "{headers:?}");
    }
    // Beside preflights no method is let through by what the headers say.
    let get = gateway.get("/admin/x", &[APP, asked]);
    assert_eq!((get.status, gateway.why(&get).as_str()), (401, "refused credential credential_missing"));
    assert_eq!(gateway.request("OPTIONS", "/admin%2fx", &[APP, asked], "").status, 400);
    assert_eq!(upstream.count(), 0);
    assert_eq!(gateway.request("OPTIONS", "/own", &[APP], "").status, 200);
    assert_eq!(upstream.last().lines().next(), Some("OPTIONS /own HTTP/1.1"));
}

/// An application may read why it was refused, whatever refused it, and no answer says two things.
#[test]
fn every_answer_says_who_may_read_it() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let allowed = |answer: &Answer| {
        let lines: Vec<&str> = answer
            .headers
            .iter()
            .filter(|(name, _)| name == "access-control-allow-origin")
            .map(|(_, value)| value.as_str())
            .collect();
        lines.join(" and ")
    };
    for (path, status) in [("/admin/x", 401), ("/none", 401), ("/own", 200), ("/admin//x", 400)] {
        let answer = gateway.get(path, &[APP]);
        assert_eq!((answer.status, allowed(&answer).as_str()), (status, "https://app.example.com"), "{path}");
        let foreign = gateway.get(path, &["Origin: https://evil.test"]);
        assert_eq!((foreign.status, allowed(&foreign).as_str(), foreign.header("vary")), (status, "", Some("Origin")), "{path}");
    }
    upstream.reply(Reply::Bytes(
        b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: DELETE\r\nAccess-Control-Max-Age: 9\r\n\
          Access-Control-Expose-Headers: X-Secret\r\nVary: Accept\r\nContent-Length: 0\r\n\r\n"
            .to_vec(),
    ));
    let answer = gateway.get("/own", &["Origin: https://a.pages.example.com"]);
    let expected = [
        "access-control-allow-credentials: true",
        "access-control-allow-origin: https://a.pages.example.com",
        "access-control-expose-headers: x-request-id",
        "vary: Accept",
        "vary: Origin",
    ];
    assert_eq!(said(&answer), expected);
    let foreign = gateway.get("/own", &["Origin: https://evil.test"]);
    assert_eq!(said(&foreign), ["vary: Accept", "vary: Origin"]);
}
