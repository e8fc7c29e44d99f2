//! Limits to their edges, and the headers that tell of them.

use crate::support::{Gateway, Upstream};

fn api(upstream: &Upstream, contract: &str, rest: &str) -> String {
    format!("[[api]]\nupstream = \"{}\"\ncontract = \"{contract}\"\n{rest}", upstream.url())
}

/// M10 M12, IC 4: the contract's own limit on the login; what is over it is not hashed.
#[test]
fn the_login_is_limited_by_address() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&api(&upstream, "infracast", ""));
    let login = || gateway.post("/api/v1/auth/token", &[], r#"{"username":"ann","password":"wrong"}"#);
    for _ in 0..10 {
        assert_eq!(login().status, 401);
    }
    let over = login();
    assert_eq!((over.status, over.body.as_str()), (429, r#"{"error":{"code":"RATE_LIMITED","message":"Too many requests"}}"#));
    let wait: u64 = over.header("retry-after").unwrap().parse().unwrap();
    // The sliding window also remembers the one before.
    assert!((1..=120).contains(&wait), "{wait}");
    assert_eq!(gateway.why(&over), "refused limit over_limit");
    assert_eq!(over.header("x-ratelimit-limit").or(over.header("ratelimit")), None);
    assert_eq!(upstream.count(), 0);
}

/// I2: failures count against the account in every spelling; a success gives its unit back.
#[test]
fn failed_logins_are_counted_per_account() {
    let upstream = Upstream::start();
    let limits = "[[api.limit]]\nname = \"login\"\nper = [\"client_ip\"]\nquota = \"1000 per 1m\"\nalgorithm = \"fixed_window\"\n\
                  [[api.limit]]\nname = \"login-failures\"\nper = [\"account\", \"client_ip\"]\nquota = \"3 per 1h\"\n\
                  algorithm = \"fixed_window\"\ncount = \"failures\"\n";
    let gateway = Gateway::start(&api(&upstream, "infracast", limits));
    gateway.add_user("bob", "correct horse", &["prod=viewer"]);
    gateway.add_user("ann", "correct horse", &["prod=viewer"]);
    let login = |user: &str, password: &str| {
        gateway.post("/api/v1/auth/token", &[], &serde_json::json!({ "username": user, "password": password }).to_string()).status
    };
    for _ in 0..5 {
        assert_eq!(login("bob", "correct horse"), 200);
    }
    let tries: Vec<u16> = ["bob", "Bob", " bob", "BOB", "bob"].iter().map(|name| login(name, "wrong")).collect();
    assert_eq!(tries, [401, 401, 401, 429, 429]);
    assert_eq!(login("bob", "correct horse"), 429);
    assert_eq!(login("ann", "correct horse"), 200);
}

/// M10: each algorithm lets through what it says, apart for each key; the headers are the contract's.
#[test]
fn keys_are_limited_apart_by_every_algorithm() {
    let upstream = Upstream::start();
    for (algorithm, allowed) in [("fixed_window", 4), ("sliding_window", 4), ("gcra", 2)] {
        let burst = if algorithm == "gcra" { "burst = 2\n" } else { "" };
        let rest = format!(
            "[[api.route]]\nname = \"items\"\npath = \"/items\"\naccept = [\"api_key\"]\nlimits = [\"per-key\"]\n\
             [[api.limit]]\nname = \"per-key\"\nper = [\"key\"]\nelse_per = [\"client_ip\"]\nquota = \"4 per 1h\"\nalgorithm = \"{algorithm}\"\n{burst}"
        );
        let mut gateway = Gateway::prepare("", &api(&upstream, "native", &rest));
        gateway.cli_ok(&["user", "add", "ann", "--role", "admin", "--password-stdin"], "correct horse");
        let key = || {
            let made = gateway.cli_ok(&["key", "create", "--owner", "ann", "--json"], "");
            serde_json::from_str::<serde_json::Value>(&made).unwrap()["key"].as_str().unwrap().to_owned()
        };
        let (one, two) = (key(), key());
        gateway.restart();
        let ask = |key: &str| gateway.get("/items", &[&format!("X-API-Key: {key}")]);
        let first = ask(&one);
        assert_eq!(first.status, 200, "{first:?}");
        let left = first.header("ratelimit").unwrap();
        assert!(left.starts_with(&format!("\"per-key\";r={};t=", allowed - 1)), "{algorithm}: {left}");
        for _ in 1..allowed {
            assert_eq!(ask(&one).status, 200, "{algorithm}");
        }
        assert_eq!([ask(&one).status, ask(&two).status], [429, 200], "{algorithm}");
        // Without a good key the address pays, until it too is over the limit.
        let strangers: Vec<u16> = (0..=allowed).map(|_| ask("gw_live_bad").status).collect();
        assert_eq!(strangers.iter().filter(|status| **status == 401).count(), allowed, "{algorithm}: {strangers:?}");
        assert_eq!(strangers.last(), Some(&429), "{algorithm}");
    }
}

/// A limit in shadow mode counts and refuses nothing.
#[test]
fn a_shadow_limit_refuses_nothing() {
    let upstream = Upstream::start();
    let rest = "[[api.route]]\nname = \"open\"\npath = \"/open\"\npublic = true\nlimits = [\"shadow\"]\n\
                [[api.limit]]\nname = \"shadow\"\nper = [\"client_ip\"]\nquota = \"1 per 1h\"\nalgorithm = \"fixed_window\"\nmode = \"shadow\"\n";
    let gateway = Gateway::start(&api(&upstream, "native", rest));
    for _ in 0..3 {
        assert_eq!(gateway.get("/open", &[]).status, 200);
    }
    crate::support::until("the note", || gateway.stderr().contains("shadow mode").then_some(()));
}
