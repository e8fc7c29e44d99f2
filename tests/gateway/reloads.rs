//! A changed config is taken over while requests go on: as a whole or not at all.

use serde_json::json;

use crate::support::{Gateway, Upstream, until};

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
