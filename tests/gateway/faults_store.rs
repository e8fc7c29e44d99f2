//! Stores that cannot be written for a while, and key files that are lost, swapped or open to all.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::thread;

use crate::support::{Gateway, Lock, Upstream, until};

const UNAVAILABLE: &str = r#"{"error":{"code":"UNAVAILABLE","message":"Service unavailable"}}"#;
const NODES: &str = "/api/v1/tenants/a/nodes";

fn credentials(gateway: &Gateway) -> (String, String) {
    gateway.add_user("root", "correct horse", &["admin"]);
    let (token, _) = gateway.login("root", "correct horse");
    let bearer = format!("Authorization: Bearer {token}");
    let key = gateway.post("/api/v1/api-keys", &[&bearer], r#"{"name":"k"}"#).json();
    (bearer, format!("Authorization: Bearer {}", key["key"].as_str().unwrap()))
}

const LOGIN: &str = r#"{"username":"root","password":"correct horse"}"#;

/// N12: every endpoint that must store says 503 while another process holds the lock, readiness says why, and all of it
/// recovers alone.
#[test]
fn whatever_must_store_is_unavailable_while_the_store_is_locked() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    let (bearer, key) = credentials(&gateway);
    let lock = Lock::on(gateway.folder.path(), "IMMEDIATE");
    thread::scope(|scope| {
        let refused = [
            scope.spawn(|| gateway.post("/api/v1/auth/token", &[], LOGIN)),
            scope.spawn(|| gateway.post("/api/v1/api-keys", &[&bearer], r#"{"name":"k2"}"#)),
            scope.spawn(|| gateway.request("POST", "/api/v1/auth/logout", &[&bearer], "")),
        ];
        for credential in [&bearer, &key] {
            assert_eq!(gateway.get(NODES, &[credential]).status, 200);
        }
        for answer in refused.map(|asking| asking.join().unwrap()) {
            assert_eq!((answer.status, answer.body.as_str(), answer.header("retry-after")), (503, UNAVAILABLE, Some("1")));
            assert_eq!(gateway.why(&answer), "failed issuer store_unavailable");
        }
    });
    assert_eq!(gateway.get(NODES, &[&bearer]).status, 200, "the logout did not happen");
    let ready = until("readiness to fail", || Some(gateway.admin("GET /readyz")).filter(|answer| answer.status == 503));
    assert!(ready.body.contains("store"), "{}", ready.body);
    assert_eq!(gateway.admin("GET /healthz").status, 200);
    drop(lock);
    until("readiness", || (gateway.admin("GET /readyz").status == 200).then_some(()));
    assert_eq!(gateway.post("/api/v1/auth/token", &[], LOGIN).status, 200);
    let listed = gateway.get("/api/v1/api-keys", &[&bearer]).body;
    assert!(!listed.contains("k2"), "what was answered 503 was not done: {listed}");
}

/// N12: a disk that fills up while we serve stops issuing; when there is room again, it goes on without a restart.
#[test]
fn a_disk_that_fills_up_is_survived_without_a_restart() {
    let upstream = Upstream::start();
    let api = format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n", upstream.url());
    // A process that a file limit kills says nothing of a full disk, which is an error of the write and no signal.
    let mut gateway = Gateway::prepare("", &api).limited("trap '' XFSZ");
    gateway.restart();
    let (bearer, key) = credentials(&gateway);
    let room = |bytes: &str| {
        let pid = gateway.pid().to_string();
        let limit = format!("--fsize={bytes}:unlimited");
        assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    };
    room("1");
    for _ in 0..3 {
        let answer = gateway.post("/api/v1/auth/token", &[], LOGIN);
        assert_eq!((answer.status, answer.body.as_str()), (503, UNAVAILABLE));
        for credential in [&bearer, &key] {
            assert_eq!(gateway.get(NODES, &[credential]).status, 200);
        }
    }
    room("unlimited");
    let again = until("the store", || Some(gateway.post("/api/v1/auth/token", &[], LOGIN)).filter(|answer| answer.status != 503));
    assert_eq!(again.status, 200);
    let made = gateway.post("/api/v1/api-keys", &[&bearer], r#"{"name":"later"}"#).json();
    let later = format!("Authorization: Bearer {}", made["key"].as_str().unwrap());
    gateway.kill_nine();
    gateway.restart();
    for credential in [&bearer, &key, &later] {
        assert_eq!(gateway.get(NODES, &[credential]).status, 200);
    }
}

/// A key file that is lost, another one, or open to all stops the start; the right one makes everything as it was.
#[test]
fn a_key_file_that_does_not_fit_stops_the_start() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::infracast(&upstream.url());
    let (bearer, key) = credentials(&gateway);
    gateway.kill_nine();
    let path = gateway.folder.path().join("gateward.key");
    let right = fs::read(&path).unwrap();
    let mode = |mode: u32| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let refused = |gateway: &mut Gateway, expected: &str| {
        let (code, said) = gateway.run_to_end();
        assert!(code == Some(1) && said.contains(expected) && said.contains("gateward.key"), "{expected}: {code:?} {said}");
        fs::remove_file(gateway.folder.path().join("stderr.log")).unwrap();
    };
    fs::remove_file(&path).unwrap();
    refused(&mut gateway, "is missing, and the store holds signing keys that it encrypted; restore it");
    assert!(!path.exists(), "no new key hides the loss");
    fs::write(&path, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").unwrap();
    mode(0o600);
    refused(&mut gateway, "is not the one that encrypted the signing key");
    fs::write(&path, &right).unwrap();
    mode(0o644);
    refused(&mut gateway, "others may use it (mode 0644); run `chmod 600` on it");
    mode(0o600);
    fs::write(&path, "not base64").unwrap();
    refused(&mut gateway, "is malformed: it must hold 32 bytes as base64 and nothing else");
    fs::write(&path, &right).unwrap();
    gateway.restart();
    for credential in [&bearer, &key] {
        assert_eq!(gateway.get(NODES, &[credential]).status, 200);
    }
}
