//! What every backend must do, written against [`Store`] alone; run on SQLite. A second connection of the tests' own
//! plays other processes and the passage of trouble.

#![expect(clippy::disallowed_methods, reason = "tests start tasks of their own, and join them")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tempfile::TempDir;

use super::*;
use crate::identity::{Membership, Networks, ScopeSet, SessionId, Status};
use crate::observe::AuditAction;

const PACE: Pace = Pace { busy_timeout: Duration::from_secs(10), follow_every: Duration::from_millis(10) };
const IMPATIENT: Pace = Pace { busy_timeout: Duration::from_millis(100), ..PACE };

async fn try_open(folder: &Path, pace: Pace) -> Result<Store, OpenError> {
    let options = StoreOptions {
        url: "sqlite:gateward.db".to_owned(),
        folder: folder.to_owned(),
        encryption_key_file: PathBuf::from("gateward.key"),
    };
    Store::open_at(options, Handle::current(), pace).await
}

async fn open(folder: &TempDir) -> Store {
    try_open(folder.path(), PACE).await.unwrap()
}

/// Another process' connection.
async fn stranger(folder: &TempDir) -> SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("gateward.db"));
    options.connect().await.unwrap()
}

/// Waits for something that another store brings about.
async fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let polling = async {
        while !seen() {
            // waits for: what the other store does; the whole wait is bounded below.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), polling).await.unwrap_or_else(|_| panic!("not seen: {what}"));
}

async fn count(connection: &mut SqliteConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

fn account(id: &str, username: &str) -> Account {
    Account {
        id: AccountId::new(id),
        realm: "main".into(),
        username: username.to_owned(),
        email: None,
        display_name: None,
        status: Status::Active,
        roles: Vec::new(),
        tenants: Vec::new(),
        attributes: Default::default(),
        created_at: Timestamp(1_000),
        sessions_valid_from: Timestamp(1_000),
    }
}

fn add(account: Account) -> Change {
    Change::AddAccount { account, password: Some(Secret::new("$hash$1")) }
}

fn key(id: &str, owner: &str) -> ApiKey {
    ApiKey {
        id: KeyId::new(id),
        realm: "main".into(),
        owner: AccountId::new(owner),
        name: "ci".to_owned(),
        scopes: ScopeSet::from_spaced("nodes:read jobs:*"),
        tenants: vec!["prod".into()],
        allowed_ips: [Networks::parse_one("10.0.0.0/8").unwrap()].into_iter().collect(),
        environment: "live".into(),
        digest: Digest::of(id),
        created_at: Timestamp(2_000),
        expires_at: None,
        revoked_at: None,
    }
}

fn session(id: &str, owner: &str) -> Session {
    Session {
        id: SessionId::new(id),
        realm: "main".into(),
        api: "nodes".into(),
        account: AccountId::new(owner),
        refresh: Digest::of(id),
        created_at: Timestamp(3_000),
        expires_at: clock::now().wall.plus(Duration::from_secs(3600)),
        ended_at: None,
    }
}

fn end(id: &str) -> Change {
    Change::EndSession { realm: "main".into(), session: SessionId::new(id), at: Timestamp(4_000) }
}

fn revoke(id: &str) -> Change {
    Change::RevokeKey { realm: "main".into(), key: KeyId::new(id), at: Timestamp(5_000) }
}

fn event(object: &str) -> AuditEvent {
    AuditEvent {
        at: Timestamp(6_000),
        realm: "main".to_owned(),
        action: AuditAction::AccountCreate,
        done: true,
        actor: "operator".to_owned(),
        object: object.to_owned(),
        client_ip: Some("192.0.2.7".parse().unwrap()),
        request_id: Some("r-1".to_owned()),
        reason: None,
    }
}

fn refusal(outcome: Result<(), WriteError>) -> String {
    outcome.err().map(|error| format!("{error:?}")).unwrap_or_default()
}

async fn password(store: &Store, login: &str) -> Option<String> {
    let record = store.login_record("main", login).await.unwrap()?;
    record.password.map(|password| password.expose().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_account_with_a_name_or_an_id_is_a_conflict_in_its_realm_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.write(add(account("u1", "Ann")), None).await.unwrap();
    assert_eq!(
        refusal(store.write(add(account("u2", " ANN ")), Some(event("u2"))).await),
        "Conflict { what: \"account with this login name\" }"
    );
    assert_eq!(
        refusal(store.write(add(account("u1", "bob")), Some(event("u1"))).await),
        "Conflict { what: \"account with this id\" }"
    );
    let elsewhere = Account { realm: "other".into(), ..account("u1", "ann") };
    store.write(add(elsewhere), None).await.unwrap();
    assert_eq!(store.directory().account_count("main"), 1);
    assert_eq!(store.directory().account_count("other"), 1);
    assert_eq!(count(&mut stranger(&folder).await, "SELECT count(*) FROM audit").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_sessions_conflict_by_id_and_by_secret() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    store.write(Change::AddKey(key("k1", "u1")), None).await.unwrap();
    store.write(Change::OpenSession(session("s1", "u1")), None).await.unwrap();
    for twin in
        [ApiKey { digest: Digest::of("another"), ..key("k1", "u1") }, ApiKey { digest: Digest::of("k1"), ..key("k2", "u1") }]
    {
        let refused = refusal(store.write(Change::AddKey(twin), None).await);
        assert_eq!(refused, "Conflict { what: \"key with this id or secret\" }");
    }
    for twin in [
        Session { refresh: Digest::of("another"), ..session("s1", "u1") },
        Session { refresh: Digest::of("s1"), ..session("s2", "u1") },
    ] {
        let refused = refusal(store.write(Change::OpenSession(twin), None).await);
        assert_eq!(refused, "Conflict { what: \"session with this id or refresh token\" }");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_to_what_does_not_exist_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let (realm, nobody): (Arc<str>, _) = ("main".into(), AccountId::new("nobody"));
    let at = Timestamp(1);
    for (change, what) in [
        (
            Change::SetPassword {
                realm: realm.clone(),
                account: nobody.clone(),
                password: Secret::new("x"),
                sessions_valid_from: at,
            },
            "account",
        ),
        (Change::SetStatus { realm, account: nobody, status: Status::Disabled, sessions_valid_from: at }, "account"),
        (Change::OpenSession(session("s1", "nobody")), "account"),
        (Change::AddKey(key("k1", "nobody")), "account"),
        (end("nothing"), "session"),
        (revoke("nothing"), "key"),
    ] {
        let told = format!("{change:?}");
        assert_eq!(refusal(store.write(change, Some(event("x"))).await), format!("Unknown {{ what: {what:?} }}"), "{told}");
    }
    assert_eq!(count(&mut stranger(&folder).await, "SELECT count(*) FROM audit").await, 0);
    assert_eq!(count(&mut stranger(&folder).await, "SELECT count(*) FROM changes").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_found_by_any_spelling_of_name_or_email() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let ann = Account { email: Some("Ann@Example.com".to_owned()), ..account("u1", "Ann") };
    store.write(add(ann), None).await.unwrap();
    for login in ["ann", "ANN", " Ann ", "ann@example.com", "ANN@EXAMPLE.COM"] {
        let found = store.login_record("main", login).await.unwrap().unwrap();
        assert_eq!(found.account.id.as_str(), "u1", "{login}");
        assert_eq!(found.password.unwrap().expose(), "$hash$1");
    }
    for login in ["", "an", "ann@example", "%", "_nn", "ann\0"] {
        assert!(store.login_record("main", login).await.unwrap().is_none(), "{login:?}");
    }
    assert!(store.login_record("other", "ann").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_of_two_accounts_logs_nobody_in_and_a_name_goes_before_an_email() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let shared = |id, name| Account { email: Some("team@example.com".to_owned()), ..account(id, name) };
    store.write(add(shared("u1", "ann")), None).await.unwrap();
    store.write(add(shared("u2", "bob")), None).await.unwrap();
    assert!(store.login_record("main", "team@example.com").await.unwrap().is_none());
    store.write(add(account("u3", "team@example.com")), None).await.unwrap();
    assert_eq!(store.login_record("main", "team@example.com").await.unwrap().unwrap().account.id.as_str(), "u3");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_a_password_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.write(Change::AddAccount { account: account("u1", "ann"), password: None }, None).await.unwrap();
    assert!(store.login_record("main", "ann").await.unwrap().unwrap().password.is_none());
    // An empty hash is a defect of the caller; it is refused alone.
    let empty = Change::AddAccount { account: account("u2", "bob"), password: Some(Secret::new("")) };
    let WriteError::Unavailable(failure) = store.write(empty, None).await.unwrap_err() else { panic!("no failure") };
    assert_eq!(failure.code(), "internal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let full = Account {
        email: Some("ann@example.com".to_owned()),
        display_name: Some("Ann \"A\" \u{e4}".to_owned()),
        roles: vec!["viewer".into(), "editor".into()],
        tenants: vec![Membership { tenant: "prod".into(), role: "admin".into() }],
        attributes: [("team".to_owned(), "x\"y".to_owned())].into(),
        ..account("u1", "Ann")
    };
    let expiring = ApiKey { expires_at: Some(clock::now().wall.plus(Duration::from_secs(60))), ..key("k1", "u1") };
    store.write(add(full.clone()), None).await.unwrap();
    store.write(Change::AddKey(expiring.clone()), None).await.unwrap();
    store.write(Change::AddKey(key("k2", "u1")), None).await.unwrap();
    store.write(Change::OpenSession(session("s1", "u1")), None).await.unwrap();
    store.write(Change::OpenSession(session("s2", "u1")), None).await.unwrap();
    store.write(end("s2"), None).await.unwrap();
    store.close().await;

    let store = open(&folder).await;
    let directory = store.directory();
    assert_eq!(format!("{:?}", directory.account("main", &full.id).unwrap()), format!("{full:?}"));
    assert_eq!(format!("{:?}", directory.key("main", "k1").unwrap()), format!("{expiring:?}"));
    assert_eq!(directory.key("main", "k2").unwrap().id.as_str(), "k2");
    assert_eq!(store.session_by_refresh("main", &Digest::of("s1")).await.unwrap().unwrap().ended_at, None);
    assert_eq!(store.session_by_refresh("main", &Digest::of("s2")).await.unwrap().unwrap().ended_at, Some(Timestamp(4_000)));
    assert_eq!(store.session_by_refresh("main", &Digest::of("s3")).await.unwrap(), None);
    assert!(!directory.session_ended("main", "s1"));
    assert!(directory.session_ended("main", "s2"));
    assert!(!directory.session_ended("other", "s2"));
    assert_eq!(store.accounts(None).await.unwrap().len(), 1);
    assert_eq!(store.accounts(Some("other")).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_in_the_directory_when_it_returns() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let (directory, ann) = (store.directory(), AccountId::new("u1"));
    store.write(add(account("u1", "ann")), None).await.unwrap();
    assert!(directory.account("main", &ann).unwrap().is_active());
    store.write(Change::AddKey(key("k1", "u1")), None).await.unwrap();
    assert_eq!(directory.key("main", "k1").unwrap().revoked_at, None);
    store.write(revoke("k1"), None).await.unwrap();
    assert_eq!(directory.key("main", "k1").unwrap().revoked_at, Some(Timestamp(5_000)));
    assert_eq!(directory.key("main", "k1").unwrap().revoked_at, Some(Timestamp(5_000)));
    store.write(Change::OpenSession(session("s1", "u1")), None).await.unwrap();
    assert!(!directory.session_ended("main", "s1"));
    store.write(end("s1"), None).await.unwrap();
    assert!(directory.session_ended("main", "s1"));
    let disable = Change::SetStatus {
        realm: "main".into(),
        account: ann.clone(),
        status: Status::Disabled,
        sessions_valid_from: Timestamp(7_000),
    };
    store.write(disable, None).await.unwrap();
    let shown = directory.account("main", &ann).unwrap();
    assert_eq!((shown.status, shown.sessions_valid_from), (Status::Disabled, Timestamp(7_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_end_and_the_first_revocation_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    store.write(Change::AddKey(key("k1", "u1")), None).await.unwrap();
    store.write(Change::OpenSession(session("s1", "u1")), None).await.unwrap();
    for at in [Timestamp(10), Timestamp(20)] {
        store.write(Change::RevokeKey { realm: "main".into(), key: KeyId::new("k1"), at }, None).await.unwrap();
        store.write(Change::EndSession { realm: "main".into(), session: SessionId::new("s1"), at }, None).await.unwrap();
    }
    assert_eq!(store.directory().key("main", "k1").unwrap().revoked_at, Some(Timestamp(10)));
    let ended = store.session_by_refresh("main", &Digest::of("s1")).await.unwrap().unwrap();
    assert_eq!(ended.ended_at, Some(Timestamp(10)));
}

#[tokio::test(flavor = "multi_thread")]
async fn session_epochs_rise_and_never_fall() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let ann = AccountId::new("u1");
    store.write(add(account("u1", "ann")), None).await.unwrap();
    let set_password = |hash: &str, at| Change::SetPassword {
        realm: "main".into(),
        account: AccountId::new("u1"),
        password: Secret::new(hash),
        sessions_valid_from: at,
    };
    let set_status =
        |status, at| Change::SetStatus { realm: "main".into(), account: AccountId::new("u1"), status, sessions_valid_from: at };
    for (change, expected) in [
        (set_password("$hash$2", Timestamp(5_000)), 5_000),
        // A clock that was set back, or a tool that read its clock long before it wrote: the epoch moves all the same.
        (set_password("$hash$3", Timestamp(4_000)), 5_001),
        (set_status(Status::Disabled, Timestamp(6_000)), 6_000),
        (set_status(Status::Disabled, Timestamp(6_000)), 6_001),
        (set_status(Status::Active, Timestamp(9_000)), 6_001),
    ] {
        store.write(change, None).await.unwrap();
        assert_eq!(store.directory().account("main", &ann).unwrap().sessions_valid_from, Timestamp(expected));
    }
    assert_eq!(password(&store, "ann").await.as_deref(), Some("$hash$3"));
}

/// A login with the old password, after the tool that changes it has read its clock and before it commits.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_change_outdates_sessions_that_were_opened_while_it_was_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    store.write(add(account("u2", "bob")), None).await.unwrap();
    let late = |id: &str, owner: &str, at| Change::OpenSession(Session { created_at: at, ..session(id, owner) });
    store.write(late("s1", "u1", Timestamp(5_050)), None).await.unwrap();
    store.write(late("s2", "u2", Timestamp(9_000)), None).await.unwrap();
    let change = Change::SetPassword {
        realm: "main".into(),
        account: AccountId::new("u1"),
        password: Secret::new("$hash$2"),
        sessions_valid_from: Timestamp(5_000),
    };
    store.write(change, None).await.unwrap();
    let valid_from = |id: &str| store.directory().account("main", &AccountId::new(id)).unwrap().sessions_valid_from;
    assert_eq!((valid_from("u1"), valid_from("u2")), (Timestamp(5_051), Timestamp(1_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehash_does_not_undo_a_password_change() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    let rehash = |replaces: &str, password: &str| Change::Rehash {
        realm: "main".into(),
        account: AccountId::new("u1"),
        password: Secret::new(password),
        replaces: Secret::new(replaces),
    };
    store.write(rehash("$hash$1", "$hash$2"), None).await.unwrap();
    assert_eq!(password(&store, "ann").await.as_deref(), Some("$hash$2"));
    store.write(rehash("$hash$1", "$hash$old"), None).await.unwrap();
    assert_eq!(password(&store, "ann").await.as_deref(), Some("$hash$2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_writers_at_once_all_succeed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let writes: Vec<_> = (0..100)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let id = format!("u{number}");
                store.write(add(account(&id, &id)), Some(event(&id))).await.unwrap();
                assert!(store.directory().account("main", &AccountId::new(&*id)).is_some(), "{id}");
            })
        })
        .collect();
    for write in writes {
        write.await.unwrap();
    }
    assert_eq!(store.directory().account_count("main"), 100);
    assert_eq!(count(&mut stranger(&folder).await, "SELECT count(*) FROM audit").await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_leaves_the_others_of_its_batch_committed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    // While a stranger holds the lock, the first write waits and the others queue up behind it: one batch.
    let mut stranger = stranger(&folder).await;
    let lock = stranger.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let queue = |id: &str, name: &str| {
        let task = Task::Change { change: Box::new(add(account(id, name))), audit: Some(Box::new(event(id))) };
        let (answer, answered) = oneshot::channel();
        store.inner.jobs.try_send(Job { task, answer }).unwrap();
        answered
    };
    let first = queue("u0", "zoe");
    let jobs = &store.inner.jobs;
    until("the first write at work", || jobs.capacity() == QUEUE).await;
    let batch = [queue("u1", "ann"), queue("u2", "ANN"), queue("u3", "bob")];
    assert_eq!(jobs.capacity(), QUEUE - 3);
    lock.rollback().await.unwrap();
    assert_eq!(refusal(first.await.unwrap()), "");
    let conflict = "Conflict { what: \"account with this login name\" }";
    for (answer, expected) in batch.into_iter().zip(["", conflict, ""]) {
        assert_eq!(refusal(answer.await.unwrap()), expected);
    }
    assert_eq!(store.directory().account_count("main"), 3);
    assert_eq!(count(&mut stranger, "SELECT count(*) FROM accounts").await, 3);
    assert_eq!(count(&mut stranger, "SELECT count(*) FROM audit").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_store_on_the_same_file_follows() {
    let folder = tempfile::tempdir().unwrap();
    let (server, tool) = (open(&folder).await, open(&folder).await);
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

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_that_write_one_account_end_up_showing_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let stores = [open(&folder).await, open(&folder).await];
    let ann = AccountId::new("u1");
    stores[0].write(add(account("u1", "ann")), None).await.unwrap();
    let rounds = stores.clone().map(|store| {
        tokio::spawn(async move {
            for round in 0..40 {
                let status = if round % 2 == 0 { Status::Disabled } else { Status::Active };
                let (realm, account) = ("main".into(), AccountId::new("u1"));
                let change = Change::SetStatus { realm, account, status, sessions_valid_from: Timestamp(0) };
                store.write(change, None).await.unwrap();
            }
        })
    });
    for round in rounds {
        round.await.unwrap();
    }
    // The number of the last change that each directory shows, and then what it shows.
    let newest = count(&mut stranger(&folder).await, "SELECT max(seq) FROM changes").await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_missed_pruned_changes_loads_everything() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    let mut stranger = stranger(&folder).await;
    let mut change = stranger.begin().await.unwrap();
    // A change whose own announcement is pruned away; only a later one, of another record, is left.
    for sql in [
        "UPDATE accounts SET status = 'disabled'",
        "INSERT INTO changes (seq, kind, realm, id, at) VALUES (50, 'key', 'main', 'k9', 0)",
        "DELETE FROM changes WHERE seq < 50",
    ] {
        sqlx::query(sql).execute(&mut *change).await.unwrap();
    }
    change.commit().await.unwrap();
    until("the status", || !store.directory().account("main", &AccountId::new("u1")).unwrap().is_active()).await;
    store.write(add(account("u2", "bob")), None).await.unwrap();
    assert_eq!(store.directory().account_count("main"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_keeps_the_newest_change_and_live_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    store.write(add(account("u2", "bob")), None).await.unwrap();
    store.write(Change::OpenSession(session("live", "u1")), None).await.unwrap();
    store.write(Change::OpenSession(Session { expires_at: Timestamp(1), ..session("old", "u1") }), None).await.unwrap();
    let mut stranger = stranger(&folder).await;
    sqlx::query("UPDATE changes SET at = 0").execute(&mut stranger).await.unwrap();
    store.submit(Task::Prune).await.unwrap();
    assert_eq!(count(&mut stranger, "SELECT count(*) FROM changes").await, 1);
    assert_eq!(count(&mut stranger, "SELECT max(seq) FROM changes").await, 4);
    assert_eq!(count(&mut stranger, "SELECT count(*) FROM sessions").await, 1);
    store.write(add(account("u3", "zoe")), None).await.unwrap();
    assert_eq!(store.directory().account_count("main"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    for number in 0..20 {
        let id = format!("u{number}");
        store.write(add(account(&id, &id)), Some(event(&id))).await.unwrap();
    }
    // The files as a kill -9 would leave them: the first store is open and its log is not merged.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["gateward.db", "gateward.db-wal", "gateward.key"] {
        std::fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    let second = open(&folder).await;
    let recovered = open(&crashed).await;
    for after in [&second, &recovered] {
        assert_eq!(after.directory().account_count("main"), 20);
        after.write(add(account("new", "new")), None).await.unwrap();
    }
    let mut stranger = stranger(&crashed).await;
    let verdict: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut stranger).await.unwrap();
    assert_eq!(verdict, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_that_race_make_one_signing_key() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = tokio::join!(open(&folder), open(&folder));
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
    first.close().await;
    second.close().await;
    let file = std::fs::read(folder.path().join("gateward.db")).unwrap();
    for secret in [b"made-by-the".as_slice(), b"another"] {
        assert!(!file.windows(secret.len()).any(|window| window == secret));
    }
}

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
