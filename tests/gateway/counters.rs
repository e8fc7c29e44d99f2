//! What the process says of the shared counters, and that it serves without them.

use crate::servers::Redis;
use crate::support::{Gateway, Upstream, until};

/// A gateway with this section `[counters]`, not started.
fn prepare(upstream: &Upstream, counters: &str) -> Gateway {
    let api = format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n", upstream.url());
    Gateway::prepare("", &format!("[counters]\n{counters}\n\n{api}"))
}

fn gauge(gateway: &Gateway) -> bool {
    let page = gateway.admin("GET /metrics").body;
    assert!(page.contains("# TYPE gateward_counters_up gauge\n"), "{page}");
    page.contains("gateward_counters_up 1.0\n")
}

#[test]
fn the_start_says_where_limits_are_counted_and_waits_for_no_server() {
    let upstream = Upstream::start();
    let mut redis = Redis::start();
    redis.kill();
    let address = redis.address;
    let mut gateway = prepare(&upstream, &format!("url = \"redis://:hunter2@{address}/1\"\nnodes = 2"));
    gateway.restart();
    assert!(!gauge(&gateway));
    assert_eq!(gateway.get("/health", &[]).status, 200);
    redis.restart();
    redis.command(&["CONFIG", "SET", "requirepass", "hunter2"]);
    until("the counters", || gauge(&gateway).then_some(()));
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
    let said = gateway.stderr();
    assert!(said.contains(&format!("limits are counted at redis://{address}/1, with 2 nodes")), "{said}");
    assert_eq!(said.matches(&format!("the shared counters at redis://{address}/1 are away: ")).count(), 1, "{said}");
    assert_eq!(said.matches(&format!("the shared counters at redis://{address}/1 are back after ")).count(), 1, "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn several_nodes_that_count_for_themselves_are_warned_once() {
    let upstream = Upstream::start();
    let mut gateway = prepare(&upstream, "nodes = 3");
    gateway.restart();
    assert_eq!(gateway.get("/health", &[]).status, 200);
    let said = gateway.stderr();
    assert_eq!(said.matches("each of the 3 nodes counts for itself").count(), 1, "{said}");
    assert!(!gateway.admin("GET /metrics").body.contains("gateward_counters"));
}
