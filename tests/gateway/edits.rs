//! What a route changes of requests and answers: headers, the host, the path.

use crate::support::{Gateway, Reply, Upstream};

fn gateway(upstream: &Upstream, route: &str) -> Gateway {
    Gateway::start(&format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n\
         [[api.route]]\nname = \"edited\"\npath = \"/e/{{**rest}}\"\npublic = true\n{route}\n\
         [[api.route]]\nname = \"admin\"\npath = \"/v2/admin/**\"\naccept = [\"jwt\"]\n",
        upstream.url()
    ))
}

fn values(message: &str, name: &str) -> Vec<String> {
    let line =
        |line: &str| line.split_once(": ").filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_owned());
    message.lines().take_while(|line| !line.is_empty()).filter_map(line).collect()
}

/// Both ways: what is set replaces every line that was there, what is removed is gone, and the host is the one that is said.
#[test]
fn headers_are_set_and_removed_in_both_directions() {
    let upstream = Upstream::start();
    let gateway = gateway(
        &upstream,
        "rewrite = { set_headers = { \"X-Stage\" = \"live\" }, remove_headers = [\"X-Debug\"], host = \"items.internal:81\" }\n\
         response = { set_headers = { \"Cache-Control\" = \"no-store\" }, remove_headers = [\"Server\"] }",
    );
    upstream.reply(Reply::Bytes(
        b"HTTP/1.1 200 OK\r\nServer: secret/1\r\nCache-Control: public\r\nCache-Control: max-age=9\r\nContent-Length: 0\r\n\r\n"
            .to_vec(),
    ));
    let answer = gateway.get("/e/a", &["X-Stage: a", "x-stage: b", "X-Debug: 1", "X-Other: c"]);
    let seen = upstream.last();
    let all = ["x-stage", "x-debug", "x-other", "host", "x-forwarded-host"].map(|name| values(&seen, name).join("|"));
    assert_eq!(all, ["live", "", "c", "items.internal:81", "api.test"]);
    let caches: Vec<&str> =
        answer.headers.iter().filter(|(name, _)| name == "cache-control").map(|(_, value)| value.as_str()).collect();
    assert_eq!((answer.status, caches, answer.header("server")), (200, vec!["no-store"], None));
}

/// A3: a prefix that is put before a path leads past no rule of the path that this makes.
#[test]
fn an_added_prefix_makes_a_path_with_its_own_rules() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "rewrite = { strip_prefix = \"/e\", add_prefix = \"/v2\" }");
    for (path, seen) in [("/e/a/b?c", "GET /v2/a/b?c HTTP/1.1"), ("/e", "GET /v2 HTTP/1.1"), ("/e/e", "GET /v2/e HTTP/1.1")] {
        assert_eq!(gateway.get(path, &[]).status, 200, "{path}");
        assert_eq!(upstream.last().lines().next(), Some(seen));
    }
    upstream.forget();
    for (path, status, reason) in [
        ("/e/admin", 401, "refused credential credential_missing"),
        ("/e/Admin/x", 400, "refused route path_ambiguous"),
        ("/e/..%2fv2/admin", 400, "refused route path_ambiguous"),
    ] {
        let answer = gateway.get(path, &[]);
        assert_eq!((answer.status, gateway.why(&answer).as_str()), (status, reason), "{path}");
    }
    assert_eq!(upstream.count(), 0);
}

/// A client that sends a byte now and then is ended, although it never stands still for long; a fast one is not.
#[test]
fn a_body_that_drips_is_ended() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "body_rate = { min = \"1KiB\", grace = \"200ms\" }");
    let mut client = crate::support::Client::connect(gateway.address);
    client.send("POST /e/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 100000\r\n\r\n");
    let mut sent = 0;
    let answer = loop {
        crate::support::pause_for(std::time::Duration::from_millis(50));
        if client.try_send("x").is_none() {
            break client.receive();
        }
        sent += 1;
        assert!(sent < 400, "it drips for ever");
        if gateway.log().iter().any(|line| line["reason"] == "body_too_slow") {
            break client.receive();
        }
    };
    assert_eq!((answer.status, gateway.why(&answer).as_str()), (408, "refused listener body_too_slow"));
    assert_eq!(upstream.count(), 0, "no whole request has arrived");
    assert_eq!(gateway.post("/e/a", &[], &"x".repeat(100_000)).status, 200);
}

/// C1: no edit makes or takes away what says who calls, where a message ends, or what a credential is; each is told where.
#[test]
fn edits_of_what_is_not_the_operators_are_refused() {
    for (route, why) in [
        ("rewrite = { set_headers = { \"x_auth.USER_id\" = \"1\" } }", "`x_auth.USER_id` says who calls"),
        ("rewrite = { remove_headers = [\"X-Auth-User-Id\"] }", "`x-auth-user-id` says who calls"),
        ("rewrite = { set_headers = { \"Content_Length\" = \"1\" } }", "says how long the message is"),
        ("rewrite = { remove_headers = [\"Transfer-Encoding\"] }", "says how long the message is"),
        ("rewrite = { set_headers = { \"Host\" = \"a\" } }", "`Host` says which server is meant"),
        ("rewrite = { set_headers = { \"Upgrade\" = \"a\" } }", "is about one connection"),
        ("rewrite = { set_headers = { \"X-Forwarded-For\" = \"a\" } }", "is written by the gateway itself"),
        ("rewrite = { set_headers = { \"Authorization\" = \"a\" } }", "`Authorization` carries a credential"),
        ("rewrite = { set_headers = { \"a b\" = \"a\" } }", "`a b` is no header name"),
        ("rewrite = { set_headers = { \"X-A\" = \"a\\nb\" } }", "the value is no header value"),
        ("rewrite = { host = \"a b\" }", "`a b` is no host"),
        ("response = { set_headers = { \"Connection\" = \"a\" } }", "is about one connection"),
        ("respond = { headers = { \"Content-Length\" = \"1\" } }", "says how long the message is"),
    ] {
        let config = format!(
            "[[api]]\nupstream = \"http://127.0.0.1:9\"\ncontract = \"native\"\n[api.identity]\nheaders = {{ \"X-Auth-User-Id\" = \
             \"account.id\" }}\n[[api.route]]\nname = \"e\"\npath = \"/e/**\"\npublic = true\n{route}\n"
        );
        let (code, said) = Gateway::prepare("", &config).run_to_end();
        assert_eq!(code, Some(78), "{route}: {said}");
        assert!(said.contains(why) && said.contains("gateway.toml:"), "{route}: {said}");
    }
}
