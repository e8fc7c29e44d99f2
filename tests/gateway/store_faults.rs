//! The store locked, full, broken or gone: what is known goes on, what cannot be stored is not said to be done.

use std::io::Write;

use crate::support::{Gateway, Lock, Upstream, until};

const UNAVAILABLE: &str = r#"{"error":{"code":"UNAVAILABLE","message":"Service unavailable"}}"#;

/// N12 J7: while the store is locked, tokens and keys go on, issuing answers 503, and everything recovers alone.
#[test]
fn a_locked_store_stops_issuing_and_nothing_else() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    gateway.add_user("root", "correct horse", &["admin"]);
    let (token, _) = gateway.login("root", "correct horse");
    let bearer = format!("Authorization: Bearer {token}");
    let key = gateway.post("/api/v1/api-keys", &[&bearer], r#"{"name":"k"}"#).json();
    let with_key = format!("Authorization: Bearer {}", key["key"].as_str().unwrap());
    let lock = Lock::on(gateway.folder.path(), "EXCLUSIVE");
    for credential in [&bearer, &with_key] {
        assert_eq!(gateway.get("/api/v1/tenants/a/nodes", &[credential]).status, 200);
    }
    let id = key["id"].as_str().unwrap();
    let revoke = gateway.request("DELETE", &format!("/api/v1/api-keys/{id}"), &[&bearer], "");
    assert_eq!((revoke.status, revoke.body.as_str(), revoke.header("retry-after")), (503, UNAVAILABLE, Some("1")));
    assert_eq!(gateway.why(&revoke), "failed issuer store_unavailable");
    assert_eq!(gateway.get("/api/v1/tenants/a/nodes", &[&with_key]).status, 200, "nothing was half-done");
    drop(lock);
    until("the store", || {
        let status = gateway.request("DELETE", &format!("/api/v1/api-keys/{id}"), &[&bearer], "").status;
        (status == 204).then_some(())
    });
    assert_eq!(gateway.get("/api/v1/tenants/a/nodes", &[&with_key]).status, 401);
}

/// N12: a disk that is full (a file limit stands for it) is a 503 for what must be stored, and no crash.
#[test]
fn a_full_disk_stops_issuing_and_nothing_else() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::prepare("", &format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n", upstream.url()));
    gateway.cli_ok(&["user", "add", "root", "--role", "admin", "--password-stdin"], "correct horse");
    // 512-byte blocks: room for the tables and a little more; the write-ahead log meets the end soon.
    gateway = gateway.limited("trap '' XFSZ; ulimit -f 180");
    gateway.restart();
    let (token, _) = gateway.login("root", "correct horse");
    let bearer = format!("Authorization: Bearer {token}");
    let mut made = Vec::new();
    let refused = loop {
        let answer = gateway.post("/api/v1/api-keys", &[&bearer], &format!(r#"{{"name":"{}"}}"#, "x".repeat(100)));
        match answer.status {
            201 => made.push(answer.json()["key"].as_str().unwrap().to_owned()),
            _ => break answer,
        }
        assert!(made.len() < 500, "the file limit was never met");
    };
    assert_eq!((refused.status, refused.body.as_str()), (503, UNAVAILABLE));
    assert_eq!(gateway.get("/api/v1/tenants/a/nodes", &[&bearer]).status, 200);
    for key in &made {
        assert_eq!(gateway.get("/api/v1/tenants/a/nodes", &[&format!("Authorization: Bearer {key}")]).status, 200);
    }
    gateway.kill_nine();
    gateway = gateway.limited("true");
    gateway.restart();
    for key in &made {
        assert_eq!(gateway.get("/api/v1/tenants/a/nodes", &[&format!("Authorization: Bearer {key}")]).status, 200);
    }
}

/// A store that cannot be used stops the start with its reason and exit code 1.
#[test]
fn a_broken_store_stops_the_start() {
    let with = |prepare: &dyn Fn(&std::path::Path), rest: &str| {
        let mut gateway =
            Gateway::prepare("", &format!("[[api]]\nupstream = \"http://127.0.0.1:1\"\ncontract = \"infracast\"\n{rest}"));
        prepare(gateway.folder.path());
        gateway.run_to_end()
    };
    let write = |name: &'static str, bytes: &'static [u8]| {
        move |folder: &std::path::Path| {
            std::fs::File::create(folder.join(name)).unwrap().write_all(bytes).unwrap();
        }
    };
    let (code, said) = with(&write("gateward.db", &[7; 8192]), "");
    assert!(code == Some(1) && said.contains("gateward.db"), "{code:?} {said}");
    let (code, said) = with(&write("gateward.key", b"short"), "");
    assert!(code == Some(1) && said.contains("gateward.key"), "{code:?} {said}");
    let (code, said) = with(&|folder| std::fs::create_dir(folder.join("gateward.db")).unwrap(), "");
    assert!(code == Some(1) && said.contains("gateward.db"), "{code:?} {said}");
    let (code, said) = with(&|_| {}, "[store]\nurl = \"mysql://x\"\n");
    assert!(code == Some(78) && said.contains("mysql"), "{code:?} {said}");
    let (code, said) = with(&|_| {}, "tokens = { secret_file = \"none.key\" }\n");
    assert!(code == Some(1) && said.contains("none.key"), "{code:?} {said}");
}
