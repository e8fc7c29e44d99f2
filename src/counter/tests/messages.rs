//! The word that a process has changed the store.

use std::sync::atomic::AtomicU64;

use super::*;
use crate::servers::Cluster;

/// Counts what is noticed.
struct Looks(Arc<AtomicU64>);

impl Looks {
    /// Counters that listen, and what they made this process look at.
    fn of(counters: &Counters, committed: &watch::Sender<i64>) -> Self {
        let seen = Arc::<AtomicU64>::default();
        let counted = seen.clone();
        counters.share_changes(committed.subscribe(), move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        Self(seen)
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

async fn change_on_one_is_seen_by_the_other(url: &str) {
    let (one, other) = (connected(url).await, connected(url).await);
    let (commits, no_commits) = (watch::Sender::new(0), watch::Sender::new(0));
    let (looks_of_one, looks_of_other) = (Looks::of(&one, &commits), Looks::of(&other, &no_commits));
    // A new connection is a reason to look once.
    until("the first look", || looks_of_one.count() == 1 && looks_of_other.count() == 1).await;
    for number in 1..=3 {
        commits.send_replace(i64::try_from(number).unwrap());
        until("a look of the other", || looks_of_other.count() == 1 + number).await;
    }
    assert_eq!(looks_of_one.count(), 1, "what it told itself is no news");
    one.close().await;
    other.close().await;
}

#[tokio::test]
async fn a_change_on_one_node_makes_the_others_look_and_not_itself() {
    let redis = Redis::start();
    change_on_one_is_seen_by_the_other(&redis.url()).await;
    assert_eq!(redis.command(&["KEYS", "*"]), "", "a message is kept nowhere");
}

#[tokio::test]
async fn it_does_so_through_a_cluster() {
    let servers = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    change_on_one_is_seen_by_the_other(&servers.url()).await;
}

#[tokio::test]
async fn after_an_absence_a_node_looks_and_is_told_again() {
    let mut redis = Redis::start();
    let (one, other) = (connected(&redis.url()).await, connected(&redis.url()).await);
    let (commits, no_commits) = (watch::Sender::new(0), watch::Sender::new(0));
    let (_looks, looks) = (Looks::of(&one, &commits), Looks::of(&other, &no_commits));
    until("the first look", || looks.count() == 1).await;
    redis.kill();
    until_away(&one).await;
    // Nobody hears this one.
    commits.send_replace(1);
    redis.restart();
    until("a look after the absence", || looks.count() == 2).await;
    until_up(&one).await;
    commits.send_replace(2);
    until("a look of the other", || looks.count() == 3).await;
    one.close().await;
    other.close().await;
}

/// M14: whoever writes into the counters makes a node look at its store, at most fifty times a second, and nothing else.
#[tokio::test]
async fn a_flood_of_messages_is_a_few_looks() {
    let redis = Redis::start();
    let counters = connected(&redis.url()).await;
    let commits = watch::Sender::new(0);
    let looks = Looks::of(&counters, &commits);
    until("the first look", || looks.count() == 1).await;
    let begun = Instant::now();
    let flood = "for i = 1, 2000 do redis.call('PUBLISH', 'gw:store', ARGV[1]) redis.call('PUBLISH', 'gw:other', i) end";
    redis.command(&["EVAL", flood, "0", "revoked=*; grant=admin"]);
    until("a look", || looks.count() >= 2).await;
    // waits for: the end of what the flood may cause
    tokio::time::sleep(Duration::from_millis(200)).await;
    let most = 3 + u64::try_from(begun.elapsed().as_millis()).unwrap() / 20;
    assert!(looks.count() <= most, "{} looks", looks.count());
    counters.close().await;
}
