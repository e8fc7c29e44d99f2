//! Three gateways on one Postgres that is killed, stopped, slow, full, read-only or replaced, while clients make and revoke
//! keys and others use one.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::nodes::{self, administrator, make};
use crate::servers::{Postgres, Replication};
use crate::support::{Fault, FaultProxy, Gateway, Issuing, Load, Nodes, State, Upstream};

const PATH: &str = "/api/v1/tenants/a/nodes";
const COUNT: usize = 3;

struct Stage {
    nodes: Nodes,
    admin: String,
    key: String,
    rounds: u32,
    _upstream: Upstream,
}

impl Stage {
    fn start(url: &str) -> Self {
        let upstream = Upstream::start();
        let nodes = Nodes::on_server(COUNT, url, &nodes::api(&upstream));
        let admin = administrator(&nodes);
        let (_, key) = make(&nodes.gateways[0], &admin, &json!({ "name": "used" }));
        let key = format!("Authorization: Bearer {key}");
        nodes.all("the key", |gateway| gateway.get(PATH, &[&key]).status == 200);
        Self { nodes, admin, key, rounds: 0, _upstream: upstream }
    }

    /// Tries to make a key: the status.
    fn issue(&self, gateway: &Gateway) -> u16 {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = json!({ "name": format!("try {}", NUMBER.fetch_add(1, Ordering::SeqCst)) }).to_string();
        let answer = gateway.post("/api/v1/api-keys", &[&format!("Authorization: Bearer {}", self.admin)], &name);
        assert!(answer.status == 201 || answer.status == 503, "{answer:?}");
        answer.status
    }

    /// From a store that works over one that does not to one that does again, under load. Requests to the API go on, what
    /// must be stored is a 503 on every node, all of it recovers alone, and whatever a client was told is true on every node.
    fn suffer(&mut self, what: &str, begin: impl FnOnce(), end: impl FnOnce()) {
        let addresses: Vec<_> = self.nodes.gateways.iter().map(|gateway| gateway.address).collect();
        let load = Load::start_with(&addresses, &[PATH], &self.key);
        let issuing = Issuing::start(&addresses, &self.admin, self.rounds);
        self.rounds += 1;
        self.nodes.all("a store that works", |gateway| self.issue(gateway) == 201);
        begin();
        let noticed = self.nodes.all(&format!("{what}: the refusal"), |gateway| self.issue(gateway) == 503);
        let login = self.nodes.gateways[0].post("/api/v1/auth/token", &[], r#"{"username":"root","password":"correct horse"}"#);
        assert_eq!((login.status, login.header("retry-after")), (503, Some("1")), "{what}: {login:?}");
        load.wait_for_more(150);
        end();
        let recovered = self.nodes.all(&format!("{what}: the recovery"), |gateway| self.issue(gateway) == 201);
        let (told, seen) = (issuing.stop(), load.stop());
        assert_eq!(seen[PATH].keys().copied().collect::<Vec<_>>(), [200], "{what}: {seen:?}");
        assert_eq!(told.unanswered, 0, "{what}: every request has its answer");
        assert!(told.refused > 0 && told.count(State::Made) > 0 && told.count(State::Revoked) > 0, "{what}");
        self.nodes.all(&format!("{what}: what was told"), |gateway| told.broken(gateway).is_empty());
        for gateway in &self.nodes.gateways {
            told.check_list(gateway, &self.admin);
        }
        println!(
            "{what}: refused after {noticed:?}, recovered after {recovered:?}; {} made, {} revoked, {} unclear, {} refused, {} went on",
            told.keys.len(),
            told.count(State::Revoked),
            told.count(State::Unclear),
            told.refused,
            seen[PATH][&200]
        );
    }
}

/// H13 J9: what ends on one node ends on all of them within two seconds, and after kill -9.
#[test]
fn a_key_ends_on_every_node_of_a_server() {
    let (postgres, upstream) = (Postgres::start(), Upstream::start());
    let nodes = Nodes::on_server(COUNT, &postgres.url("postgres"), &nodes::api(&upstream));
    assert_eq!(nodes.gateways.len(), COUNT);
    nodes::what_ends_on_one_node_ends_on_all(nodes);
}

/// J4: what a node took away before it was killed is refused by the others, and by itself when it is back.
#[test]
fn a_revocation_outlives_its_node_on_a_server() {
    let (postgres, upstream) = (Postgres::start(), Upstream::start());
    let nodes = Nodes::on_server(2, &postgres.url("postgres"), &nodes::api(&upstream));
    assert_eq!(nodes.gateways.len(), 2);
    nodes::what_a_node_took_away_outlives_it(nodes);
}

/// J5 N11: three nodes under load on one server, killed one after the other.
#[test]
fn nodes_of_a_server_lose_nothing_to_kill_nine() {
    let (postgres, upstream) = (Postgres::start(), Upstream::start());
    let mut nodes = Nodes::on_server(COUNT, &postgres.url("postgres"), &nodes::api(&upstream));
    let (told, _) = nodes::what_was_acknowledged_survives_the_end_of_nodes(&mut nodes, 6);
    assert_eq!(told.refused, 0, "a store that works refuses nothing");
}

/// N13 J5 J7: the server is killed, stopped by its operator, and stands still.
#[test]
fn a_server_that_goes_and_comes_back_loses_nothing() {
    let postgres = RefCell::new(Postgres::start());
    let url = postgres.borrow().url("postgres");
    let mut stage = Stage::start(&url);
    stage.suffer("killed", || postgres.borrow_mut().kill(), || postgres.borrow_mut().restart());
    stage.suffer("stopped", || postgres.borrow_mut().stop(), || postgres.borrow_mut().restart());
    stage.suffer("standing still", || postgres.borrow().signal("STOP"), || postgres.borrow().signal("CONT"));
}

/// The same load through a wire with each of these faults in turn.
fn suffer_on_the_wire(faults: &[Fault]) {
    let postgres = Postgres::start();
    let wire = FaultProxy::to(postgres.address);
    let url = postgres.url("postgres").replace(&postgres.address.to_string(), &wire.address.to_string());
    let mut stage = Stage::start(&url);
    assert_eq!(stage.nodes.gateways.len(), COUNT);
    for fault in faults {
        stage.suffer(&format!("{fault:?}"), || wire.set(*fault), || wire.set(Fault::Pass));
    }
}

/// N13 J5 J7: the wire to the server brings no answer back, or brings it late: a commit whose answer is lost is no
/// acknowledgement.
#[test]
fn a_wire_without_answers_loses_nothing() {
    suffer_on_the_wire(&[Fault::StallAnswers, Fault::Delay(Duration::from_secs(8))]);
}

/// N13 J5 J7: the wire to the server is reset, cut in the middle of an answer, or its other end is gone without a word.
#[test]
fn a_wire_that_ends_loses_nothing() {
    suffer_on_the_wire(&[Fault::Reset, Fault::CutAfter(300), Fault::HalfOpen]);
}

/// N13 J7: a server that has no connection left, or is read-only, refuses what must be stored, and nothing else.
#[test]
fn a_server_that_refuses_stops_issuing_and_nothing_else() {
    let postgres = Postgres::start();
    let sql = |text: &str| postgres.psql("postgres", text);
    sql("CREATE ROLE app LOGIN");
    sql("CREATE DATABASE app OWNER app");
    let url = format!("postgres://app@{}/app", postgres.address);
    let mut stage = Stage::start(&url);
    let cut = || sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'app'");
    let full = || {
        sql("ALTER ROLE app CONNECTION LIMIT 0");
        cut();
    };
    stage.suffer("too many connections", full, || drop(sql("ALTER ROLE app CONNECTION LIMIT -1")));
    let read_only = |to: &str| {
        sql(&format!("ALTER SYSTEM {to}"));
        sql("SELECT pg_reload_conf()");
    };
    stage.suffer(
        "read-only",
        || read_only("SET default_transaction_read_only = on"),
        || read_only("RESET default_transaction_read_only"),
    );
}

/// N13 J4 J5 J7: the primary dies and its synchronous replica is promoted, under load: the nodes find it by the other host of
/// their URL, and nothing that was acknowledged is lost or issued twice.
#[test]
fn a_promoted_replica_has_all_that_was_acknowledged() {
    let primary = RefCell::new(Postgres::start());
    let replica = primary.borrow().start_replica(Replication::Synchronous);
    let (url, address) = (primary.borrow().url("postgres"), primary.borrow().address.to_string());
    let mut stage = Stage::start(&url.replace(&address, &format!("{address},{}", replica.address)));
    let (id, revoked) = make(&stage.nodes.gateways[0], &stage.admin, &json!({ "name": "revoked before" }));
    assert_eq!(nodes::revoke(&stage.nodes.gateways[1], &stage.admin, &id).status, 204);
    stage.suffer("failed over", || primary.borrow_mut().kill(), || replica.promote());
    for gateway in &stage.nodes.gateways {
        assert_eq!(gateway.get(PATH, &[&format!("Authorization: Bearer {revoked}")]).status, 401);
    }
    let gateway = &mut stage.nodes.gateways[2];
    gateway.kill_nine();
    gateway.restart();
    assert_eq!(gateway.get(PATH, &[&stage.key]).status, 200, "a start finds the new primary too");
}
