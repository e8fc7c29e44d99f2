//! kill -9 while keys are made and revoked: what was acknowledged is true after the restart.

use std::time::{Duration, Instant};

use crate::support::{Gateway, Issuing, State, Told, Upstream, pause_for, soundness};

/// J5 N11: rounds of load and kill -9; `GATEWARD_KILLS` says how many.
#[test]
#[expect(clippy::disallowed_methods, reason = "the number of rounds and the time of a start come from outside")]
fn what_was_acknowledged_survives_kill_nine() {
    let rounds: u32 = std::env::var("GATEWARD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    let upstream = Upstream::start();
    let mut gateway = Gateway::infracast(&upstream.url());
    gateway.add_user("root", "correct horse", &["admin"]);
    let (token, _) = gateway.login("root", "correct horse");
    let mut told = Told::default();
    let (mut made, mut revoked, mut slowest) = (0, 0, Duration::ZERO);
    for round in 0..rounds {
        let issuing = Issuing::start(&[gateway.address; 3], &token, round);
        // waits for: a moment that is another one in every round, from 3 to about 60 ms
        pause_for(Duration::from_micros(3_000 + u64::from(round * 7919 % 57) * 1000));
        gateway.kill_nine();
        let now = issuing.stop();
        (made, revoked) = (made + now.keys.len(), revoked + now.count(State::Revoked));
        assert_eq!(now.refused, 0, "a store that works refuses nothing");
        told.add(now);
        let start = Instant::now();
        gateway.restart();
        slowest = slowest.max(start.elapsed());
        assert_eq!(told.broken(&gateway), [], "round {round}");
        // Older keys are looked at again as long as they are few.
        while told.keys.len() > 60 {
            told.keys.pop_first();
        }
    }
    println!("{rounds} rounds: {made} keys made, {revoked} revoked, none lost; the slowest start took {slowest:?}");
    assert!(made > rounds as usize && revoked > 0, "{made} made, {revoked} revoked");
    told.check_list(&gateway, &token);
    assert_eq!(soundness(gateway.folder.path()), "ok\n0 True\n");
}
