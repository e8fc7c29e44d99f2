//! How many get in.

use super::script::Lab;
use super::*;
use crate::clock::Tick;

/// M10: of ten times the limit, evenly spread over windows, each algorithm admits the limit within one per cent, and never
/// twice as much.
#[test]
fn ten_times_the_limit_gets_the_limit() {
    const WINDOWS: u64 = 4;
    let lab = Lab::new();
    for algorithm in ALGORITHMS {
        let rule = Rule { burst: 10, ..rule("accuracy", algorithm, 100, Duration::from_mins(1)) };
        let start = 1_780_000_020_000_000;
        lab.anew();
        let admitted: Vec<u64> =
            (0..WINDOWS * 1000).map(|n| start + n * 60_000).filter(|at| lab.spend(&rule, Tick(*at))).collect();
        // GCRA begins with its burst, which the first window gets on top.
        let burst = if algorithm == Algorithm::Gcra { 9 } else { 0 };
        let expected = usize::try_from(WINDOWS * 100 + burst).unwrap();
        assert!(admitted.len().abs_diff(expected) <= expected / 100, "{algorithm:?}: {} of {expected}", admitted.len());
        for (index, first) in admitted.iter().enumerate() {
            let inside = admitted[index..].iter().take_while(|at| **at < first + 60_000_000).count();
            assert!(inside <= 200, "{algorithm:?}: {inside} in a window");
        }
    }
}

/// M10: at the edge of a window, where a fixed one can be spent twice, nothing is spent a third time.
#[test]
fn a_burst_at_the_edge_gets_no_more_than_two_windows() {
    let lab = Lab::new();
    for (algorithm, expected) in [(Algorithm::Gcra, 50), (Algorithm::SlidingWindow, 50), (Algorithm::FixedWindow, 100)] {
        let rule = rule("edge", algorithm, 50, Duration::from_mins(1));
        let edge = 1_780_000_020_000_000;
        lab.anew();
        let moments = std::iter::repeat_n(edge - 1, 500).chain(std::iter::repeat_n(edge, 500));
        assert_eq!(moments.filter(|at| lab.spend(&rule, Tick(*at))).count(), expected, "{algorithm:?}");
    }
}

/// M10: nodes that spend from one counter at once get together what one would.
#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_together_get_the_limit() {
    let redis = Redis::start();
    let nodes = [Node::start(&redis, 3).await, Node::start(&redis, 3).await, Node::start(&redis, 3).await];
    for algorithm in ALGORITHMS {
        let rule = rule("nodes", algorithm, 60, LONG);
        let (a, b, c) = tokio::join!(nodes[0].admitted(&rule, 200), nodes[1].admitted(&rule, 200), nodes[2].admitted(&rule, 200));
        assert_eq!(a + b + c, 60, "{algorithm:?}: {a} {b} {c}");
        let last = nodes[0].spend(&rule).await.decision;
        assert_eq!((last.allowed, last.remaining, last.limit), (false, 0, 60), "{algorithm:?}");
    }
}
