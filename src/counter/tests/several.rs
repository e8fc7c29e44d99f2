//! Sentinels, and a cluster.

use std::process::Command;

use super::*;
use crate::servers::{Cluster, Sentinels};

#[tokio::test]
async fn the_master_that_the_sentinels_choose_is_found() {
    let mut servers = tokio::task::spawn_blocking(Sentinels::start).await.unwrap();
    let counters = connected(&servers.url()).await;
    assert_eq!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await.unwrap().generation, 1);
    assert_eq!(servers.servers[0].command(&["GET", "gw:a"]), "1");
    let servers = tokio::task::spawn_blocking(move || {
        let new = servers.fail_over();
        (servers, new)
    });
    let (servers, new) = servers.await.unwrap();
    until_up(&counters).await;
    // Sentinels may promote one server, think better of it and promote another: what counts is where this ends.
    let counted_on_the_master = async {
        loop {
            let counted = counters.run(&count(), b"gw:b", &[1], PATIENCE).await.ok().filter(|answer| answer.generation > 1);
            let held = servers.servers[servers.master()].command(&["GET", "gw:b"]);
            if counted.is_some_and(|answer| answer.values[0].to_string() == held) {
                return;
            }
            // waits for: the end of the promotion; the whole wait is bounded below
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert_eq!(timeout(Duration::from_secs(20), counted_on_the_master).await, Ok(()), "{new}");
    counters.close().await;
}

#[tokio::test]
async fn a_sentinel_that_wants_credentials_gets_the_masters_and_an_unknown_master_is_said() {
    let servers = tokio::task::spawn_blocking(Sentinels::start).await.unwrap();
    let user = ["ACL", "SETUSER", "gw", "on", ">hunter2", "~*", "&*", "+@all"];
    assert_eq!(servers.servers[0].command(&user), "OK");
    let addresses = servers.url().replace("redis+sentinel://", "").replace("/shared", "");
    for address in addresses.split(',') {
        for words in [&user[..], &["ACL", "SETUSER", "default", "off"]] {
            let (_, port) = address.split_once(':').unwrap();
            assert!(Command::new("redis-cli").args(["-p", port]).args(words).status().unwrap().success());
        }
    }
    let counters = connected(&format!("redis+sentinel://gw:hunter2@{addresses}/shared")).await;
    assert_eq!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await, answer([1, 7], 1));
    for (url, why) in [
        (format!("redis+sentinel://{addresses}/shared"), ": the server refuses with NOAUTH"),
        (format!("redis+sentinel://gw:hunter2@{addresses}/other"), " knows no master other"),
    ] {
        let cause = supervisor(&counters, &url, None).unwrap().connect(1, &count()).await.map(|_| ()).unwrap_err();
        assert!(cause.to_string().ends_with(why), "{cause}");
    }
    counters.close().await;
}

#[tokio::test]
async fn a_cluster_counts_each_key_on_its_node_and_goes_on_after_a_promotion() {
    let mut servers = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let counters = connected(&servers.url()).await;
    let keys: Vec<String> = (0..32).map(|number| format!("gw:{number}")).collect();
    for key in &keys {
        let outcome = counters.run(&count(), key.as_bytes(), &[1], PATIENCE).await;
        assert_eq!(outcome, answer([1, 7], 1), "{key}");
    }
    let held: Vec<usize> = servers.servers[..3].iter().map(|server| server.command(&["KEYS", "gw:*"]).lines().count()).collect();
    assert_eq!(held.iter().sum::<usize>(), 32);
    assert!(held.iter().all(|count| *count > 0), "{held:?}");
    let servers = tokio::task::spawn_blocking(move || {
        servers.fail_over(1);
        servers
    });
    let servers = servers.await.unwrap();
    until_up(&counters).await;
    for key in &keys {
        let outcome = counters.run(&count(), key.as_bytes(), &[1], PATIENCE).await;
        assert_eq!(outcome.unwrap().values[1], 7, "{key}");
    }
    assert!(servers.servers[4].command(&["KEYS", "gw:*"]).lines().count() > 0);
    counters.close().await;
}

#[tokio::test]
async fn a_master_that_is_stopped_is_found_out_and_its_keys_go_on_with_its_replica() {
    let servers = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let counters = connected(&servers.url()).await;
    servers.servers[1].signal("STOP");
    until_away(&counters).await;
    until_up(&counters).await;
    for number in 0..32 {
        let outcome = counters.run(&count(), format!("gw:{number}").as_bytes(), &[1], PATIENCE).await;
        assert_eq!(outcome.unwrap().values, [1, 7], "{number}");
    }
    assert!(servers.servers[4].command(&["ROLE"]).starts_with("master"));
    servers.servers[1].signal("CONT");
    counters.close().await;
}
