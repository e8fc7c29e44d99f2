//! A disk that turns read-only, breaks or becomes slow under a running gateway.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{BrokenDisk, Gateway, Upstream, soundness, until};

const NODES: &str = "/api/v1/tenants/a/nodes";

fn stage(upstream: &Upstream) -> (Gateway, String) {
    let gateway = Gateway::infracast(&upstream.url());
    gateway.add_user("root", "correct horse", &["admin"]);
    let (token, _) = gateway.login("root", "correct horse");
    (gateway, format!("Authorization: Bearer {token}"))
}

fn make(gateway: &Gateway, bearer: &str, name: &str) -> (u16, Option<String>) {
    let answer = gateway.post("/api/v1/api-keys", &[bearer], &format!(r#"{{"name":"{name}"}}"#));
    if answer.status == 503 {
        assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
    }
    (answer.status, (answer.status == 201).then(|| answer.json()["key"].as_str().unwrap().to_owned()))
}

/// N12 J7: read-only, full, broken: nothing is issued or revoked and nothing else stops; afterwards all of it works, and
/// what was refused was not done.
#[test]
fn a_disk_that_takes_no_writes_stops_issuing_and_nothing_else() {
    let upstream = Upstream::start();
    let (mut gateway, bearer) = stage(&upstream);
    let mut keys = Vec::new();
    for error in ["EROFS", "ENOSPC", "EIO"] {
        let made = gateway.post("/api/v1/api-keys", &[&bearer], r#"{"name":"before"}"#).json();
        let (id, before) = (made["id"].as_str().unwrap(), format!("Authorization: Bearer {}", made["key"].as_str().unwrap()));
        let disk = BrokenDisk::failing(&gateway, error);
        for _ in 0..3 {
            assert_eq!(make(&gateway, &bearer, error).0, 503, "{error}");
            let revoked = gateway.request("DELETE", &format!("/api/v1/api-keys/{id}"), &[&bearer], "");
            assert_eq!((revoked.status, revoked.header("retry-after")), (503, Some("1")), "{error}: {revoked:?}");
            assert_eq!(gateway.get(NODES, &[&before]).status, 200, "{error}");
            assert_eq!(gateway.get(NODES, &[&bearer]).status, 200, "{error}");
        }
        drop(disk);
        let key = until("the store", || make(&gateway, &bearer, "after").1);
        keys.extend([before, format!("Authorization: Bearer {key}")]);
    }
    gateway.kill_nine();
    gateway.restart();
    for key in &keys {
        assert_eq!(gateway.get(NODES, &[key]).status, 200);
    }
    let listed = gateway.get("/api/v1/api-keys?per_page=500", &[&bearer]).body;
    assert!(["EROFS", "ENOSPC", "EIO"].iter().all(|error| !listed.contains(error)), "{listed}");
    assert_eq!(soundness(gateway.folder.path()), "ok\n0 True\n");
}

/// N12: a disk that takes long to keep what it is given makes issuing wait, and nothing else.
#[test]
#[expect(clippy::disallowed_methods, reason = "a slow disk is measured")]
fn a_slow_disk_makes_issuing_wait_and_nothing_else() {
    const SLOW: Duration = Duration::from_millis(1_500);
    let upstream = Upstream::start();
    let (mut gateway, bearer) = stage(&upstream);
    let disk = BrokenDisk::slow(&gateway, 1_500);
    let start = Instant::now();
    let (key, served) = thread::scope(|scope| {
        let making = scope.spawn(|| make(&gateway, &bearer, "slow"));
        let mut served = 0;
        while !making.is_finished() {
            assert_eq!(gateway.get(NODES, &[&bearer]).status, 200);
            served += 1;
        }
        (making.join().unwrap(), served)
    });
    assert!(start.elapsed() >= SLOW, "nothing is acknowledged before the disk has it: {:?}", start.elapsed());
    assert!(served > 20, "{served} requests went on meanwhile");
    assert_eq!(key.0, 201);
    gateway.kill_nine();
    drop(disk);
    gateway.restart();
    assert_eq!(gateway.get(NODES, &[&format!("Authorization: Bearer {}", key.1.unwrap())]).status, 200);
}
