//! Limits by account and address, their ends, and each style of telling a client of them.

use crate::support::{Answer, Gateway, Reply, Upstream, until};

const NATIVE: &str = include_str!("../../deploy/contracts/native.toml");

fn open(upstream: &Upstream, contract: &str, limit: &str) -> String {
    format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"{contract}\"\n[[api.route]]\nname = \"open\"\npath = \"/open\"\npublic = true\n\
         limits = [\"edge\"]\n[[api.limit]]\nname = \"edge\"\n{limit}\n",
        upstream.url()
    )
}

/// M10: by address, each algorithm lets its number through and no more; behind a trusted proxy each client has its own.
#[test]
fn addresses_are_limited_apart_by_every_algorithm() {
    for (algorithm, burst, allowed) in [("fixed_window", "", 4), ("sliding_window", "", 4), ("gcra", "burst = 3", 3)] {
        let upstream = Upstream::start();
        let limit = format!("per = [\"client_ip\"]\nquota = \"4 per 1h\"\nalgorithm = \"{algorithm}\"\n{burst}");
        let gateway = Gateway::start_with("trusted_proxies = [\"127.0.0.1/32\"]", &open(&upstream, "native", &limit));
        let from = |client: &str| gateway.get("/open", &[&format!("X-Forwarded-For: {client}")]).status;
        let of_one: Vec<u16> = (0..=allowed).map(|_| from("10.0.0.1")).collect();
        let expected: Vec<u16> = [vec![200; allowed], vec![429]].concat();
        assert_eq!(of_one, expected, "{algorithm}");
        assert_eq!(from("::ffff:10.0.0.1"), 429, "{algorithm}: the same address in another spelling");
        assert_eq!(from("10.0.0.2"), 200, "{algorithm}");
        assert_eq!(upstream.count(), allowed + 1, "{algorithm}: what is over the limit is not forwarded");
    }
}

/// M10: an account is one, whichever of its sessions or keys it comes with.
#[test]
fn an_account_is_limited_over_all_its_credentials() {
    let upstream = Upstream::start();
    let rest = "[[api.route]]\nname = \"items\"\npath = \"/items\"\naccept = [\"jwt\", \"api_key\"]\nlimits = [\"edge\"]\n\
                [[api.limit]]\nname = \"edge\"\nper = [\"account\"]\nelse_per = [\"client_ip\"]\nquota = \"3 per 1h\"\n\
                algorithm = \"fixed_window\"\n";
    let mut gateway = Gateway::prepare("", &format!("[[api]]\nupstream = \"{}\"\ncontract = \"native\"\n{rest}", upstream.url()));
    let key = |owner: &str| {
        gateway.cli_ok(&["user", "add", owner, "--role", "editor", "--password-stdin"], "correct horse");
        let made = gateway.cli_ok(&["key", "create", "--owner", owner, "--json"], "");
        serde_json::from_str::<serde_json::Value>(&made).unwrap()["key"].as_str().unwrap().to_owned()
    };
    let (ann, bob) = (key("ann"), key("bob"));
    gateway.restart();
    let login = || {
        let answer = gateway.post("/auth/login", &[], r#"{"username":"ann","password":"correct horse"}"#);
        answer.json()["access_token"].as_str().unwrap().to_owned()
    };
    let ask = |credential: &str| gateway.get("/items", &[&format!("Authorization: Bearer {credential}")]);
    let answers: Vec<u16> = [&login(), &ann, &login(), &ann, &bob].iter().map(|credential| ask(credential).status).collect();
    assert_eq!(answers, [200, 200, 200, 429, 200]);
    let over = ask(&ann);
    assert_eq!(gateway.why(&over), "refused limit over_limit");
    assert_eq!(over.header("content-type"), Some("application/problem+json"));
    assert_eq!((over.json()["code"].as_str(), over.json()["status"].as_u64()), (Some("over_limit"), Some(429)));
    assert_eq!(upstream.count(), 4);
}

/// Who waits as long as `Retry-After` says is served again.
#[test]
fn a_limit_ends_when_it_says() {
    let upstream = Upstream::start();
    let limit = "per = [\"client_ip\"]\nquota = \"1 per 2s\"\nalgorithm = \"fixed_window\"";
    let gateway = Gateway::start(&open(&upstream, "native", limit));
    let over = until("the limit", || Some(gateway.get("/open", &[])).filter(|answer| answer.status == 429));
    assert!(["1", "2"].contains(&over.header("retry-after").unwrap()), "{over:?}");
    until("the next window", || (gateway.get("/open", &[]).status == 200).then_some(()));
    assert_eq!(gateway.why(&over), "refused limit over_limit");
}

/// A limit in shadow mode that counts failures gives back nothing that it has not taken.
#[test]
fn a_shadow_limit_gives_back_what_it_took_only() {
    let upstream = Upstream::start();
    let limit =
        "per = [\"client_ip\"]\nquota = \"2 per 1h\"\nalgorithm = \"fixed_window\"\ncount = \"failures\"\nmode = \"shadow\"";
    let gateway = Gateway::start(&open(&upstream, "native", limit));
    upstream.reply(Reply::Bytes(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()));
    assert_eq!([0; 2].map(|_| gateway.get("/open", &[]).status), [500, 500]);
    upstream.reply(Reply::Ok);
    assert_eq!([0; 3].map(|_| gateway.get("/open", &[]).status), [200, 200, 200]);
    // Both units are still taken, so that each of the three was over the limit.
    until("three notes", || (gateway.stderr().matches("shadow mode").count() == 3).then_some(()));
}

/// M12: a limit of failures is spent before a credential is looked at: once it is used up, a good one is refused like a bad
/// one. Who always comes with a good one never touches it.
#[test]
fn failures_are_counted_ahead_of_authentication() {
    let upstream = Upstream::start();
    let rest = "[[api.route]]\nname = \"items\"\npath = \"/items\"\naccept = [\"jwt\", \"api_key\"]\nlimits = [\"failures\"]\n\
                [[api.limit]]\nname = \"failures\"\nper = [\"client_ip\"]\nquota = \"3 per 1h\"\n\
                algorithm = \"fixed_window\"\ncount = \"failures\"\n";
    let listener = "trusted_proxies = [\"127.0.0.1/32\"]";
    let mut gateway =
        Gateway::prepare(listener, &format!("[[api]]\nupstream = \"{}\"\ncontract = \"native\"\n{rest}", upstream.url()));
    gateway.cli_ok(&["user", "add", "ann", "--role", "editor", "--password-stdin"], "correct horse");
    let made = gateway.cli_ok(&["key", "create", "--owner", "ann", "--json"], "");
    let key = serde_json::from_str::<serde_json::Value>(&made).unwrap()["key"].as_str().unwrap().to_owned();
    gateway.restart();
    let ask = |client: &str, credential: &str| {
        gateway.get("/items", &[&format!("X-Forwarded-For: {client}"), &format!("Authorization: Bearer {credential}")])
    };
    assert_eq!([0; 10].map(|_| ask("10.0.0.1", &key).status), [200; 10]);
    let junk = ["gw_live_bad", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "gw_live_bad", "a.b.c"];
    assert_eq!(junk.map(|credential| ask("10.0.0.1", credential).status), [401, 401, 401, 429, 429]);
    let good = ask("10.0.0.1", &key);
    assert_eq!((good.status, gateway.why(&good).as_str()), (429, "refused limit over_limit"));
    assert_eq!(ask("10.0.0.2", &key).status, 200);
    assert_eq!(upstream.count(), 11);
}

/// What a client is told of a GCRA limit: how many it may send at once from now on, and the quota that this is fed by.
#[test]
fn a_burst_is_told_with_its_quota() {
    let upstream = Upstream::start();
    let limit = "per = [\"client_ip\"]\nquota = \"60 per 90m\"\nburst = 5";
    let gateway = Gateway::start(&open(&upstream, "native", limit));
    let answer = gateway.get("/open", &[]);
    assert_eq!(answer.header("ratelimit-policy"), Some("\"edge\";q=60;w=5400"));
    assert_eq!(answer.header("ratelimit"), Some("\"edge\";r=4;t=90"));
}

/// The style of the headers is a word in the contract file.
#[test]
fn limits_are_told_in_the_contracts_style() {
    for style in ["none", "x-ratelimit", "ratelimit", "ietf"] {
        let upstream = Upstream::start();
        let limit = "per = [\"client_ip\"]\nquota = \"2 per 1h\"\nalgorithm = \"fixed_window\"";
        let mut gateway = Gateway::prepare("", &open(&upstream, "own.toml", limit));
        let contract = NATIVE.replace("headers = \"ietf\"", &format!("headers = \"{style}\""));
        let contract = contract.replace("contract = \"native\"", "contract = \"own\"");
        std::fs::write(gateway.folder.path().join("own.toml"), contract).unwrap();
        gateway.restart();
        for (status, left) in [(200, "1"), (200, "0"), (429, "0")] {
            let answer = gateway.get("/open", &[]);
            assert_eq!(answer.status, status, "{style}");
            assert_eq!(answer.header("retry-after").is_some(), status == 429, "{style}");
            let has = |name: &str| answer.header(name).is_some();
            let told = ["x-ratelimit-limit", "ratelimit-limit", "ratelimit", "ratelimit-policy"].map(has);
            match style {
                "none" => assert_eq!(told, [false; 4]),
                "x-ratelimit" => {
                    assert_eq!((told, triple(&answer, "x-ratelimit-", left)), ([true, false, false, false], true));
                }
                "ratelimit" => assert_eq!((told, triple(&answer, "ratelimit-", left)), ([false, true, false, false], true)),
                _ => {
                    assert_eq!(told, [false, false, true, true]);
                    assert_eq!(answer.header("ratelimit-policy"), Some("\"edge\";q=2;w=3600"));
                    assert!(answer.header("ratelimit").unwrap().starts_with(&format!("\"edge\";r={left};t=")), "{answer:?}");
                }
            }
        }
    }
}

/// Whether limit, rest and reset stand there: the reset as an epoch with `x-`, else as seconds from now.
fn triple(answer: &Answer, prefix: &str, left: &str) -> bool {
    let number = |name: &str| answer.header(&format!("{prefix}{name}")).unwrap().parse::<u64>().unwrap();
    let reset = number("reset");
    let plausible = if prefix.starts_with("x-") { reset > 1_000_000_000 } else { (1..=3600).contains(&reset) };
    number("limit") == 2 && number("remaining").to_string() == left && plausible
}
