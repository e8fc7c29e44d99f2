//! What nodes count while the shared counters are away, and what is left of that when they are back.

use super::*;
use crate::limiter::{Receipt, Source};
use crate::rejection::Failure;

/// M5 M9: with the server killed, three nodes admit together what the limit says; when it is back and knows nothing, what
/// they admitted still counts.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_keep_the_limit_together_while_redis_is_away() {
    for algorithm in ALGORITHMS {
        let mut redis = Redis::start();
        let nodes = [Node::start(&redis, 3).await, Node::start(&redis, 3).await, Node::start(&redis, 3).await];
        let rule = rule("outage", algorithm, 90, LONG);
        for node in &nodes {
            assert_eq!(node.admitted(&rule, 10).await, 10, "{algorithm:?}");
        }
        redis.kill();
        let mut admitted = Vec::new();
        for node in &nodes {
            node.goes_away().await;
            admitted.push(node.admitted(&rule, 90).await);
        }
        // Each goes on from what it has seen: 10, 20 and 30 of 90; a third of the rest is its own.
        assert_eq!(admitted, [26, 23, 20], "{algorithm:?}");
        redis.restart();
        for node in &nodes {
            node.comes_back().await;
        }
        let mut left = Vec::new();
        for node in &nodes {
            left.push(node.admitted(&rule, 90).await);
        }
        assert_eq!(left, [2, 0, 0], "{algorithm:?}: what was too little to be shared, and nothing else");
        let other = Rule { bucket: "another".into(), ..rule };
        assert_eq!(nodes[0].spend(&other).await.receipt.source, Source::Shared);
    }
}

/// M9: a node that has seen nothing yet gives out its share, and one where that is less than one.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_redis_gives_out_its_share() {
    let mut redis = Redis::start();
    let node = Node::start(&redis, 3).await;
    redis.kill();
    node.goes_away().await;
    for algorithm in ALGORITHMS {
        for (limit, share) in [(90, 30), (100, 33), (3, 1), (2, 1), (1, 1)] {
            let rule = rule(&limit.to_string(), algorithm, limit, LONG);
            let first = node.spend(&rule).await;
            assert_eq!((first.decision.remaining, first.receipt.source), (share - 1, Source::Alone), "{algorithm:?} {limit}");
            assert_eq!(node.admitted(&rule, limit).await, share - 1, "{algorithm:?} {limit}");
        }
    }
}

/// A server that loses its counters while all connections stand: every node tells what it remembers, the latest as well as
/// the first, and no unit is spent a second time but those that nobody is left to tell of.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_wipes_no_limit() {
    for algorithm in ALGORITHMS {
        let redis = Redis::start();
        let (one, two) = (Node::start(&redis, 2).await, Node::start(&redis, 2).await);
        let rule = rule("flush", algorithm, 30, LONG);
        assert_eq!((one.admitted(&rule, 10).await, two.admitted(&rule, 10).await), (10, 10));
        assert_eq!(redis.command(&["FLUSHALL"]), "OK");
        // The first node has seen 10 of the 20.
        assert_eq!(one.spend(&rule).await.decision.remaining, 19, "{algorithm:?}");
        // The second tells of the 20; the one that was admitted meanwhile is lost.
        assert_eq!(two.spend(&rule).await.decision.remaining, 9, "{algorithm:?}");
        assert_eq!(one.admitted(&rule, 30).await, 9, "{algorithm:?}");
        // The same for a server that was restarted.
        assert_eq!(redis.command(&["FLUSHALL"]), "OK");
        assert_eq!((two.admitted(&rule, 5).await, one.admitted(&rule, 5).await), (5, 0), "{algorithm:?}: the second saw 21");
    }
}

/// What another node has given back is not taken again because this one remembers more.
#[tokio::test(flavor = "multi_thread")]
async fn a_refund_of_another_node_stands() {
    let redis = Redis::start();
    let (one, two) = (Node::start(&redis, 2).await, Node::start(&redis, 2).await);
    for algorithm in ALGORITHMS {
        let rule = rule("refund", algorithm, 10, LONG);
        let mut taken = Vec::new();
        for _ in 0..5 {
            taken.push(two.spend(&rule).await);
        }
        assert_eq!(one.spend(&rule).await.decision.remaining, 4, "{algorithm:?}");
        taken.into_iter().for_each(|taken| two.refund(&rule, taken));
        let mut left = one.take(&rule, Spending::Peek).await.decision.remaining;
        for _ in 0..1000 {
            if left == 8 {
                break;
            }
            // waits for: the refunds, which nobody waits for; the loop is bounded
            tokio::time::sleep(Duration::from_millis(5)).await;
            left = one.take(&rule, Spending::Peek).await.decision.remaining;
        }
        assert_eq!(left, 8, "{algorithm:?}: one is spent, and the one that is peeked at");
        assert_eq!(one.spend(&rule).await.decision.remaining, 8, "{algorithm:?}");
    }
}

/// A unit that was taken before an outage, during it or after it can be given back during it or after it.
#[tokio::test(flavor = "multi_thread")]
async fn units_are_given_back_whoever_counted_them() {
    for algorithm in ALGORITHMS {
        let mut redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let node = Node::start(&redis, 2).await;
        let rule = rule("back", algorithm, 20, LONG);
        let before = node.spend(&rule).await;
        redis.kill();
        node.goes_away().await;
        let [during, late] = [node.spend(&rule).await, node.spend(&rule).await];
        assert_eq!([before, during, late].map(|taken| taken.receipt.source), [Source::Shared, Source::Alone, Source::Alone]);
        // One of the 20 is spent, and two by two.
        assert_eq!(node.take(&rule, Spending::Peek).await.decision.remaining, 6, "{algorithm:?}");
        [before, during].into_iter().for_each(|taken| node.refund(&rule, taken));
        assert_eq!(node.take(&rule, Spending::Peek).await.decision.remaining, 8, "{algorithm:?}: as one node of two");
        redis.restart();
        node.comes_back().await;
        // The shared counter hears of the two that are still out, and of the one that was to be given back to it.
        let after = node.spend(&rule).await;
        node.refund(&rule, after);
        node.refund(&rule, late);
        let mut left = 0;
        for _ in 0..1000 {
            left = node.take(&rule, Spending::Peek).await.decision.remaining;
            if left == 19 {
                break;
            }
            // waits for: the refunds, which nobody waits for; the loop is bounded
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(left, 19, "{algorithm:?}: all is given back");
    }
}

/// M5: the limit says what becomes of a request that cannot be counted.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_what_the_limit_says() {
    let mut redis = Redis::start();
    let node = Node::start(&redis, 1).await;
    let rule = rule("modes", Algorithm::FixedWindow, 1, LONG);
    let take = async |mode: OnOutage| node.shared.take(&rule, mode, key(&rule), Spending::Spend, &mut Waited::default()).await;
    assert!(take(OnOutage::Closed).await.unwrap().unwrap().decision.allowed);
    assert!(!take(OnOutage::Open).await.unwrap().unwrap().decision.allowed, "while it is there, all are counted");
    redis.kill();
    node.goes_away().await;
    let Err(Failure::CountersUnavailable { detail }) = take(OnOutage::Closed).await else { panic!("it is closed") };
    assert_eq!(detail, "they are away");
    assert_eq!(take(OnOutage::Open).await.unwrap(), None);
    assert!(!take(OnOutage::Local).await.unwrap().unwrap().decision.allowed, "it was seen to be used up");
    let page = node.metrics.render().unwrap();
    for (by, count) in [("shared", 2), ("local", 1), ("open", 1), ("closed", 1)] {
        assert!(page.contains(&format!("gateward_limit_decisions_total{{by=\"{by}\"}} {count}\n")), "{by}: {page}");
    }
}

/// M6: a server that has stopped costs one request its whole patience once, over however many limits.
#[tokio::test(flavor = "multi_thread")]
async fn all_limits_of_a_request_share_one_patience() {
    let redis = Redis::start();
    let patience = Duration::from_millis(200);
    let node = Node::patient(&redis, 1, patience).await;
    redis.signal("STOP");
    let (mut waited, mut sources) = (Waited::default(), Vec::new());
    let begun = clock::now().tick;
    for bucket in ["a", "b", "c", "d"] {
        let rule = rule(bucket, Algorithm::Gcra, 10, LONG);
        let taken = node.shared.take(&rule, OnOutage::Local, key(&rule), Spending::Spend, &mut waited).await;
        sources.push(taken.unwrap().unwrap().receipt.source);
    }
    let took = Duration::from_micros(clock::now().tick.since(begun));
    redis.signal("CONT");
    assert_eq!(sources, [Source::Alone; 4]);
    assert!((patience / 2..patience * 2).contains(&took), "{took:?}");
}

/// The counters' clock is not this process's: what was counted before the first answer is not read by it.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_sets_the_clock() {
    let mut redis = Redis::start();
    let node = Node::start(&redis, 1).await;
    let rule = rule("first", Algorithm::Gcra, 5, Duration::from_hours(1));
    redis.kill();
    node.goes_away().await;
    assert_eq!(node.admitted(&rule, 10).await, 5);
    redis.restart();
    node.comes_back().await;
    let Taken { decision, receipt: Receipt { at, source } } = node.spend(&rule).await;
    assert_eq!((decision.allowed, source), (true, Source::Shared));
    let year_2026 = 1_760_000_000_000_000;
    assert!(at.0 > year_2026, "{at:?}");
    redis.kill();
    node.goes_away().await;
    assert_eq!(node.admitted(&rule, 10).await, 4);
    assert!(node.spend(&rule).await.receipt.at.0 >= at.0);
}
