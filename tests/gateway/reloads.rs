//! A changed config is taken over while requests go on: as a whole or not at all.

use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::{Value, json};

use crate::servers::free_address;
use crate::support::{Client, Gateway, Load, Provider, Reply, Telling, Upstream, pause_for, until};

const NATIVE: &str = include_str!("../../deploy/contracts/native.toml");

/// Without a watch, so that a test alone says when something is read.
fn start(apis: &str) -> Gateway {
    start_with("", apis)
}

fn start_with(listener: &str, apis: &str) -> Gateway {
    let mut gateway = Gateway::prepare(listener, apis);
    gateway.write_config(&gateway.config().replace("workers = 1\n", "workers = 2\nwatch = false\n"));
    gateway.restart();
    gateway
}

fn api(upstream: &Upstream, rest: &str) -> String {
    format!("[[api]]\nupstream = \"{}\"\ncontract = \"native\"\n{rest}", upstream.url())
}

fn public(name: &str) -> String {
    format!("[[api.route]]\nname = \"{name}\"\npath = \"/{name}\"\npublic = true\n")
}

fn generation(gateway: &Gateway) -> f64 {
    gateway.metric("gateward_config_generation")
}

/// N9: a route that is added is served as soon as the call is answered, one that is taken away is not, and the answer names both.
#[test]
fn a_call_takes_the_config_over_and_says_what_changed() {
    let upstream = Upstream::start();
    let gateway = start(&api(&upstream, &public("one")));
    assert_eq!((gateway.get("/one", &[]).status, gateway.get("/two", &[]).status), (200, 401));
    let answer = gateway.reload_with(|text| text.replace("one", "two"));
    assert_eq!(answer.status, 200, "{answer:?}");
    let said = answer.json();
    assert_eq!((&said["generation"], &said["sections"]), (&json!(2), &json!(["-api.native.route.one", "+api.native.route.two"])));
    assert_eq!((gateway.get("/one", &[]).status, gateway.get("/two", &[]).status), (401, 200));
    assert_eq!((generation(&gateway), gateway.metric("gateward_config_last_reload_success")), (2.0, 1.0));
    let log = gateway.stderr();
    assert!(log.contains("generation 2 of the config is in effect") && log.contains("+api.native.route.two"), "{log}");
    assert!(log.contains("the route two of API native (/two) is public now"), "{log}");
}

/// N9: a config with mistakes is refused as a whole with every place, and the one before goes on.
#[test]
fn a_broken_config_keeps_the_old_one_and_says_where_it_is_broken() {
    let upstream = Upstream::start();
    let gateway = start(&api(&upstream, &public("one")));
    let good = gateway.config();
    let answer = gateway.reload_with(|text| text.replace("one", "two").replace("drain_timeout", "drain_timeot"));
    assert_eq!(answer.status, 422);
    let said = answer.json();
    assert_eq!(said["error"], "invalid_config");
    assert_eq!((&said["details"][0]["line"], &said["details"][0]["column"]), (&json!(4), &json!(1)), "{said}");
    assert!(said["message"].as_str().unwrap().contains("did you mean `drain_timeout`?"), "{said}");
    assert_eq!((gateway.get("/one", &[]).status, gateway.get("/two", &[]).status), (200, 401));
    assert_eq!((generation(&gateway), gateway.metric("gateward_config_last_reload_success")), (1.0, 0.0));
    assert!(gateway.stderr().contains("gateway.toml:4:1: unknown key `drain_timeot`"), "{}", gateway.stderr());
    gateway.write_config(&good);
    assert_eq!(gateway.admin("POST /reload").json()["sections"], json!([]));
    assert_eq!(gateway.metric("gateward_config_last_reload_success"), 1.0);
}

/// N9: what only a restart can change is named, and nothing else of that config is taken over.
#[test]
fn a_key_that_wants_a_restart_is_named_and_nothing_is_taken_over() {
    let upstream = Upstream::start();
    let gateway = start(&api(&upstream, &public("one")));
    let answer = gateway.reload_with(|text| {
        text.replace("one", "two").replace("workers = 2", "workers = 3") + "\n[store]\nurl = \"sqlite:other.db\"\n"
    });
    assert_eq!(answer.status, 409);
    let said = answer.json();
    assert_eq!((&said["error"], &said["details"]), (&json!("restart_needed"), &json!(["server.workers", "store.url"])));
    assert!(said["message"].as_str().unwrap().contains("can only change with a restart"), "{said}");
    assert_eq!((gateway.get("/one", &[]).status, gateway.get("/two", &[]).status), (200, 401));
}

/// N9: SIGHUP and a file that changes by itself do the same; a file that is half written is left alone.
#[test]
fn a_signal_and_a_changed_file_take_the_config_over_too() {
    let upstream = Upstream::start();
    let gateway = start(&api(&upstream, &public("one")));
    gateway.write_config(&gateway.config().replace("one", "two").replace("watch = false", "watch = true"));
    gateway.signal("HUP");
    until("the second generation", || (generation(&gateway) == 2.0).then_some(()));
    assert_eq!(gateway.get("/two", &[]).status, 200);
    gateway.write_config(&gateway.config().replace("two", "three"));
    until("the third generation", || (generation(&gateway) == 3.0).then_some(()));
    assert_eq!(gateway.get("/three", &[]).status, 200);
}

/// How many reloads are made under load; the whole number takes a release build.
#[expect(clippy::disallowed_methods, reason = "a test is told by its environment how long it may take")]
fn reloads() -> usize {
    std::env::var("GATEWARD_RELOADS").map_or(100, |count| count.parse().unwrap())
}

/// N9: one reload after the other under load fails no request, and each request is served by one config: its upstream and what
/// that learns are of the same generation.
#[test]
fn reloads_under_load_fail_no_request_and_never_mix_two_configs() {
    let upstream = Upstream::start();
    let config = |number: usize| {
        format!(
            "[[upstream]]\nname = \"u\"\nservers = [\"{}/g{number}\"]\n[[api]]\nupstream = \"u\"\ncontract = \"native\"\n\
             [[api.route]]\nname = \"in\"\npath = \"/in\"\naccept = [\"api_key\"]\n\
             [api.identity]\nheaders = {{ \"X-Caller-G{number}\" = \"account.id\" }}\n",
            upstream.url()
        )
    };
    let gateway = start(&config(0));
    gateway.add_user("ann", "correct horse", &[]);
    let made: Value = serde_json::from_str(&gateway.cli_ok(&["key", "create", "--owner", "ann", "--json"], "")).unwrap();
    let credential = format!("X-API-Key: {}", made["key"].as_str().unwrap());
    let (head, _) = gateway.config().split_once("[[upstream]]").map(|(head, rest)| (head.to_owned(), rest.to_owned())).unwrap();
    until("the key to be followed", || (gateway.get("/in", &[&credential]).status == 200).then_some(()));
    let load = Load::start_with(&[gateway.address], &["/in"; 8], &credential);
    for number in 1..=reloads() {
        load.wait_for_more(5);
        let answer = match number % 5 {
            // A call, a signal, and in between a config that is broken.
            0 => {
                gateway.write_config(&(head.clone() + &config(number) + "[broken"));
                assert_eq!(gateway.admin("POST /reload").status, 422);
                gateway.reload_with(|_| head.clone() + &config(number))
            }
            1 => {
                gateway.write_config(&(head.clone() + &config(number)));
                gateway.signal("HUP");
                until("the generation", || (generation(&gateway) > number as f64).then_some(()));
                continue;
            }
            _ => gateway.reload_with(|_| head.clone() + &config(number)),
        };
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let answers = load.stop();
    assert_eq!(answers["/in"].keys().collect::<Vec<_>>(), [&200], "{answers:?}");
    let mut seen = std::collections::BTreeSet::new();
    for request in upstream.requests() {
        let prefix = request.strip_prefix("GET /").unwrap().split('/').next().unwrap().to_owned();
        let told: Vec<&str> = request.lines().filter_map(|line| line.strip_prefix("x-caller-")?.split(':').next()).collect();
        assert_eq!(told, [&prefix]);
        seen.insert(prefix);
    }
    assert!(seen.len() > reloads() / 2, "{} generations of {} have served", seen.len(), reloads());
    assert_eq!(generation(&gateway), 1.0 + reloads() as f64);
}

/// N9: a file that is half written never takes effect, also where its half is a config in itself.
#[test]
fn a_half_written_file_is_left_alone() {
    let upstream = Upstream::start();
    let gateway = start(&api(&upstream, &(public("one") + &public("two"))).replace("watch = false", ""));
    let whole = gateway.config().replace("watch = false", "watch = true");
    assert_eq!(gateway.reload_with(|_| whole.clone()).status, 200);
    let (half, _) = whole.split_once("[[api.route]]\nname = \"two\"").unwrap();
    let path = gateway.folder.path().join("gateway.toml");
    // Written in turns that are shorter than the time between two looks: none of the halves is there twice.
    for number in 0..8 {
        std::fs::write(&path, format!("{half}# {number}")).unwrap();
        pause_for(Duration::from_millis(400));
        assert_eq!((generation(&gateway), gateway.get("/two", &[]).status), (2.0, 200));
    }
    std::fs::write(&path, whole.replace("/two", "/three")).unwrap();
    until("the whole file", || (generation(&gateway) == 3.0).then_some(()));
    assert_eq!((gateway.get("/two", &[]).status, gateway.get("/three", &[]).status), (401, 200));
    // One that stays broken is said once.
    std::fs::write(&path, "[[api]").unwrap();
    until("the refusal", || (gateway.metric("gateward_config_last_reload_success") == 0.0).then_some(()));
    pause_for(Duration::from_millis(2500));
    let said = gateway.stderr().matches("the config was not reloaded").count();
    assert_eq!((said, gateway.get("/three", &[]).status), (1, 200));
}

/// N9: files that the config names are part of it, also behind symbolic links that are swapped as a ConfigMap's are.
#[test]
fn a_contract_behind_a_swapped_link_is_taken_over() {
    let upstream = Upstream::start();
    let mut gateway =
        Gateway::prepare("", &format!("[[api]]\nupstream = \"{}\"\ncontract = \"data/own.toml\"\n", upstream.url()));
    let folder = gateway.folder.path().to_owned();
    let at = |name: &str| folder.join(name);
    let contract = |route: &str| format!("{NATIVE}\n[[route]]\non = \"GET /{route}\"\npublic = true\n");
    for name in ["one", "two"] {
        std::fs::create_dir(at(name)).unwrap();
        std::fs::write(at(name).join("own.toml"), contract(name)).unwrap();
    }
    symlink("one", at("data")).unwrap();
    gateway.restart();
    assert_eq!(gateway.get("/one", &[]).status, 200);
    symlink("two", at("next")).unwrap();
    std::fs::rename(at("next"), at("data")).unwrap();
    until("the other contract", || (gateway.get("/two", &[]).status == 200).then_some(()));
    until("the line in the log", || gateway.stderr().contains("(asked for by a changed file): api.own").then_some(()));
    assert_eq!(generation(&gateway), 2.0);
}

/// N9: what has not changed lives on: connections to the upstream, counts of limits, and an answer that is under way.
#[test]
fn what_has_not_changed_lives_on() {
    let upstream = Upstream::start();
    let limit = "[[api.limit]]\nname = \"few\"\nper = [\"client_ip\"]\nquota = \"3 per 1d\"\nalgorithm = \"fixed_window\"\n";
    let route = |name: &str| public(name) + "limits = [\"few\"]\n";
    let gateway = start(&api(&upstream, &(route("one") + &public("free") + limit)));
    let mut client = Client::connect(gateway.address);
    let mut ask = |path: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.receive().status
    };
    assert_eq!(ask("/one"), 200);
    for number in 2..12 {
        let answer = gateway.reload_with(|text| text + &public(&format!("more{number}")));
        assert_eq!((answer.status, ask("/free")), (200, 200), "{answer:?}");
    }
    assert_eq!(upstream.connections(), 1, "one worker has served them all, and kept its connection");
    assert_eq!(
        (ask("/one"), ask("/one"), ask("/one")),
        (200, 200, 429),
        "the count is the same, and so is the client's connection"
    );
    let answer = gateway.reload_with(|text| text.replace("3 per 1d", "9 per 1d"));
    assert_eq!(
        (answer.json()["sections"].clone(), ask("/one")),
        (json!(["api.native.limit.few"]), 200),
        "what was spent counts against the new quota"
    );
    upstream.reply(Reply::Bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec()));
    let count = upstream.count();
    let mut stream = Client::connect(gateway.address);
    stream.send("GET /one HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request", || (upstream.count() > count).then_some(()));
    upstream.reply(Reply::Ok);
    let answer = gateway.reload_with(|text| text.replace("/one", "/gone"));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(ask("/one"), 401);
    upstream.push(b"4\r\nrest\r\n0\r\n\r\n");
    assert_eq!(stream.receive().body, "4\r\nhalf\r\n4\r\nrest\r\n0\r\n\r\n");
}

/// Listeners come and go: a new one is bound before anything changes, one that is gone finishes what it has begun, and an address
/// that cannot be had refuses the whole.
#[test]
fn listeners_come_and_go() {
    let upstream = Upstream::start();
    let gateway = start(&api(&upstream, &public("one")));
    let (second, taken) = (free_address(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let listener = |address: std::net::SocketAddr| format!("[[listener]]\nname = \"second\"\naddress = \"{address}\"\n\n[admin]");
    let with = |address| {
        move |text: String| text.replace("[admin]", &listener(address)).replace("[[api]]\n", "[[api]]\nlistener = \"second\"\n")
    };
    let before = gateway.config();
    let refused = gateway.reload_with(with(taken.local_addr().unwrap()));
    assert_eq!((refused.status, refused.json()["error"].clone()), (422, json!("not_available")));
    assert!(refused.body.contains("the listener `second` cannot have"), "{refused:?}");
    assert_eq!(gateway.get("/one", &[]).status, 200);
    gateway.write_config(&before);
    assert_eq!(gateway.reload_with(with(second)).status, 200);
    let ask = |address| {
        let mut client = Client::connect(address);
        client.send("GET /one HTTP/1.1\r\nHost: a\r\n\r\n");
        client.receive().status
    };
    assert_eq!((ask(second), ask(gateway.address)), (200, 404));
    upstream.reply(Reply::Slow(Duration::from_millis(700)));
    let (count, mut slow) = (upstream.count(), Client::connect(second));
    slow.send("GET /one HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request", || (upstream.count() > count).then_some(()));
    assert_eq!(gateway.reload_with(|_| before).status, 200);
    until("the second listener's end", || Client::try_connect(second).is_none().then_some(()));
    let answer = slow.receive();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(ask(gateway.address), 200);
}

/// N9, invariant 6: tokens that were verified stay known as long as nothing changes that they are judged by, and not longer: a
/// secret of another content makes them bad at once, and one that is gone refuses the reload.
#[test]
fn tokens_are_known_until_what_they_are_judged_by_changes() {
    const NODES: &str = "/api/v1/tenants/prod/nodes";
    let upstream = Upstream::start();
    let mut gateway = Gateway::prepare(
        "",
        &format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\ntokens = {{ secret_file = \"s\" }}\n", upstream.url()),
    );
    let secret = gateway.folder.path().join("s");
    std::fs::write(&secret, "a".repeat(64)).unwrap();
    gateway.write_config(&gateway.config().replace("workers = 1\n", "workers = 1\nwatch = false\n"));
    gateway.restart();
    gateway.add_user("ann", "correct horse", &["prod=viewer"]);
    until("the account to be followed", || {
        let body = r#"{"username":"ann","password":"correct horse"}"#;
        (gateway.post("/api/v1/auth/token", &[], body).status == 200).then_some(())
    });
    let (token, _) = gateway.login("ann", "correct horse");
    let bearer = format!("Authorization: Bearer {token}");
    let status = || gateway.get(NODES, &[&bearer]).status;
    assert_eq!((status(), gateway.metric("gateward_verified_tokens")), (200, 1.0));
    let answer = gateway.reload_with(|text| text + &public("one"));
    assert_eq!((answer.status, gateway.metric("gateward_verified_tokens"), status()), (200, 1.0, 200));
    std::fs::remove_file(&secret).unwrap();
    let answer = gateway.admin("POST /reload");
    assert_eq!((answer.status, answer.json()["error"].clone()), (422, json!("not_available")));
    assert!(answer.body.contains("the signing key file s: No such file"), "{answer:?}");
    assert_eq!(status(), 200);
    std::fs::write(&secret, "b".repeat(64)).unwrap();
    let answer = gateway.admin("POST /reload");
    assert_eq!(
        answer.json()["changes"]["keys"],
        json!([{
            "key": "api.infracast.tokens.secret_file", "old": "\"s\"", "new": "\"s\"",
        }])
    );
    assert_eq!((gateway.metric("gateward_verified_tokens"), status()), (0.0, 401));
}

/// N9: the keys of a new issuer are there before its tokens are taken; one that does not give them refuses the reload; one whose
/// section is the same is not asked again.
#[test]
fn the_keys_of_a_new_issuer_are_fetched_before_the_config_is_in_effect() {
    let (upstream, provider) = (Upstream::start(), Provider::start());
    let gateway = start(&crate::issuers::api(&upstream));
    let issuer = crate::issuers::section(&provider, "claims = { roles = \"roles\" }");
    let token = provider.token(&json!({ "roles": ["admin"] }));
    let bearer = format!("Authorization: Bearer {token}");
    let status = || gateway.get("/api/v1/tenants/prod/nodes", &[&bearer]).status;
    let before = gateway.config();
    provider.tell(Telling::Bytes(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let answer = gateway.reload_with(|text| text + &issuer);
    assert_eq!((answer.status, status()), (422, 401));
    assert!(answer.body.contains("the keys of a new issuer cannot be fetched"), "{answer:?}");
    provider.tell(Telling::Keys);
    assert_eq!((gateway.admin("POST /reload").status, status()), (200, 200));
    let fetches = provider.fetches();
    assert_eq!(gateway.reload_with(|text| text + &public("one")).status, 200);
    assert_eq!((status(), provider.fetches()), (200, fetches));
    assert_eq!(gateway.admin("GET /jwks").json().as_array().unwrap().len(), 1);
    assert_eq!((gateway.reload_with(|_| before).status, status()), (200, 401));
    assert_eq!(gateway.admin("GET /jwks").json(), json!([]));
}

/// What is said beside the requests changes too: the level of the log, and who is trusted to name a client.
#[test]
fn level_and_trust_are_those_of_the_config_in_effect() {
    let upstream = Upstream::start();
    let gateway = start_with("trusted_proxies = [\"127.0.0.0/8\"]", &api(&upstream, &public("one")));
    let client = |answer| gateway.logged(&answer)["client_ip"].as_str().unwrap().to_owned();
    assert_eq!(client(gateway.get("/one", &["X-Forwarded-For: 192.0.2.7"])), "192.0.2.7");
    let answer =
        gateway.reload_with(|text| text.replace("trusted_proxies = [\"127.0.0.0/8\"]", "") + "\n[log]\nlevel = \"error\"\n");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(client(gateway.get("/one", &["X-Forwarded-For: 192.0.2.7"])), "127.0.0.1");
    let before = gateway.stderr();
    assert_eq!(gateway.reload_with(|text| text + "\n# the same\n").status, 200);
    assert_eq!(gateway.stderr(), before, "no word of what is no error");
}

/// `gateward reload` asks the server: what changed, or why nothing did, with the exit code that says so.
#[test]
fn the_command_asks_the_server() {
    let upstream = Upstream::start();
    let gateway = start(&api(&upstream, &public("one")));
    gateway.write_config(&gateway.config().replace("one", "two"));
    let said = gateway.cli_ok(&["reload"], "");
    assert_eq!(said, "generation 2 is in effect; changed:\n  -api.native.route.one\n  +api.native.route.two\n");
    let said: Value = serde_json::from_str(&gateway.cli_ok(&["reload", "--json"], "")).unwrap();
    assert_eq!((&said["generation"], &said["sections"]), (&json!(3), &json!([])));
    let good = gateway.config();
    gateway.write_config(&good.replace("workers = 2", "workers = 3"));
    let refused = gateway.cli(&["reload"], "");
    let why = "error: nothing was taken over: `server.workers` can only change with a restart\n";
    assert_eq!((refused.status.code(), String::from_utf8(refused.stderr).unwrap().as_str()), (Some(1), why));
    gateway.write_config(&good.replace("workers = 2", "workers = 0"));
    let refused = gateway.cli(&["reload"], "");
    assert_eq!(refused.status.code(), Some(78));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("gateway.toml:2:11: found the number 0"), "its place");
}
