//! Sentinels, and a cluster.

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
    until_up(&counters, true).await;
    let outcome = counters.run(&count(), b"gw:b", &[1], PATIENCE).await.unwrap();
    assert!(outcome.generation > 1, "{outcome:?}");
    assert_eq!(servers.servers[new].command(&["GET", "gw:b"]), "1");
    counters.close().await;
}

#[tokio::test]
async fn an_unknown_master_is_said() {
    let servers = tokio::task::spawn_blocking(Sentinels::start).await.unwrap();
    let url = servers.url().replace("/shared", "/other");
    let counters = start_at(&url);
    let cause = supervisor(&counters, &url, None).unwrap().connect(1, &count()).await.map(|_| ()).unwrap_err();
    assert!(cause.to_string().ends_with(" knows no master other"), "{cause}");
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
    until_up(&counters, true).await;
    for key in &keys {
        let outcome = counters.run(&count(), key.as_bytes(), &[1], PATIENCE).await;
        assert_eq!(outcome.unwrap().values[1], 7, "{key}");
    }
    assert!(servers.servers[4].command(&["KEYS", "gw:*"]).lines().count() > 0);
    counters.close().await;
}
