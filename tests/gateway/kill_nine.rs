//! kill -9 while keys are made and revoked: what was acknowledged is true after the restart.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::{Client, Gateway, Upstream};

/// What a client was told.
enum Told {
    Made { id: String, key: String },
    Revoked { id: String },
}

/// J5 N11: rounds of load and kill -9; `GATEWARD_KILLS` says how many.
#[test]
#[expect(clippy::disallowed_methods, reason = "the number of rounds and the time of a start come from outside")]
fn what_was_acknowledged_survives_kill_nine() {
    let rounds: u32 = std::env::var("GATEWARD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    let upstream = Upstream::start();
    let mut gateway = Gateway::infracast(&upstream.url());
    gateway.add_user("root", "correct horse", &["admin"]);
    let (token, _) = gateway.login("root", "correct horse");
    // Key to whether it was revoked; `None` when the answer to a revocation never came.
    let mut keys: BTreeMap<String, (String, Option<bool>)> = BTreeMap::new();
    let (mut made, mut revoked, mut slowest) = (0, 0, Duration::ZERO);
    for round in 0..rounds {
        let (told, heard) = channel();
        let clients: Vec<_> = (0..3).map(|_| spawn(gateway.address, token.clone(), told.clone())).collect();
        drop(told);
        // waits for: a moment that is another one in every round, from 3 to about 60 ms
        thread::sleep(Duration::from_micros(3_000 + u64::from(round * 7919 % 57) * 1000));
        gateway.kill_nine();
        let attempted = clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>();
        let (now_made, now_revoked) = remember(&heard, &mut keys);
        (made, revoked) = (made + now_made, revoked + now_revoked);
        for id in attempted.into_iter().flatten() {
            if let Some((_, state @ Some(false))) = keys.get_mut(&id) {
                *state = None;
            }
        }
        let start = Instant::now();
        gateway.restart();
        slowest = slowest.max(start.elapsed());
        check(&gateway, &keys, round);
        // Settled keys are checked once more at the end of a later round only when they are few.
        keys.retain(|_, (_, state)| state.is_some());
        while keys.len() > 60 {
            keys.pop_first();
        }
    }
    println!("{rounds} rounds: {made} keys made, {revoked} revoked, none lost; the slowest start took {slowest:?}");
    assert!(made > rounds as usize && revoked > 0, "{made} made, {revoked} revoked");
}

/// Makes and revokes keys until the connection ends; answers the id of a revocation whose answer never came.
fn spawn(address: SocketAddr, token: String, told: Sender<Told>) -> JoinHandle<Option<String>> {
    thread::spawn(move || {
        let mut client = Client::try_connect(address)?;
        let head = format!("Host: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n");
        loop {
            let created = client
                .try_ask(&format!("POST /api/v1/api-keys HTTP/1.1\r\n{head}Content-Length: 12\r\n\r\n{{\"name\":\"k\"}}"))?;
            assert_eq!(created.status, 201, "{created:?}");
            let body = created.json();
            let text = |name: &str| body[name].as_str().unwrap().to_owned();
            let (id, key) = (text("id"), text("key"));
            let even = key.as_bytes()[10] % 2 == 0;
            told.send(Told::Made { id: id.clone(), key }).unwrap();
            if even {
                let Some(answer) = client.try_ask(&format!("DELETE /api/v1/api-keys/{id} HTTP/1.1\r\n{head}\r\n")) else {
                    return Some(id);
                };
                assert_eq!(answer.status, 204, "{answer:?}");
                told.send(Told::Revoked { id }).unwrap();
            }
        }
    })
}

fn remember(heard: &Receiver<Told>, keys: &mut BTreeMap<String, (String, Option<bool>)>) -> (usize, usize) {
    let (mut made, mut revoked) = (0, 0);
    for told in heard.try_iter() {
        match told {
            Told::Made { id, key } => {
                made += 1;
                keys.insert(id, (key, Some(false)));
            }
            Told::Revoked { id } => {
                revoked += 1;
                keys.get_mut(&id).unwrap().1 = Some(true);
            }
        }
    }
    (made, revoked)
}

fn check(gateway: &Gateway, keys: &BTreeMap<String, (String, Option<bool>)>, round: u32) {
    let mut client = Client::connect(gateway.address);
    for (id, (key, revoked)) in keys {
        let Some(revoked) = revoked else { continue };
        client.send(format!("GET /api/v1/tenants/a/nodes HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n\r\n"));
        let expected = if *revoked { 401 } else { 200 };
        assert_eq!(client.receive().status, expected, "round {round}: {id}, acknowledged as revoked: {revoked}");
    }
}
