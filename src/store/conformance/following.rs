//! Several stores on one file, and what outlives a process.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn another_store_on_the_same_file_follows() {
    for place in Place::both() {
        let (server, tool) = (open(&place).await, open(&place).await);
        let (directory, ann) = (server.directory(), AccountId::new("u1"));
        tool.write(add(account("u1", "ann")), None).await.unwrap();
        until("the account", || directory.account("main", &ann).is_some()).await;
        tool.write(Change::AddKey(key("k1", "u1")), None).await.unwrap();
        until("the key", || directory.key("main", "k1").is_some()).await;
        tool.write(revoke("k1"), None).await.unwrap();
        until("the revocation", || directory.key("main", "k1").unwrap().revoked_at.is_some()).await;
        server.write(Change::OpenSession(session("s1", "u1")), None).await.unwrap();
        tool.write(end("s1"), None).await.unwrap();
        until("the end of the session", || directory.session_ended("main", "s1")).await;
        assert!(directory.account("main", &ann).unwrap().is_active());
        let disable = Change::SetStatus {
            realm: "main".into(),
            account: ann.clone(),
            status: Status::Disabled,
            sessions_valid_from: Timestamp(9_000),
        };
        tool.write(disable, None).await.unwrap();
        until("the status", || !directory.account("main", &ann).unwrap().is_active()).await;
        server.write(add(account("u2", "bob")), None).await.unwrap();
        until("the other direction", || tool.directory().account_count("main") == 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_that_write_one_account_end_up_showing_the_same() {
    for place in Place::both() {
        let stores = [open(&place).await, open(&place).await];
        let ann = AccountId::new("u1");
        stores[0].write(add(account("u1", "ann")), None).await.unwrap();
        let rounds = async |store: &Store| {
            for round in 0..40 {
                let status = if round % 2 == 0 { Status::Disabled } else { Status::Active };
                let (realm, account) = ("main".into(), AccountId::new("u1"));
                let change = Change::SetStatus { realm, account, status, sessions_valid_from: Timestamp(0) };
                store.write(change, None).await.unwrap();
            }
        };
        tokio::join!(rounds(&stores[0]), rounds(&stores[1]));
        // The number of the last change that each directory shows, and then what it shows.
        let newest = count(&mut stranger(&place).await, "SELECT max(seq) FROM changes").await;
        assert_eq!(newest, 81);
        let stored = stores[0].accounts(None).await.unwrap()[0].status;
        for store in &stores {
            let directory = store.directory();
            until("the last status", || directory.account("main", &ann).unwrap().status == stored).await;
            // Nothing older comes after it: the next looks change nothing.
            let looked_at = directory.followed_at();
            until("two more looks", || directory.followed_at() > looked_at.plus(PACE.follow_every)).await;
            assert_eq!(directory.account("main", &ann).unwrap().status, stored);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_missed_pruned_changes_loads_everything() {
    for place in Place::both() {
        let store = open(&place).await;
        store.write(add(account("u1", "ann")), None).await.unwrap();
        let mut stranger = stranger(&place).await;
        stranger.begin(Begin::Write).await.unwrap();
        // A change whose own announcement is pruned away; only a later one, of another record, is left.
        for sql in [
            "UPDATE accounts SET status = 'disabled'",
            "INSERT INTO changes (seq, kind, realm, id, at) VALUES (50, 'key', 'main', 'k9', 0)",
            "DELETE FROM changes WHERE seq < 50",
        ] {
            run(&mut stranger, sql).await;
        }
        stranger.commit().await.unwrap();
        until("the status", || !store.directory().account("main", &AccountId::new("u1")).unwrap().is_active()).await;
        store.write(add(account("u2", "bob")), None).await.unwrap();
        assert_eq!(store.directory().account_count("main"), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_keeps_the_newest_change_and_live_sessions() {
    for place in Place::both() {
        let store = open(&place).await;
        store.write(add(account("u1", "ann")), None).await.unwrap();
        store.write(add(account("u2", "bob")), None).await.unwrap();
        store.write(Change::OpenSession(session("live", "u1")), None).await.unwrap();
        store.write(Change::OpenSession(Session { expires_at: Timestamp(1), ..session("old", "u1") }), None).await.unwrap();
        let mut stranger = stranger(&place).await;
        run(&mut stranger, "UPDATE changes SET at = 0").await;
        store.submit(Task::Prune).await.unwrap();
        assert_eq!(count(&mut stranger, "SELECT count(*) FROM changes").await, 1);
        assert_eq!(count(&mut stranger, "SELECT max(seq) FROM changes").await, 4);
        assert_eq!(count(&mut stranger, "SELECT count(*) FROM sessions").await, 1);
        store.write(add(account("u3", "zoe")), None).await.unwrap();
        assert_eq!(store.directory().account_count("main"), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    let place = Place::sqlite();
    let store = open(&place).await;
    for number in 0..20 {
        let id = format!("u{number}");
        store.write(add(account(&id, &id)), Some(event(&id))).await.unwrap();
    }
    // The files as a kill -9 would leave them: the first store is open and its log is not merged.
    let crashed = Place::sqlite();
    for name in ["gateward.db", "gateward.db-wal", "gateward.key"] {
        std::fs::copy(place.folder.path().join(name), crashed.folder.path().join(name)).unwrap();
    }
    let second = open(&place).await;
    let recovered = open(&crashed).await;
    for after in [&second, &recovered] {
        assert_eq!(after.directory().account_count("main"), 20);
        after.write(add(account("new", "new")), None).await.unwrap();
    }
    let verdict = query("PRAGMA integrity_check").one(&mut stranger(&crashed).await).await.unwrap();
    assert_eq!(verdict.get::<String>("integrity_check").unwrap(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_that_race_make_one_signing_key() {
    for place in Place::both() {
        let (first, second) = tokio::join!(open(&place), open(&place));
        let (one, two) = tokio::join!(
            first.signing_key("nodes", "HS256", || Secret::new("made-by-the-first")),
            second.signing_key("nodes", "HS256", || Secret::new("made-by-the-second")),
        );
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one.expose(), two.expose());
        let again = first.signing_key("nodes", "HS256", || panic!("it was made already")).await.unwrap();
        assert_eq!(again.expose(), one.expose());
        let other = first.signing_key("nodes", "RS256", || Secret::new("another")).await.unwrap();
        assert_eq!(other.expose(), "another");
        // What a key is sealed into has its length and more, and none of its text.
        let rows = query("SELECT sealed FROM signing_keys").all(&mut stranger(&place).await).await.unwrap();
        assert_eq!(rows.len(), 2);
        for sealed in rows.iter().map(|row| row.get::<Vec<u8>>("sealed").unwrap()) {
            for secret in [b"made-by-the".as_slice(), b"another"] {
                assert!(sealed.len() > secret.len() && !sealed.windows(secret.len()).any(|window| window == secret));
            }
        }
    }
}
