//! One server in trouble.

use super::*;
use crate::observe::samples::Kept;

/// The longest of some calls in a row, and what they came to.
async fn calls(counters: &Counters, number: usize, patience: Duration) -> (Duration, Vec<Result<Answer, Unavailable>>) {
    let (script, mut longest, mut outcomes) = (count(), Duration::ZERO, Vec::new());
    for _ in 0..number {
        let begun = Instant::now();
        outcomes.push(counters.run(&script, b"gw:a", &[1], patience).await);
        longest = longest.max(begun.elapsed());
    }
    (longest, outcomes)
}

#[tokio::test]
async fn a_server_that_is_not_there_at_the_start_is_found_later() {
    let mut redis = Redis::start();
    redis.kill();
    let counters = start_at(&redis.url());
    assert_eq!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await, Err(Unavailable::Away));
    redis.restart();
    until_up(&counters).await;
    assert_eq!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await, answer([1, 7], 1));
    counters.close().await;
}

#[tokio::test]
async fn a_killed_server_is_given_up_without_a_call_and_used_again_when_it_is_back() {
    let mut redis = Redis::start();
    let counters = connected(&redis.url()).await;
    redis.kill();
    // No call tells: the end of the connection does.
    until_away(&counters).await;
    let (longest, outcomes) = calls(&counters, 1000, PATIENCE).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Err(Unavailable::Away)));
    assert!(longest < Duration::from_millis(100), "nothing was sent, and yet a call took {longest:?}");
    redis.restart();
    let back = Instant::now();
    until_up(&counters).await;
    assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
    assert_eq!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await, answer([1, 7], 2));
    counters.close().await;
}

#[tokio::test]
async fn a_stopped_server_costs_a_few_calls_their_patience_and_the_others_nothing() {
    let redis = Redis::start();
    let config = section(&redis.url(), "20ms");
    let counters = Counters::start(&config, Handle::current(), &Metrics::default()).unwrap().unwrap();
    until_up(&counters).await;
    redis.signal("STOP");
    let (_, outcomes) = calls(&counters, 50, Duration::from_millis(20)).await;
    let waited = outcomes.iter().filter(|outcome| **outcome == Err(Unavailable::TimedOut)).count();
    let at_once = outcomes.iter().filter(|outcome| **outcome == Err(Unavailable::Away)).count();
    assert_eq!((waited, at_once), (5, 45), "{outcomes:?}");
    assert!(!counters.is_up());
    redis.signal("CONT");
    until_up(&counters).await;
    counters.close().await;
}

#[tokio::test]
async fn a_stopped_server_is_noticed_by_a_node_that_asks_nothing() {
    let redis = Redis::start();
    let counters = connected(&redis.url()).await;
    redis.signal("STOP");
    until_away(&counters).await;
    redis.signal("CONT");
    until_up(&counters).await;
    assert!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await.unwrap().generation > 1);
    counters.close().await;
}

#[tokio::test]
async fn a_call_with_little_time_left_says_nothing_about_the_server() {
    let redis = Redis::start();
    let counters = connected(&redis.url()).await;
    redis.signal("STOP");
    let (longest, outcomes) = calls(&counters, 20, Duration::from_millis(2)).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Err(Unavailable::TimedOut)), "{outcomes:?}");
    assert!(longest < TIMEOUT_OF_TESTS / 2, "{longest:?}");
    redis.signal("CONT");
    let outcome = counters.run(&count(), b"gw:a", &[1], PATIENCE).await.unwrap();
    assert_eq!(outcome.generation, 1);
    counters.close().await;
}

const TIMEOUT_OF_TESTS: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_call_that_is_dropped_counts_for_nothing() {
    let redis = Redis::start();
    let counters = connected(&redis.url()).await;
    assert_eq!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await, answer([1, 7], 1));
    redis.signal("STOP");
    for _ in 0..20 {
        let script = count();
        let call = counters.run(&script, b"gw:a", &[1], PATIENCE);
        assert_eq!(timeout(Duration::from_millis(1), call).await.ok(), None);
    }
    assert!(counters.is_up());
    redis.signal("CONT");
    // Each of them was sent, and takes effect.
    assert_eq!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await, answer([22, 7], 1));
    counters.close().await;
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_away_until_it_does() {
    let redis = Redis::start();
    let counters = connected(&redis.url()).await;
    for (code, begin, end) in [
        ("READONLY", "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        ("NOREPLICAS", "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        ("OOM", "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    ] {
        let command = |words: &str| redis.command(&words.split(' ').collect::<Vec<_>>());
        assert_eq!(command(begin), "OK", "{code}");
        let outcome = counters.run(&count(), b"gw:a", &[1], PATIENCE).await;
        assert_eq!(outcome, Err(Unavailable::Refused { code: code.to_owned() }));
        // It answers, and yet it is not used: a probe that only asked would take it.
        assert_eq!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await, Err(Unavailable::Away), "{code}");
        // waits for: several tries to connect, none of which may succeed
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(!counters.is_up(), "{code}");
        assert_eq!(command(end), "OK", "{code}");
        until_up(&counters).await;
    }
    let outcome = counters.run(&count(), b"gw:a", &[1], PATIENCE).await;
    assert_eq!(outcome, answer([1, 7], 4));
    counters.close().await;
}

#[tokio::test]
async fn a_call_that_cannot_be_answered_is_its_own_trouble() {
    let redis = Redis::start();
    let counters = connected(&redis.url()).await;
    redis.command(&["LPUSH", "gw:list", "1"]);
    for _ in 0..20 {
        let outcome = counters.run(&count(), b"gw:list", &[1], PATIENCE).await;
        assert_eq!(outcome, Err(Unavailable::Refused { code: "WRONGTYPE".to_owned() }));
    }
    // Without time for an answer nothing is sent.
    for patience in [Duration::ZERO, TIMER] {
        assert_eq!(counters.run(&count(), b"gw:a", &[1], patience).await, Err(Unavailable::TimedOut));
    }
    let malformed = counters.run(&Script::new("return {'no number'}"), b"gw:a", &[], PATIENCE).await;
    assert_eq!(malformed, Err(Unavailable::Malformed));
    assert_eq!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await, answer([1, 7], 1));
    counters.close().await;
}

#[tokio::test]
async fn probes_leave_no_key_behind() {
    let redis = Redis::start();
    let counters = connected(&redis.url()).await;
    until("no key", || redis.command(&["KEYS", "*"]).is_empty()).await;
    assert!(counters.is_up());
    counters.close().await;
}

/// Workers have runtimes of their own, and the connection is driven by another one.
#[test]
fn calls_come_from_other_runtimes_than_the_connections() {
    let redis = Redis::start();
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let counters = control.block_on(async { connected(&redis.url()).await });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let worker = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                worker.block_on(async {
                    let (_, outcomes) = calls(&counters, 250, PATIENCE).await;
                    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
                });
            });
        }
    });
    assert_eq!(redis.command(&["GET", "gw:a"]), "1000");
    control.block_on(counters.close());
}

/// The lines of the diagnostic log about the counters, without their time.
fn said(kept: &Kept) -> Vec<String> {
    let of_ours = |line: &str| line.split_once("gateward::counter").map(|(_, rest)| rest.split_once(": ").unwrap().1.to_owned());
    kept.text().lines().filter_map(of_ours).collect()
}

#[tokio::test]
async fn one_line_says_that_they_are_away_and_one_that_they_are_back() {
    let kept = Kept::default();
    let writer = kept.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logged = tracing::subscriber::set_default(log);
    let mut redis = Redis::start();
    redis.command(&["ACL", "SETUSER", "gw", "on", ">hunter2", "~gw:*", "&gw:*", "+@all"]);
    let address = redis.address;
    let counters = connected(&format!("redis://gw:hunter2@{address}/2")).await;
    assert_eq!(said(&kept), Vec::<String>::new());
    redis.command(&["-n", "2", "LPUSH", "gw:list", "1"]);
    for _ in 0..3 {
        let outcome = counters.run(&count(), b"gw:list", &[1], PATIENCE).await;
        assert_eq!(outcome, Err(Unavailable::Refused { code: "WRONGTYPE".to_owned() }));
    }
    redis.kill();
    until_away(&counters).await;
    calls(&counters, 100, PATIENCE).await;
    redis.restart();
    redis.command(&["ACL", "SETUSER", "gw", "on", ">hunter2", "~gw:*", "&gw:*", "+@all"]);
    until_up(&counters).await;
    let lines = said(&kept);
    let away = "are away: the connection ended; each limit goes on as its on_outage says";
    let call = "a call to the shared counters failed by itself: the server refuses with WRONGTYPE; said once for each connection";
    assert_eq!(lines[0], call);
    assert_eq!(lines[1], format!("the shared counters at redis://{address}/2 {away}"));
    assert!(lines[2].starts_with(&format!("the shared counters at redis://{address}/2 are back after ")), "{lines:?}");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(!kept.text().contains("hunter2"));
    counters.close().await;
}
