//! The shared counters killed, stopped, slow, cut off, full, read-only, emptied: under load on three nodes.

use std::time::Duration;

use crate::servers::Redis;
use crate::shared_counters::{LIMIT, NODES, Stage, check};
use crate::support::{Fault, FaultProxy, until};

const PATIENT: &str = "100ms";

/// M5 M9: killed and started again without its data: each limit does what its `on_outage` says, nothing else is answered,
/// and over all nodes no more is let through than the limit says.
#[test]
fn counters_that_are_killed_under_load_fail_no_request() {
    let mut redis = Redis::start();
    let mut stage = Stage::start(&redis.url(), PATIENT);
    let load = stage.load();
    load.wait_for("/local", 200, LIMIT / 3);
    let server = std::cell::RefCell::new(&mut redis);
    stage.suffer(
        "killed",
        &load,
        || server.borrow_mut().kill(),
        || {
            load.wait_for("/closed", 503, 20);
            server.borrow_mut().restart();
        },
    );
    load.wait_for("/local", 429, 3 * NODES);
    let refused = load.count("/closed", 503);
    load.wait_for_more(100);
    let seen = load.stop();
    assert_eq!(seen["/closed"][&503], refused, "closed only while they are away");
    check(&seen);
    assert!(seen["/local"][&200] >= LIMIT / NODES, "{seen:?}");
}

/// M5 M6: each way in which a wire fails, under load. What answers too late or not at all is given up after a handful of
/// calls, and taken up again when the wire is whole.
#[test]
fn a_wire_that_fails_to_the_counters_fails_no_request() {
    let redis = Redis::start();
    let wire = FaultProxy::to(redis.address);
    let mut stage = Stage::start(&format!("redis://{}", wire.address), PATIENT);
    let load = stage.load();
    load.wait_for("/local", 200, LIMIT / 4);
    let seconds = Duration::from_secs;
    for fault in [
        Fault::Delay(seconds(2)),
        Fault::Delay(Duration::from_millis(250)),
        Fault::Stall,
        Fault::StallAnswers,
        Fault::HalfOpen,
        Fault::Reset,
        Fault::Refuse,
    ] {
        stage.suffer(&format!("{fault:?}"), &load, || wire.set(fault), || wire.set(Fault::Pass));
    }
    check(&load.stop());
}

/// M5 M6: with the budget of 20 ms, of a server that is stopped or 50 ms away no request waits for longer than that: it is
/// seen in the gateways' own histograms.
#[test]
fn no_request_waits_above_the_budget() {
    let redis = Redis::start();
    let wire = FaultProxy::to(redis.address);
    let stage = Stage::start(&format!("redis://{}", wire.address), "20ms");
    let load = stage.load();
    load.wait_for("/local", 200, LIMIT / 4);
    for _ in 0..2 {
        wire.set(Fault::Delay(Duration::from_millis(50)));
        stage.wait_until_away();
        load.wait_for_more(200);
        wire.set(Fault::Pass);
        stage.wait_until_up();
        redis.signal("STOP");
        stage.wait_until_away();
        load.wait_for_more(200);
        redis.signal("CONT");
        stage.wait_until_up();
    }
    load.wait_for_more(600);
    check(&load.stop());
    for gateway in &stage.nodes.gateways {
        let within = |seconds: &str| gateway.metric(&format!("gateward_counters_wait_seconds_bucket{{le=\"{seconds}\"}}"));
        let (soon, all) = (within("0.025"), within("+Inf"));
        let given_up = gateway.metric("gateward_counters_calls_total{outcome=\"timed_out\"}");
        println!("of {all} calls {given_up} were given up; {} took 20 ms at most, {soon} took 25 ms", within("0.02"));
        // A busy machine wakes a thread up late, whatever the gateway does: 5 ms for that, and one call in fifty.
        assert!(given_up >= 4.0 && soon >= all * 0.98, "{soon} of {all} calls within the budget");
        assert_eq!(within("0.25"), all, "nothing waits as long as the counters are slow");
    }
}

/// M7: a server that answers and takes no writes is as good as none: out of memory, a replica, busy with a script. What it
/// has forgotten of scripts it is told again, and a value of another type counts as none.
#[test]
fn counters_that_refuse_are_as_good_as_away() {
    let redis = Redis::start();
    let mut stage = Stage::start(&redis.url(), PATIENT);
    let load = stage.load();
    load.wait_for("/local", 200, LIMIT / 4);
    let ok = |words: &[&str]| assert_eq!(redis.command(words), "OK", "{words:?}");
    ok(&["SCRIPT", "FLUSH"]);
    load.wait_for_more(60);
    let full = || ok(&["CONFIG", "SET", "maxmemory", "1"]);
    stage.suffer("OOM", &load, full, || ok(&["CONFIG", "SET", "maxmemory", "0"]));
    let replica = || ok(&["REPLICAOF", "127.0.0.1", "1"]);
    stage.suffer("READONLY", &load, replica, || ok(&["REPLICAOF", "NO", "ONE"]));
    ok(&["CONFIG", "SET", "busy-reply-threshold", "50"]);
    std::thread::scope(|scope| {
        let busy = || drop(scope.spawn(|| redis.command(&["EVAL", "while true do end", "0"])));
        stage.suffer("BUSY", &load, busy, || {
            until("the end of the script", || (redis.command(&["SCRIPT", "KILL"]) == "OK").then_some(()))
        });
    });
    for key in redis.command(&["KEYS", "gw:*"]).lines() {
        redis.command(&["DEL", key]);
        redis.command(&["LPUSH", key, "0", "0", "0", "0"]);
    }
    load.wait_for_more(120);
    let types: Vec<String> = redis.command(&["KEYS", "gw:*"]).lines().map(|key| redis.command(&["TYPE", key])).collect();
    assert!(types.iter().all(|kind| kind == "string" || kind == "none"), "{types:?}");
    check(&load.stop());
}

/// M7: a server that still reads its data in says so, and is taken up when it has.
#[test]
fn counters_that_load_their_data_are_away() {
    // Half a millisecond for each key that is read in.
    let mut redis = Redis::start_with(&["--key-load-delay", "500"]);
    let fill = "for i = 1, 4000 do redis.call('SET', 'filler:' .. i, i) end";
    redis.command(&["EVAL", fill, "0"]);
    assert_eq!(redis.command(&["SAVE"]), "OK");
    let mut stage = Stage::start(&redis.url(), PATIENT);
    let load = stage.load();
    load.wait_for("/local", 200, LIMIT / 4);
    redis.kill();
    let server = std::cell::RefCell::new(&mut redis);
    // Returns when it has read everything; until then it answers LOADING.
    stage.suffer("LOADING", &load, || {}, || server.borrow_mut().restart());
    check(&load.stop());
    let log = std::fs::read_to_string(redis.folder.path().join("server.log")).unwrap();
    assert!(log.contains("DB loaded from disk"), "{log}");
}

/// M5 M9: emptied again and again under load: what the nodes have seen of a counter they do not forget.
#[test]
fn counters_that_are_emptied_under_load_let_no_more_through() {
    let redis = Redis::start();
    let stage = Stage::start(&redis.url(), PATIENT);
    let load = stage.load();
    for part in 1..4 {
        load.wait_for("/local", 200, LIMIT * part / 4);
        assert_eq!(redis.command(&["FLUSHALL"]), "OK");
    }
    load.wait_for("/local", 429, 3 * NODES);
    assert_eq!(redis.command(&["FLUSHALL"]), "OK");
    load.wait_for_more(200);
    let seen = load.stop();
    assert_eq!(seen["/closed"].keys().copied().collect::<Vec<_>>(), [200], "an empty server is no outage");
    check(&seen);
}
