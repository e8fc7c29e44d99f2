//! Keys, audit, faults and files.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_or_missing_encryption_key_is_told_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.signing_key("nodes", "HS256", || Secret::new("s3cret")).await.unwrap();
    store.close().await;
    let key_file = folder.path().join("gateward.key");
    std::fs::remove_file(&key_file).unwrap();
    let missing = try_open(folder.path(), PACE).await.err().unwrap().to_string();
    assert_eq!(
        missing,
        format!(
            "the encryption key file {}: is missing, and the store holds signing keys that it encrypted; restore it",
            key_file.display()
        )
    );
    let other = tempfile::tempdir().unwrap();
    open(&other).await.close().await;
    std::fs::copy(other.path().join("gateward.key"), &key_file).unwrap();
    let wrong = try_open(folder.path(), PACE).await.err().unwrap().to_string();
    let told =
        format!("the encryption key file {} is not the one that encrypted the signing key nodes/HS256", key_file.display());
    assert!(wrong.ends_with(&told), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_events_are_stored_with_their_change_or_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
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
    type Line = (i64, String, String, i64, String, String, Option<String>, Option<String>, Option<String>);
    let lines: Vec<Line> =
        sqlx::query_as("SELECT at, realm, action, done, actor, object, client_ip, request_id, reason FROM audit ORDER BY seq")
            .fetch_all(&mut stranger(&folder).await)
            .await
            .unwrap();
    let text = |text: &str| text.to_owned();
    let first = (
        6_000,
        text("main"),
        text("account_create"),
        1,
        text("operator"),
        text("u1"),
        Some(text("192.0.2.7")),
        Some(text("r-1")),
        None,
    );
    let second = (6_000, text("main"), text("login"), 0, text("mallory"), text(""), None, None, Some(text("login_unknown")));
    assert_eq!(lines, [first, second]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_store_refuses_writes_serves_its_directory_and_recovers_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = try_open(folder.path(), IMPATIENT).await.unwrap();
    store.write(add(account("u1", "ann")), None).await.unwrap();
    let mut stranger = stranger(&folder).await;
    let lock = stranger.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let WriteError::Unavailable(failure) = store.write(add(account("u2", "bob")), None).await.unwrap_err() else {
        panic!("no failure")
    };
    assert_eq!(failure.to_string(), "the store cannot be used: error returned from database: (code: 5) database is locked");
    assert_eq!(store.health().await.unwrap_err().code(), "store_unavailable");
    assert_eq!(store.directory().account_count("main"), 1);
    assert!(store.login_record("main", "ann").await.unwrap().is_some());
    lock.rollback().await.unwrap();
    store.health().await.unwrap();
    store.write(add(account("u2", "bob")), None).await.unwrap();
    assert_eq!(store.directory().account_count("main"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_file_cannot_grow_refuses_writes_and_recovers_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let mut stranger = stranger(&folder).await;
    // Any error that is no refusal of one change: here a trigger that aborts the whole transaction.
    sqlx::query("CREATE TRIGGER full BEFORE INSERT ON accounts BEGIN SELECT RAISE(ROLLBACK, 'disk is full'); END")
        .execute(&mut stranger)
        .await
        .unwrap();
    let WriteError::Unavailable(failure) = store.write(add(account("u1", "ann")), None).await.unwrap_err() else {
        panic!("no failure")
    };
    assert_eq!(failure.code(), "store_unavailable");
    assert_eq!(store.directory().account_count("main"), 0);
    sqlx::query("DROP TRIGGER full").execute(&mut stranger).await.unwrap();
    store.write(add(account("u1", "ann")), None).await.unwrap();
    assert_eq!(store.directory().account_count("main"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_refuses_and_its_directory_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    store.close().await;
    store.close().await;
    let WriteError::Unavailable(failure) = store.write(end("s1"), None).await.unwrap_err() else { panic!("no failure") };
    assert_eq!(failure.to_string(), "the store cannot be used: it is closed");
    assert_eq!(store.login_record("main", "ann").await.unwrap_err().code(), "store_unavailable");
    assert_eq!(store.directory().account_count("main"), 1);
    assert!(!folder.path().join("gateward.db-wal").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn last_uses_are_listed_after_a_close_and_pages_are_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    store.write(add(account("u2", "bob")), None).await.unwrap();
    for (number, owner) in [(1, "u1"), (2, "u2"), (3, "u1")] {
        let key = ApiKey { created_at: Timestamp(number), ..key(&format!("k{number}"), owner) };
        store.write(Change::AddKey(key), None).await.unwrap();
    }
    store.touch_key(&KeyId::new("k3"), Timestamp(77_000));
    store.close().await;
    let store = open(&folder).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_garbled_key_is_absent_and_not_good_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    store.write(Change::AddKey(key("k1", "u1")), None).await.unwrap();
    store.close().await;
    let mut stranger = stranger(&folder).await;
    sqlx::query("UPDATE keys SET allowed_ips = '[\"10.0.0.0/99\"]'").execute(&mut stranger).await.unwrap();
    let store = open(&folder).await;
    assert!(store.directory().key("main", "k1").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_are_their_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["gateward.db", "gateward.db-shm", "gateward.db-wal", "gateward.key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_store_of_ours_is_told_from_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateward.db");
    std::fs::write(&path, "x".repeat(5000)).unwrap();
    let error = try_open(folder.path(), PACE).await.err().unwrap().to_string();
    let expected = format!("the store {}: error returned from database: (code: 26) file is not a database", path.display());
    assert_eq!(error, expected);
    std::fs::remove_file(&path).unwrap();
    open(&folder).await.close().await;
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (999, '', 1, x'', 0)";
    sqlx::query(newer).execute(&mut stranger(&folder).await).await.unwrap();
    let error = try_open(folder.path(), PACE).await.err().unwrap().to_string();
    let why = "was last used by a newer gateward (its tables are at version 999); start that one";
    assert_eq!(error, format!("the store {}: {why}", path.display()));
    let nowhere = folder.path().join("nowhere");
    let error = try_open(&nowhere, PACE).await.err().unwrap().to_string();
    let why = "cannot be made: No such file or directory (os error 2) (the folder must exist and be writable)";
    assert_eq!(error, format!("the store {}: {why}", nowhere.join("gateward.db").display()));
}
