//! Keys, audit, faults and files.

use super::*;
use crate::store::sql::Row;

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_or_missing_encryption_key_is_told_at_start() {
    for place in Place::both() {
        let store = open(&place).await;
        store.signing_key("nodes", "HS256", || Secret::new("s3cret")).await.unwrap();
        store.close().await;
        let key_file = place.folder.path().join("gateward.key");
        std::fs::remove_file(&key_file).unwrap();
        let missing = try_open(place.options(), PACE).await.err().unwrap().to_string();
        assert_eq!(
            missing,
            format!(
                "the encryption key file {}: is missing, and the store holds signing keys that it encrypted; restore it",
                key_file.display()
            )
        );
        let other = Place::sqlite();
        open(&other).await.close().await;
        std::fs::copy(other.folder.path().join("gateward.key"), &key_file).unwrap();
        let wrong = try_open(place.options(), PACE).await.err().unwrap().to_string();
        let told =
            format!("the encryption key file {} is not the one that encrypted the signing key nodes/HS256", key_file.display());
        assert!(wrong.ends_with(&told), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_events_are_stored_with_their_change_or_alone() {
    for place in Place::both() {
        let store = open(&place).await;
        store.write(add(account("u1", "ann")), Some(event("u1"))).await.unwrap();
        let refused = AuditEvent {
            action: AuditAction::Login,
            done: false,
            actor: "mallory".to_owned(),
            client_ip: None,
            request_id: None,
            reason: Some("login_unknown"),
            ..event("")
        };
        store.write(Change::AuditOnly, Some(refused)).await.unwrap();
        let rows = query("SELECT * FROM audit ORDER BY seq").all(&mut stranger(&place).await).await.unwrap();
        let line = |row: &Row| {
            let numbers = ["at", "done"].map(|column| row.get::<i64>(column).unwrap().to_string());
            let texts = ["realm", "action", "actor", "object"].map(|column| row.get::<String>(column).unwrap());
            let options = ["client_ip", "request_id", "reason"];
            let options = options.map(|column| row.get::<Option<String>>(column).unwrap().unwrap_or("NULL".to_owned()));
            [numbers.join(" "), texts.join(" "), options.join(" ")].join(" | ")
        };
        let lines: Vec<String> = rows.iter().map(line).collect();
        assert_eq!(
            lines,
            [
                "6000 1 | main account_create operator u1 | 192.0.2.7 r-1 NULL",
                "6000 0 | main login mallory  | NULL NULL login_unknown"
            ]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_store_refuses_writes_serves_its_directory_and_recovers_alone() {
    for place in Place::both() {
        let store = try_open(place.options(), IMPATIENT).await.unwrap();
        store.write(add(account("u1", "ann")), None).await.unwrap();
        let mut stranger = stranger(&place).await;
        stranger.begin(Begin::Write).await.unwrap();
        let failure = failure(store.write(add(account("u2", "bob")), None).await).to_string();
        let told = match place.server {
            None => "(code: 5) database is locked",
            Some(_) => "canceling statement due to lock timeout",
        };
        assert!(failure.starts_with(&format!("the store cannot be used: error returned from database: {told}")), "{failure}");
        assert_eq!(store.health().await.unwrap_err().code(), "store_unavailable");
        assert_eq!(store.directory().account_count("main"), 1);
        assert!(store.login_record("main", "ann").await.unwrap().is_some());
        stranger.rollback().await.unwrap();
        store.health().await.unwrap();
        store.write(add(account("u2", "bob")), None).await.unwrap();
        assert_eq!(store.directory().account_count("main"), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_file_cannot_grow_refuses_writes_and_recovers_alone() {
    let place = Place::sqlite();
    let store = open(&place).await;
    let mut stranger = stranger(&place).await;
    // Any error that is no refusal of one change: here a trigger that aborts the whole transaction.
    run(&mut stranger, "CREATE TRIGGER full BEFORE INSERT ON accounts BEGIN SELECT RAISE(ROLLBACK, 'disk is full'); END").await;
    assert_eq!(failure(store.write(add(account("u1", "ann")), None).await).code(), "store_unavailable");
    assert_eq!(store.directory().account_count("main"), 0);
    run(&mut stranger, "DROP TRIGGER full").await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    assert_eq!(store.directory().account_count("main"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_refuses_and_its_directory_stays() {
    for place in Place::both() {
        let store = open(&place).await;
        store.write(add(account("u1", "ann")), None).await.unwrap();
        store.close().await;
        store.close().await;
        assert_eq!(failure(store.write(end("s1"), None).await).to_string(), "the store cannot be used: it is closed");
        assert_eq!(store.login_record("main", "ann").await.unwrap_err().code(), "store_unavailable");
        assert_eq!(store.directory().account_count("main"), 1);
        assert!(!place.folder.path().join("gateward.db-wal").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn last_uses_are_listed_after_a_close_and_pages_are_newest_first() {
    for place in Place::both() {
        let store = open(&place).await;
        store.write(add(account("u1", "ann")), None).await.unwrap();
        store.write(add(account("u2", "bob")), None).await.unwrap();
        for (number, owner) in [(1, "u1"), (2, "u2"), (3, "u1")] {
            let key = ApiKey { created_at: Timestamp(number), ..key(&format!("k{number}"), owner) };
            store.write(Change::AddKey(key), None).await.unwrap();
        }
        store.touch_key(&KeyId::new("k3"), Timestamp(77_000));
        store.close().await;
        let store = open(&place).await;
        let listed = async |owner: Option<&str>, offset, limit| {
            let owner = owner.map(AccountId::new);
            let (rows, total) = store.keys("main", owner.as_ref(), Page { offset, limit }).await.unwrap();
            let ids: Vec<String> = rows.iter().map(|row| row.key.id.to_string()).collect();
            (ids.join(" "), total)
        };
        assert_eq!(listed(None, 0, 10).await, ("k3 k2 k1".to_owned(), 3));
        assert_eq!(listed(None, 1, 1).await, ("k2".to_owned(), 3));
        assert_eq!(listed(Some("u1"), 0, u32::MAX).await, ("k3 k1".to_owned(), 2));
        assert_eq!(listed(Some("u1"), u64::MAX, 10).await, (String::new(), 2));
        let (rows, _) = store.keys("main", None, Page { offset: 0, limit: 2 }).await.unwrap();
        let uses: Vec<_> = rows.iter().map(|row| row.last_used_at).collect();
        assert_eq!(uses, [Some(Timestamp(77_000)), None]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_garbled_key_is_absent_and_not_good_everywhere() {
    for place in Place::both() {
        let store = open(&place).await;
        store.write(add(account("u1", "ann")), None).await.unwrap();
        store.write(Change::AddKey(key("k1", "u1")), None).await.unwrap();
        store.close().await;
        let mut stranger = stranger(&place).await;
        run(&mut stranger, "UPDATE keys SET allowed_ips = '[\"10.0.0.0/99\"]'").await;
        let store = open(&place).await;
        assert!(store.directory().key("main", "k1").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_are_their_owners_alone() {
    let place = Place::sqlite();
    let store = open(&place).await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(place.folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["gateward.db", "gateward.db-shm", "gateward.db-wal", "gateward.key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_store_of_ours_is_told_from_one() {
    let place = Place::sqlite();
    let path = place.folder.path().join("gateward.db");
    std::fs::write(&path, "x".repeat(5000)).unwrap();
    let error = try_open(place.options(), PACE).await.err().unwrap().to_string();
    let expected = format!("the store {}: error returned from database: (code: 26) file is not a database", path.display());
    assert_eq!(error, expected);
    std::fs::remove_file(&path).unwrap();
    open(&place).await.close().await;
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (999, '', 1, x'', 0)";
    run(&mut stranger(&place).await, newer).await;
    let error = try_open(place.options(), PACE).await.err().unwrap().to_string();
    let why = "was last used by a newer gateward (its tables are at version 999); start that one";
    assert_eq!(error, format!("the store {}: {why}", path.display()));
    let nowhere = place.folder.path().join("nowhere/gateward.db");
    let options = StoreOptions { url: StoreUrl::Sqlite(nowhere.clone()), ..place.options() };
    let error = try_open(options, PACE).await.err().unwrap().to_string();
    let why = "cannot be made: No such file or directory (os error 2) (the folder must exist and be writable)";
    assert_eq!(error, format!("the store {}: {why}", nowhere.display()));
}
