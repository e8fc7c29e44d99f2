//! Counters that move to another server while three nodes count in them under load: Sentinel and Cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::servers::{Cluster, Redis, Sentinels};
use crate::shared_counters::{LIMIT, NODES, Seen, Stage, check, times};

/// What a request waits at most. The default would do, and a busy machine would make it look as if the counters were away more
/// often than they are.
const PATIENT: &str = "100ms";
/// From the moment at which another server takes writes to the moment at which every node counts in it.
const SOON: Duration = Duration::from_secs(3);

/// Each node was away as often as it was back; how long, in the words of the log.
fn outages(stage: &Stage) -> Vec<String> {
    let mut lasted = Vec::new();
    for gateway in &stage.nodes.gateways {
        let said = gateway.stderr();
        assert_eq!(times(gateway, "are away"), times(gateway, "are back after"), "{said}");
        lasted.extend(said.lines().filter_map(|line| Some(line.split_once("are back after ")?.1.to_owned())));
    }
    lasted
}

fn check_failed_over(seen: &Seen) {
    check(seen);
    assert!(seen["/local"][&200] >= LIMIT / NODES, "{seen:?}");
}

/// M8: Sentinel makes a replica the master: no request fails, the limit holds, and every node is with the new master soon.
#[test]
fn a_new_master_by_sentinel_is_found_under_load() {
    let mut sentinels = Sentinels::start();
    let stage = Stage::start(&sentinels.url(), PATIENT);
    let load = stage.load();
    load.wait_for("/local", 200, LIMIT / 3);
    let old = sentinels.master();
    let new = sentinels.fail_over();
    assert_ne!(old, new);
    let after = stage.nodes.all("the new master", |gateway| gateway.metric("gateward_counters_up") == 1.0);
    assert!(after < SOON, "{after:?}");
    load.wait_for_more(150);
    // The old one comes back as a replica of the new one, and nobody counts in it.
    sentinels.servers[old].restart();
    load.wait_for_more(150);
    check_failed_over(&load.stop());
    println!("{after:?} after the promotion; away for {:?}", outages(&stage));
    assert!(sentinels.servers[new].command(&["KEYS", "gw:*"]).lines().count() >= 3, "the counters are there");
}

/// The server of a cluster that holds this key as a master now.
fn holder<'a>(cluster: &'a Cluster, key: &str) -> Option<(usize, &'a Redis)> {
    let holds = |server: &Redis| server.command(&["ROLE"]).starts_with("master") && keys(server).contains(key);
    cluster.servers.iter().enumerate().find(|(_, server)| server.is_running() && holds(server))
}

fn keys(server: &Redis) -> BTreeSet<String> {
    server.command(&["KEYS", "gw:*"]).lines().map(str::to_owned).filter(|key| !key.contains("probe")).collect()
}

/// M8 M7: a cluster's replica takes the place of a master that counts, and later its slot moves on (MOVED, ASK): no request
/// fails and the limit holds.
#[test]
fn a_cluster_that_changes_under_load_fails_no_request() {
    let mut cluster = Cluster::start();
    let stage = Stage::start(&cluster.url(), PATIENT);
    let load = stage.load();
    load.wait_for("/local", 200, LIMIT / 3);
    let key =
        keys(&cluster.servers[0]).into_iter().chain(keys(&cluster.servers[1])).chain(keys(&cluster.servers[2])).next().unwrap();
    let (master, _) = holder(&cluster, &key).unwrap();
    cluster.fail_over(master);
    let after = stage.nodes.all("the new master", |gateway| gateway.metric("gateward_counters_up") == 1.0);
    assert!(after < SOON, "{after:?}");
    load.wait_for_more(150);
    let (from, _) = holder(&cluster, &key).expect("the counter lives on");
    let to = (0..3).find(|index| *index != master).unwrap();
    cluster.move_slot(&key, from, to);
    load.wait_for_more(150);
    stage.wait_until_up();
    assert_eq!(holder(&cluster, &key).map(|(index, _)| index), Some(to), "the counter is counted in where it is now");
    let before = load.count("/closed", 503);
    load.wait_for_more(150);
    assert_eq!(load.count("/closed", 503), before, "it is well again");
    check_failed_over(&load.stop());
    println!("{after:?} after the promotion; away for {:?}", outages(&stage));
}

/// M7: a cluster that has lost a part of its slots says CLUSTERDOWN: it is away until it is whole.
#[test]
fn a_cluster_that_is_not_whole_is_away() {
    let mut cluster = Cluster::start();
    let stage = Stage::start(&cluster.url(), PATIENT);
    let load = stage.load();
    load.wait_for("/local", 200, LIMIT / 4);
    // A master and its replica, so that nobody has their slots.
    cluster.servers[4].kill();
    cluster.servers[1].kill();
    stage.wait_until_away();
    load.wait_for_more(120);
    cluster.servers[1].restart();
    cluster.servers[4].restart();
    stage.wait_until_up();
    load.wait_for_more(120);
    check(&load.stop());
    assert!(outages(&stage).len() >= NODES);
}
