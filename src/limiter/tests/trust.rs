//! What lies in the server, and what becomes of a limit when that, or the server's clock, is not what it should be.

use std::sync::LazyLock;

use super::*;
use crate::counter::Script;
use crate::limiter::Source;

/// M14: nothing but counters: names of one form, four numbers each, and a time after which they are gone. What was counted by
/// cannot be read there.
#[tokio::test(flavor = "multi_thread")]
async fn redis_holds_nothing_but_counters() {
    let redis = Redis::start();
    let node = Node::start(&redis, 1).await;
    for algorithm in ALGORITHMS {
        let rule = rule("infra/per-key", algorithm, 3, Duration::from_hours(1));
        for caller in ["bob", "key_2", "a\r\nSET x y\r\n", "{tag}", &"x".repeat(10_240)] {
            for _ in 0..5 {
                let key = CellKey::new(&rule, &[caller.as_bytes()]);
                let taken = node.shared.take(&rule, OnOutage::Local, key, Spending::Spend, &mut Waited::default()).await;
                let taken = taken.unwrap().unwrap();
                assert_eq!(taken.receipt.source, Source::Shared);
                node.shared.refund(&rule, key, taken.receipt);
            }
        }
    }
    let names = redis.command(&["KEYS", "*"]);
    let mut found = 0;
    for name in names.lines().filter(|name| name.starts_with("gw:")) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        assert!(name.len() == 25 && name.bytes().skip(3).all(plain), "{name}");
        assert_eq!(redis.command(&["TYPE", name]), "string");
        let value = redis.command(&["GET", name]);
        let numbers: Vec<u64> = value.split(' ').map(|number| number.parse().unwrap()).collect();
        assert_eq!(numbers.len(), 4, "{value}");
        let life: u64 = redis.command(&["PTTL", name]).parse().unwrap();
        assert!((1..=2 * 3_600_000 + 1).contains(&life), "{life}");
        found += 1;
    }
    assert_eq!(found, 15, "{names}");
}

/// M7 M14: what somebody else has put there in a counter's place is no counter, and no obstacle.
#[tokio::test(flavor = "multi_thread")]
async fn junk_in_a_counters_place_is_overwritten() {
    let redis = Redis::start();
    let node = Node::start(&redis, 1).await;
    for algorithm in ALGORITHMS {
        for (index, junk) in [
            &["SET", "NAME", "junk"][..],
            &["SET", "NAME", "1 2 3"],
            &["SET", "NAME", "-1 -2 -3 -4"],
            &["SET", "NAME", "1e9 nan inf 0x10"],
            &["RPUSH", "NAME", "1", "2"],
            &["HSET", "NAME", "a", "b"],
        ]
        .iter()
        .enumerate()
        {
            let rule = rule(&format!("junk {index}"), algorithm, 3, LONG);
            let name = key(&rule).name();
            let command: Vec<&str> = junk.iter().map(|word| if *word == "NAME" { name.as_str() } else { word }).collect();
            redis.command(&command);
            let first = node.spend(&rule).await;
            assert_eq!((first.decision.remaining, first.receipt.source), (2, Source::Shared), "{algorithm:?} {junk:?}");
            assert_eq!(node.admitted(&rule, 5).await, 2, "{algorithm:?} {junk:?}");
        }
    }
}

/// M14: numbers of any size there refuse for one window at most, and never let everyone pass.
#[tokio::test(flavor = "multi_thread")]
async fn absurd_numbers_in_a_counter_are_cut() {
    let redis = Redis::start();
    let node = Node::start(&redis, 1).await;
    let nines = "9".repeat(400);
    for algorithm in ALGORITHMS {
        for (index, value) in
            [format!("{nines} {nines} {nines} {nines}"), format!("1 0 {nines} 0"), "0 0 0 0".to_owned()].iter().enumerate()
        {
            let rule = rule(&format!("absurd {index}"), algorithm, 3, Duration::from_mins(1));
            redis.command(&["SET", &key(&rule).name(), value]);
            let mut waits = Vec::new();
            for _ in 0..4 {
                let taken = node.spend(&rule).await;
                assert_eq!(taken.receipt.source, Source::Shared, "{algorithm:?} {value}");
                waits.push(taken.decision.retry_after);
            }
            assert!((Duration::from_nanos(1)..=Duration::from_mins(2)).contains(&waits[3]), "{algorithm:?} {value}: {waits:?}");
        }
    }
}

/// M13: a clock that is an hour off is the clock of all nodes, and of all they count; nobody gets an hour for free, neither
/// then nor when it is set right, and nobody is refused for an hour who is over a limit of a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_an_hour_off_gives_no_free_hour() {
    const MINUTE: Duration = Duration::from_mins(1);
    let redis = Redis::start();
    for (off, right) in [(&AHEAD, &BEHIND), (&BEHIND, &AHEAD)] {
        let mut nodes = [Node::start(&redis, 2).await, Node::start(&redis, 2).await];
        for algorithm in ALGORITHMS {
            let (long, short) = (rule("long", algorithm, 10, LONG), rule("short", algorithm, 6, MINUTE));
            nodes.iter_mut().for_each(|node| node.shared.ask_by(off));
            redis.command(&["FLUSHALL"]);
            nodes.iter().for_each(|node| node.shared.forget());
            let [one, two] = &nodes;
            assert_eq!((one.admitted(&long, 20).await, two.admitted(&long, 20).await), (10, 0), "{algorithm:?}");
            assert!(one.admitted(&short, 20).await >= 6, "{algorithm:?}");
            let over = two.spend(&short).await.decision;
            assert!(over.retry_after <= 2 * MINUTE, "{algorithm:?}: {over:?}");
            nodes.iter_mut().for_each(|node| node.shared.ask_by(right));
            let [one, two] = &nodes;
            assert_eq!((one.admitted(&long, 20).await, two.admitted(&long, 20).await), (0, 0), "{algorithm:?}");
            let first = one.spend(&short).await.decision;
            assert!(first.retry_after <= 2 * MINUTE, "{algorithm:?}: {first:?}");
            let again = two.spend(&short).await;
            let value = redis.command(&["GET", &key(&short).name()]);
            let counted_until: u64 = value.split(' ').nth(1).unwrap().parse().unwrap();
            let soon = again.receipt.at.plus(2 * MINUTE).0;
            assert!(counted_until <= soon, "{algorithm:?}: {value} at {:?} locks out", again.receipt.at);
        }
    }
}

/// M13: while it is away the counters' clock goes on here, and what was counted by another one is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn the_clock_of_the_counters_goes_on_without_them() {
    let mut redis = Redis::start();
    let mut node = Node::start(&redis, 1).await;
    let rule = rule("clock", Algorithm::Gcra, 10, Duration::from_hours(1));
    for (script, cells) in [(&BEHIND, 1), (&AHEAD, 1)] {
        node.shared.ask_by(script);
        let before = node.spend(&rule).await.receipt;
        redis.kill();
        node.goes_away().await;
        let alone = node.spend(&rule).await.receipt;
        assert_eq!((before.source, alone.source), (Source::Shared, Source::Alone));
        let elapsed = alone.at.since(before.at);
        assert!((1..10_000_000).contains(&elapsed), "{elapsed}");
        assert_eq!(node.shared.cells(), cells);
        redis.restart();
        node.comes_back().await;
    }
}

static AHEAD: LazyLock<Script> = LazyLock::new(|| shifted("+ 1800000000"));
static BEHIND: LazyLock<Script> = LazyLock::new(|| shifted("- 1800000000"));

/// The script as a server runs it whose clock is so many microseconds off.
fn shifted(by: &str) -> Script {
    let clock = include_str!("../lua/clock.lua");
    assert_eq!(clock.matches("local now =").count(), 1);
    Script::new([clock, "now = now ", by, "\n", include_str!("../lua/counter.lua")].concat())
}
