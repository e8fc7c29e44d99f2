//! What several gateways share through Redis, and what they do not: limits and the word of a revocation, no grant.

use std::time::Duration;

use serde_json::json;
use toml::de::DeTable;

use crate::nodes::{NEWS, administrator, api, make, revoke};
use crate::servers::Redis;
use crate::support::{Gateway, Nodes, Talk, Upstream, client_of};

const NODES: &str = "/api/v1/tenants/a/nodes";

fn counters(redis: &Redis, nodes: usize) -> String {
    format!("[counters]\nurl = \"{}\"\nnodes = {nodes}\ntimeout = \"100ms\"\n\n", redis.url())
}

fn wait_until_up(nodes: &Nodes) {
    nodes.all("the shared counters", |gateway| gateway.metric("gateward_counters_up") == 1.0);
}

fn ask(gateway: &Gateway, credential: &str) -> u16 {
    gateway.get(NODES, &[&format!("Authorization: Bearer {credential}")]).status
}

/// The endpoints of a built-in contract: method and path, whether it is for everyone, the names of its limits.
fn endpoints(contract: &str) -> Vec<(String, bool, Vec<String>)> {
    let path = format!("{}/deploy/contracts/{contract}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let page = DeTable::parse(&text).unwrap().into_inner();
    let mut found = Vec::new();
    for endpoint in page["endpoint"].get_ref().as_array().unwrap().iter() {
        let endpoint = endpoint.get_ref().as_table().unwrap();
        let word = |name: &str| endpoint.get(name).map(toml::Spanned::get_ref);
        let limits = word("limits").and_then(|limits| limits.as_array());
        let limits = limits.into_iter().flatten().map(|limit| limit.get_ref().as_str().unwrap().to_owned()).collect();
        let is_public = word("public").is_some_and(|public| public.as_bool() == Some(true));
        found.push((word("on").unwrap().as_str().unwrap().to_owned(), is_public, limits));
    }
    found
}

/// M12: every endpoint of every built-in contract that answers strangers has a limit, and nodes that share their counters
/// let through together what it says.
#[test]
fn every_limited_endpoint_is_limited_over_all_nodes() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    for contract in ["infracast", "native"] {
        let limits: String = ["login", "refresh"]
            .iter()
            .map(|name| format!("[[api.limit]]\nname = \"{name}\"\nper = [\"client_ip\"]\nquota = \"3 per 24h\"\nalgorithm = \"fixed_window\"\n"))
            .collect();
        let api =
            format!("[[api]]\nname = \"{contract}\"\nupstream = \"{}\"\ncontract = \"{contract}\"\n{limits}", upstream.url());
        let nodes = Nodes::on_file(2, &(counters(&redis, 2) + &api));
        wait_until_up(&nodes);
        let endpoints = endpoints(contract);
        assert!(endpoints.iter().all(|(_, is_public, limits)| !is_public || !limits.is_empty()), "{endpoints:?}");
        let limited: Vec<&String> = endpoints.iter().filter(|(.., limits)| !limits.is_empty()).map(|(on, ..)| on).collect();
        assert!(limited.len() >= 2, "{limited:?}");
        for (index, on) in limited.into_iter().enumerate() {
            let body = r#"{"username":"nobody","password":"wrong","refresh_token":"junk"}"#;
            let request = format!(
                "{on} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            // Endpoints of one bucket share a counter: each is asked by a client of its own.
            let ask = |turn: usize| Talk::to(nodes.gateways[turn % 2].address).from(client_of(index)).statuses(&request);
            let statuses: Vec<u16> = (0..6).flat_map(ask).collect();
            assert_eq!(statuses, [401, 401, 401, 429, 429, 429], "{contract}: {on}");
        }
    }
}

/// J9: revoked on one node, used on another: refused within two seconds, with the counters that bring the word and without.
#[test]
fn a_revocation_reaches_every_node_with_and_without_redis() {
    let (mut redis, upstream) = (Redis::start(), Upstream::start());
    let nodes = Nodes::on_file(3, &(counters(&redis, 3) + &api(&upstream)));
    wait_until_up(&nodes);
    let admin = administrator(&nodes);
    let round = |name: &str| {
        let (id, key) = make(&nodes.gateways[0], &admin, &json!({ "name": name }));
        nodes.all("the key", |gateway| ask(gateway, &key) == 200);
        assert_eq!(revoke(&nodes.gateways[1], &admin, &id).status, 204);
        let news = nodes.all("the revocation", |gateway| ask(gateway, &key) == 401);
        assert!(news < NEWS, "{name}: {news:?}");
        news
    };
    let with: Vec<Duration> = (0..6).map(|_| round("with")).collect();
    // The last of two nodes that only poll, twice a second, would hear of six revocations after two seconds in all.
    assert!(with.iter().sum::<Duration>() < Duration::from_millis(900), "the word is faster than the poll: {with:?}");
    redis.kill();
    let without: Vec<Duration> = (0..2).map(|_| round("without")).collect();
    redis.restart();
    wait_until_up(&nodes);
    let again = round("again");
    println!("with Redis {with:?}, without {without:?}, again {again:?}");
}

/// M14: Redis holds numbers and no word of who may do what; whoever writes there what he likes opens nothing with it.
#[test]
fn what_is_written_into_redis_grants_nothing() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let limits = "[[api.route]]\nname = \"nodes\"\npath = \"/api/v1/tenants/{tenant}/nodes\"\nmethods = [\"GET\"]\naccept = [\"jwt\", \"api_key\"]\n\
                  tenant = \"{tenant}\"\nlimits = [\"per-account\"]\n[[api.limit]]\nname = \"per-account\"\nper = [\"account\"]\n\
                  else_per = [\"client_ip\"]\nquota = \"100000 per 1h\"\n";
    let nodes = Nodes::on_file(2, &(counters(&redis, 2) + &api(&upstream) + limits));
    wait_until_up(&nodes);
    let admin = administrator(&nodes);
    let (id, revoked) = make(&nodes.gateways[0], &admin, &json!({ "name": "revoked" }));
    let (_, good) = make(&nodes.gateways[0], &admin, &json!({ "name": "good" }));
    nodes.all("the keys", |gateway| ask(gateway, &revoked) == 200 && ask(gateway, &good) == 200);
    assert_eq!(revoke(&nodes.gateways[0], &admin, &id).status, 204);
    nodes.all("the revocation", |gateway| ask(gateway, &revoked) == 401);
    let listed = redis.command(&["KEYS", "*"]);
    let names: Vec<&str> = listed.lines().filter(|name| !name.contains("probe")).collect();
    assert!(names.len() >= 3, "{names:?}");
    for name in &names {
        let value = redis.command(&["GET", name]);
        assert!(name.starts_with("gw:") && name.len() == names[0].len(), "{name}");
        assert_eq!(value.split(' ').count(), 4, "{name}: {value}");
        assert!(value.bytes().all(|byte| byte.is_ascii_digit() || byte == b' '), "{name}: {value}");
    }
    for name in names {
        for value in ["", "0 0 0 0", "{\"account\":\"root\",\"roles\":[\"admin\"]}", "-1 -1 -1 -1", "allow"] {
            assert_eq!(redis.command(&["SET", name, value]), "OK");
            redis.command(&["PUBLISH", "gw:store", value]);
            for gateway in &nodes.gateways {
                assert_eq!([ask(gateway, &revoked), ask(gateway, "junk"), ask(gateway, &good)], [401, 401, 200], "{value:?}");
            }
        }
    }
}
