//! Several gateways on one store: what one of them has said is true on all of them, soon, and after any end.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::{Answer, Gateway, Issuing, Lock, Nodes, State, Told, Upstream, pause_for, soundness};

const NODES: &str = "/api/v1/tenants/a/nodes";
/// Within this time a change is known on every node.
const NEWS: Duration = Duration::from_secs(2);

/// The infracast contract without a limit on logins.
pub fn api(upstream: &Upstream) -> String {
    format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n[[api.limit]]\nname = \"login\"\nper = [\"client_ip\"]\n\
         quota = \"100000 per 1m\"\nalgorithm = \"fixed_window\"\n",
        upstream.url()
    )
}

fn bearer(credential: &str) -> String {
    format!("Authorization: Bearer {credential}")
}

fn ask(gateway: &Gateway, credential: &str) -> u16 {
    gateway.get(NODES, &[&bearer(credential)]).status
}

/// Makes a key: its id and its secret.
pub fn make(gateway: &Gateway, token: &str, body: &serde_json::Value) -> (String, String) {
    let answer = gateway.post("/api/v1/api-keys", &[&bearer(token)], &body.to_string());
    assert_eq!(answer.status, 201, "{answer:?}");
    let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}

pub fn revoke(gateway: &Gateway, token: &str, id: &str) -> Answer {
    gateway.request("DELETE", &format!("/api/v1/api-keys/{id}"), &[&bearer(token)], "")
}

/// Kills every node at the same time and starts them again.
fn crash(nodes: &mut Nodes) {
    nodes.gateways.iter_mut().for_each(Gateway::kill_nine);
    nodes.gateways.iter_mut().for_each(Gateway::spawn);
    nodes.gateways.iter_mut().for_each(Gateway::wait_until_ready);
}

/// A token of an administrator that every node takes.
pub fn administrator(nodes: &Nodes) -> String {
    nodes.gateways[0].add_user("root", "correct horse", &["admin"]);
    let (token, _) = nodes.gateways[0].login("root", "correct horse");
    nodes.all("the account", |gateway| ask(gateway, &token) == 200);
    token
}

/// Each way to end a key, on one node of three; then on every node, and after a crash of all.
pub fn what_ends_on_one_node_ends_on_all(mut nodes: Nodes) {
    let admin = administrator(&nodes);
    let [first, second, third] = nodes.gateways.as_slice() else { panic!("three nodes") };
    first.add_user("owner", "correct horse", &["admin"]);
    let (owner, owner_refresh) = first.login("owner", "correct horse");
    nodes.all("the other account", |gateway| ask(gateway, &owner) == 200);
    let (id, revoked) = make(first, &admin, &json!({ "name": "revoked" }));
    let (_, owned) = make(second, &owner, &json!({ "name": "owned" }));
    let (_, elsewhere) = make(third, &admin, &json!({ "name": "elsewhere", "allowed_ips": ["10.0.0.0/8"] }));
    let (_, reader) = make(first, &admin, &json!({ "name": "reader", "permissions": ["nodes:read"] }));
    let short = second.cli_ok(&["key", "create", "--owner", "root", "--expires", "3s", "--json"], "");
    let short = serde_json::from_str::<serde_json::Value>(&short).unwrap()["key"].as_str().unwrap().to_owned();
    let came = nodes.all("the new keys", |gateway| {
        [&revoked, &owned, &reader].iter().all(|key| ask(gateway, key) == 200) && ask(gateway, &elsewhere) == 403
    });
    println!("new keys were known on every node after {came:?}");
    let write = |gateway: &Gateway| gateway.request("POST", NODES, &[&bearer(&reader)], "").status;
    assert!(nodes.gateways.iter().all(|gateway| write(gateway) == 403), "a key that may read writes nowhere");

    assert_eq!(revoke(second, &admin, &id).status, 204);
    let news = nodes.all("the revocation", |gateway| ask(gateway, &revoked) == 401);
    println!("a revocation was known on every node after {news:?}");
    assert!(news < NEWS, "{news:?}");
    third.cli_ok(&["user", "disable", "owner"], "");
    let news = nodes.all("the end of an account", |gateway| ask(gateway, &owned) == 401 && ask(gateway, &owner) == 401);
    assert!(news < NEWS, "{news:?}");
    nodes.all("the end of a key's time", |gateway| ask(gateway, &short) == 401);

    crash(&mut nodes);
    for (index, gateway) in nodes.gateways.iter().enumerate() {
        let found = [&revoked, &owned, &owner, &short, &elsewhere, &reader, &admin].map(|credential| ask(gateway, credential));
        assert_eq!(found, [401, 401, 401, 401, 403, 200, 200], "node {index}, at once after its start");
        assert_eq!(write(gateway), 403, "node {index}");
        let renewed = gateway.post("/api/v1/auth/refresh", &[], &json!({ "refresh_token": owner_refresh }).to_string());
        assert_eq!(renewed.status, 401, "node {index}");
    }
}

/// What a node took away and then died of is refused by the others, and by itself when it is back.
pub fn what_a_node_took_away_outlives_it(mut nodes: Nodes) {
    let admin = administrator(&nodes);
    nodes.gateways[0].add_user("ann", "correct horse", &["prod=viewer"]);
    for round in 0..4 {
        let node = round % nodes.gateways.len();
        let (token, refresh) = nodes.gateways[node].login("ann", "correct horse");
        let (other, other_refresh) = nodes.gateways[node].login("ann", "correct horse");
        let (id, key) = make(&nodes.gateways[node], &admin, &json!({ "name": format!("k{round}") }));
        let prod = |gateway: &Gateway, token: &str| gateway.get("/api/v1/tenants/prod/nodes", &[&bearer(token)]).status;
        nodes.all("the credentials", |gateway| prod(gateway, &token) == 200 && ask(gateway, &key) == 200);
        assert_eq!(revoke(&nodes.gateways[node], &admin, &id).status, 204);
        let out = nodes.gateways[node].request("POST", "/api/v1/auth/logout", &[&bearer(&token)], "");
        assert_eq!(out.status, 204, "{out:?}");
        nodes.gateways[node].kill_nine();
        nodes.gateways[node].restart();
        let renew = |gateway: &Gateway, refresh: &str| {
            gateway.post("/api/v1/auth/refresh", &[], &json!({ "refresh_token": refresh }).to_string()).status
        };
        let back = &nodes.gateways[node];
        assert_eq!((ask(back, &key), prod(back, &token), renew(back, &refresh)), (401, 401, 401), "round {round}");
        nodes.all("the end of both", |gateway| ask(gateway, &key) == 401 && prod(gateway, &token) == 401);
        for gateway in &nodes.gateways {
            assert_eq!(renew(gateway, &refresh), 401, "round {round}");
            assert_eq!((prod(gateway, &other), renew(gateway, &other_refresh)), (200, 200), "the other session is another one");
        }
    }
}

/// Load on every node while one after the other is killed: nothing that was said is lost, on any of them.
pub fn what_was_acknowledged_survives_the_end_of_nodes(nodes: &mut Nodes, rounds: u32) -> (Told, String) {
    let admin = administrator(nodes);
    let mut told = Told::default();
    for round in 0..rounds {
        let addresses: Vec<_> = nodes.gateways.iter().map(|gateway| gateway.address).collect();
        let issuing = Issuing::start(&addresses, &admin, round);
        let node = usize::try_from(round).unwrap() % nodes.gateways.len();
        for moment in [0, 1] {
            // waits for: a moment that is another one in every round, from 20 to about 120 ms
            pause_for(Duration::from_millis(20 + u64::from((round * 7919 + moment * 31) % 100)));
            let node = (node + usize::try_from(moment).unwrap()) % nodes.gateways.len();
            nodes.gateways[node].kill_nine();
            nodes.gateways[node].restart();
        }
        told.add(issuing.stop());
    }
    nodes.all("what was told", |gateway| told.broken(gateway).is_empty());
    for gateway in &nodes.gateways {
        told.check_list(gateway, &admin);
    }
    println!(
        "{rounds} rounds: {} keys made, {} revoked, {} unclear; {} answers were 503, {} requests had no answer",
        told.keys.len(),
        told.count(State::Revoked),
        told.count(State::Unclear),
        told.refused,
        told.unanswered
    );
    assert!(told.keys.len() > rounds as usize && told.count(State::Revoked) > 0 && told.unanswered > 0);
    (told, admin)
}

/// H13 J9: a key that is revoked, expired, its owner's no more, bound to a network or to a scope is so on every node
/// within two seconds, and after kill -9.
#[test]
fn a_key_ends_on_every_node_of_a_file() {
    let upstream = Upstream::start();
    let nodes = Nodes::on_file(3, &api(&upstream));
    assert_eq!(nodes.gateways.len(), 3);
    what_ends_on_one_node_ends_on_all(nodes);
}

/// J4: revoked, logged out, killed: the others refuse what the dead node took away, and so does it when it is back.
#[test]
fn a_revocation_outlives_its_node_on_a_file() {
    let upstream = Upstream::start();
    let nodes = Nodes::on_file(2, &api(&upstream));
    assert_eq!(nodes.gateways.len(), 2);
    what_a_node_took_away_outlives_it(nodes);
}

/// J5 N11: three nodes under load on one file, killed one after the other.
#[test]
fn nodes_of_a_file_lose_nothing_to_kill_nine() {
    let upstream = Upstream::start();
    let mut nodes = Nodes::on_file(3, &api(&upstream));
    let (told, _) = what_was_acknowledged_survives_the_end_of_nodes(&mut nodes, 6);
    assert_eq!(told.refused, 0, "a store that works refuses nothing");
    assert_eq!(soundness(nodes.folder.path()), "ok\n0 True\n");
}

/// J7: a revocation of what is revoked is done, of what is unknown or not one's own is none; and where it cannot be stored
/// it is a 503 on every node, and the key lives until it was said that it does not.
#[test]
fn a_revocation_says_what_was_done_on_every_node() {
    let upstream = Upstream::start();
    let nodes = Nodes::on_file(2, &api(&upstream));
    let admin = administrator(&nodes);
    let [first, second] = nodes.gateways.as_slice() else { panic!("two nodes") };
    first.add_user("ann", "correct horse", &["prod=viewer"]);
    let (viewer, _) = first.login("ann", "correct horse");
    let (id, key) = make(first, &admin, &json!({ "name": "twice" }));
    // On the node that cannot have heard of it yet as well.
    assert_eq!([revoke(first, &admin, &id).status, revoke(second, &admin, &id).status], [204, 204]);
    assert_eq!(revoke(second, &admin, &id).status, 204);
    nodes.all("the revocation", |gateway| ask(gateway, &key) == 401);
    for gateway in &nodes.gateways {
        let unknown = revoke(gateway, &admin, "key-none");
        assert_eq!(
            (unknown.status, unknown.body.as_str()),
            (404, r#"{"error":{"code":"NOT_FOUND","message":"no such API key"}}"#)
        );
    }
    let (id, key) = make(first, &admin, &json!({ "name": "kept" }));
    nodes.all("the key", |gateway| ask(gateway, &key) == 200 && revoke(gateway, &viewer, &id).status == 403);
    let lock = Lock::on(nodes.folder.path(), "IMMEDIATE");
    for gateway in &nodes.gateways {
        let refused = revoke(gateway, &admin, &id);
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused:?}");
        assert_eq!(ask(gateway, &key), 200, "nothing was half done");
    }
    drop(lock);
    nodes.all("the store", |gateway| revoke(gateway, &admin, &id).status == 204);
    nodes.all("the revocation", |gateway| ask(gateway, &key) == 401);
}

/// The store's file is one for all: the nodes keep nothing beside it.
#[test]
fn nodes_have_no_store_of_their_own() {
    let upstream = Upstream::start();
    let nodes = Nodes::on_file(2, &api(&upstream));
    let files = |folder: &Path| {
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.starts_with("gateward")).collect();
        names.sort();
        names
    };
    assert_eq!(files(nodes.folder.path()), ["gateward.db", "gateward.db-shm", "gateward.db-wal", "gateward.key"]);
    for gateway in &nodes.gateways {
        assert_eq!(files(gateway.folder.path()), Vec::<String>::new());
    }
}
