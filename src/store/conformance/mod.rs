//! What every backend must do, written against [`Store`] alone; run on SQLite and on a real Postgres. A second connection
//! of the tests' own plays other processes and the passage of trouble.

#![expect(clippy::disallowed_methods, reason = "tests start tasks of their own, and join them")]

mod at_once;
mod bulk;
mod files;
mod following;
mod logins;
mod maintenance;
mod many;
mod outages;

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::identity::{Membership, Networks, ScopeSet, SessionId, Status};
use crate::observe::AuditAction;
use crate::servers::{Postgres, Replication};
use crate::store::sql::{Begin, query};

const PACE: Pace =
    Pace { busy_timeout: Duration::from_secs(10), patience: Duration::from_secs(20), follow_every: Duration::from_millis(10) };
const IMPATIENT: Pace = Pace { busy_timeout: Duration::from_millis(500), patience: Duration::from_secs(10), ..PACE };

/// Where a test's store is.
struct Place {
    folder: TempDir,
    server: Option<Postgres>,
}

impl Place {
    fn sqlite() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), server: None }
    }

    fn postgres() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), server: Some(Postgres::start()) }
    }

    /// One of each engine.
    fn both() -> [Self; 2] {
        [Self::sqlite(), Self::postgres()]
    }

    fn options(&self) -> StoreOptions {
        let url = match &self.server {
            None => StoreUrl::Sqlite(self.folder.path().join("gateward.db")),
            Some(server) => StoreUrl::parse(&server.url("postgres")).unwrap(),
        };
        StoreOptions { url, encryption_key_file: self.folder.path().join("gateward.key") }
    }

    fn server(&mut self) -> &mut Postgres {
        self.server.as_mut().unwrap()
    }
}

async fn try_open(options: StoreOptions, pace: Pace) -> Result<Store, OpenError> {
    Store::open_at(options, Handle::current(), pace).await
}

async fn open(place: &Place) -> Store {
    try_open(place.options(), PACE).await.unwrap()
}

/// Another process' connection.
async fn stranger(place: &Place) -> Connection {
    Database::new(&place.options().url, PACE).writer().await.unwrap()
}

async fn run(connection: &mut Connection, sql: &'static str) {
    query(sql).execute(connection).await.unwrap();
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

async fn count(connection: &mut Connection, sql: &str) -> i64 {
    query(format!("SELECT ({sql}) AS found")).one(connection).await.unwrap().get("found").unwrap()
}

/// The code of the failure that a write ended with.
fn failure(outcome: Result<(), WriteError>) -> Failure {
    match outcome {
        Err(WriteError::Unavailable(failure)) => failure,
        other => panic!("{other:?}"),
    }
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
    for place in Place::both() {
        let store = open(&place).await;
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
        assert_eq!(count(&mut stranger(&place).await, "SELECT count(*) FROM audit").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_sessions_conflict_by_id_and_by_secret() {
    for place in Place::both() {
        let store = open(&place).await;
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
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_to_what_does_not_exist_say_so() {
    for place in Place::both() {
        let store = open(&place).await;
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
            (revoke("nothing"), "API key"),
        ] {
            let told = format!("{change:?}");
            assert_eq!(refusal(store.write(change, Some(event("x"))).await), format!("Unknown {{ what: {what:?} }}"), "{told}");
        }
        assert_eq!(count(&mut stranger(&place).await, "SELECT count(*) FROM audit").await, 0);
        assert_eq!(count(&mut stranger(&place).await, "SELECT count(*) FROM changes").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything() {
    for place in Place::both() {
        let store = open(&place).await;
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

        let store = open(&place).await;
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
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_in_the_directory_when_it_returns() {
    for place in Place::both() {
        let store = open(&place).await;
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
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_end_and_the_first_revocation_stay() {
    for place in Place::both() {
        let store = open(&place).await;
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
}

#[tokio::test(flavor = "multi_thread")]
async fn session_epochs_rise_and_never_fall() {
    for place in Place::both() {
        let store = open(&place).await;
        let ann = AccountId::new("u1");
        store.write(add(account("u1", "ann")), None).await.unwrap();
        let set_password = |hash: &str, at| Change::SetPassword {
            realm: "main".into(),
            account: AccountId::new("u1"),
            password: Secret::new(hash),
            sessions_valid_from: at,
        };
        let set_status = |status, at| Change::SetStatus {
            realm: "main".into(),
            account: AccountId::new("u1"),
            status,
            sessions_valid_from: at,
        };
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
}
