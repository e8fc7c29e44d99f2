//! The SQL of every read, and rows to values.
//!
//! A row that cannot be read counts as absent, is logged, and so refuses: a key whose networks are garbled must not
//! become a key that is good everywhere.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::identity::{
    Account, AccountId, ApiKey, Digest, KeyId, Membership, Networks, ScopeSet, Secret, SessionId, Status, canonical_login,
};
use crate::store::change::{Kind, Record, Session};
use crate::store::directory::{DEAD_KEYS_STAY, EndedSession, Image};
use crate::store::execute::millis;
use crate::store::follow::Seen;
use crate::store::sql::{Connection, Row, query};
use crate::store::{KeyRow, LoginRecord, Page};

macro_rules! account_columns {
    () => {
        "realm, id, username, email, display_name, status, roles, tenants, attributes, created_at, sessions_valid_from"
    };
}

macro_rules! key_columns {
    () => {
        "realm, id, owner, name, scopes, tenants, allowed_ips, environment, digest, created_at, expires_at, revoked_at, \
         last_used_at"
    };
}

/// Everything that the directory shows, and the number of the last change that it includes.
pub(super) async fn everything(connection: &mut Connection, now: Timestamp) -> Result<(Vec<Image>, Seen), sqlx::Error> {
    let newest = newest_change(connection).await?;
    let mut images = Vec::new();
    let rows = query(concat!("SELECT ", account_columns!(), " FROM accounts")).all(connection).await?;
    images.extend(rows.iter().filter_map(|row| readable(account(row))).map(|account| Image::Account {
        realm: account.realm.clone(),
        id: account.id.0.clone(),
        account: Some(Arc::new(account)),
    }));
    // In parts: rows take several times the memory of the keys that are made of them.
    let (mut realm, mut id) = (Arc::default(), Arc::default());
    loop {
        let keys = query(concat!(
            "SELECT ",
            key_columns!(),
            " FROM keys WHERE (realm, id) > ($1, $2) AND (revoked_at IS NULL OR revoked_at > $3)
             AND (expires_at IS NULL OR expires_at > $3) ORDER BY realm, id LIMIT $4"
        ));
        let keys = keys.bind(&*realm).bind(&*id).bind(millis(now.minus(DEAD_KEYS_STAY))).bind(KEYS_AT_ONCE);
        let rows = keys.all(connection).await?;
        let Some(last) = rows.last() else { break };
        (realm, id) = (name(last, "realm")?, name(last, "id")?);
        images.extend(rows.iter().filter_map(|row| readable(key(row))).map(|key| Image::Key {
            realm: key.realm.clone(),
            id: key.id.0.clone(),
            key: Some(Arc::new(key)),
        }));
    }
    let ended = query("SELECT realm, id, expires_at FROM sessions WHERE ended_at IS NOT NULL AND expires_at > $1");
    for row in ended.bind(millis(now)).all(connection).await? {
        let ended = Some(EndedSession { expires_at: time(&row, "expires_at")? });
        images.push(Image::Session { realm: name(&row, "realm")?, id: name(&row, "id")?, ended });
    }
    Ok((images, newest))
}

/// The record as this connection sees it.
pub(super) async fn image(connection: &mut Connection, record: Record) -> Result<Image, sqlx::Error> {
    let Record { kind, realm, id } = record;
    match kind {
        Kind::Account => {
            let find = query(concat!("SELECT ", account_columns!(), " FROM accounts WHERE realm = $1 AND id = $2"));
            let row = find.bind(&*realm).bind(&*id).optional(connection).await?;
            let account = row.and_then(|row| readable(account(&row))).map(Arc::new);
            Ok(Image::Account { realm, id, account })
        }
        Kind::Key => {
            let find = query(concat!("SELECT ", key_columns!(), " FROM keys WHERE realm = $1 AND id = $2"));
            let row = find.bind(&*realm).bind(&*id).optional(connection).await?;
            let key = row.and_then(|row| readable(key(&row))).map(Arc::new);
            Ok(Image::Key { realm, id, key })
        }
        Kind::Session => {
            let find = query("SELECT expires_at FROM sessions WHERE realm = $1 AND id = $2 AND ended_at IS NOT NULL");
            let row = find.bind(&*realm).bind(&*id).optional(connection).await?;
            let ended = row.map(|row| time(&row, "expires_at").map(|expires_at| EndedSession { expires_at }));
            Ok(Image::Session { realm, id, ended: ended.transpose()? })
        }
    }
}

/// The newest change; number 0 when there is none.
pub(super) async fn newest_change(connection: &mut Connection) -> Result<Seen, sqlx::Error> {
    let newest = query("SELECT seq, at FROM changes ORDER BY seq DESC LIMIT 1").optional(connection).await?;
    newest.map_or(Ok(Seen::default()), |row| seen(&row))
}

/// The change with this number, if there still is one.
pub(super) async fn change_number(connection: &mut Connection, seq: i64) -> Result<Option<Seen>, sqlx::Error> {
    let change = query("SELECT seq, at FROM changes WHERE seq = $1").bind(seq).optional(connection).await?;
    change.map(|row| seen(&row)).transpose()
}

/// The changes from `seq` on, in order, at most `limit`.
pub(super) async fn changes_from(connection: &mut Connection, seq: i64, limit: i64) -> Result<Vec<(Seen, Record)>, sqlx::Error> {
    let changes = query("SELECT seq, at, kind, realm, id FROM changes WHERE seq >= $1 ORDER BY seq LIMIT $2");
    let rows = changes.bind(seq).bind(limit).all(connection).await?;
    let one = |row: &Row| {
        let kind: String = row.get("kind")?;
        let kind = Kind::parse(&kind).ok_or_else(|| garbled("kind", &kind))?;
        Ok((seen(row)?, Record { kind, realm: name(row, "realm")?, id: name(row, "id")? }))
    };
    rows.iter().map(one).collect()
}

/// By user name; else by email, if that is one account's only: an email that two accounts share logs nobody in.
pub(super) async fn login_record(
    connection: &mut Connection,
    realm: &str,
    login: &str,
) -> Result<Option<LoginRecord>, sqlx::Error> {
    let login = canonical_login(login);
    let by_name =
        query(concat!("SELECT ", account_columns!(), ", password FROM accounts WHERE realm = $1 AND username_canonical = $2"));
    let mut row = by_name.bind(realm).bind(&login).optional(connection).await?;
    if row.is_none() {
        let by_email = query(concat!(
            "SELECT ",
            account_columns!(),
            ", password FROM accounts WHERE realm = $1 AND email_canonical = $2 LIMIT 2"
        ));
        let mut rows = by_email.bind(realm).bind(&login).all(connection).await?;
        row = if rows.len() == 1 { rows.pop() } else { None };
    }
    let Some(row) = row else { return Ok(None) };
    let Some(account) = readable(account(&row)) else { return Ok(None) };
    let password: Option<String> = row.get("password")?;
    Ok(Some(LoginRecord { account: Arc::new(account), password: password.map(Secret::new) }))
}

pub(super) async fn session_by_refresh(
    connection: &mut Connection,
    realm: &str,
    refresh: &Digest,
) -> Result<Option<Session>, sqlx::Error> {
    let find = query(
        "SELECT realm, id, api, account, refresh, created_at, expires_at, ended_at FROM sessions
         WHERE realm = $1 AND refresh = $2",
    );
    let row = find.bind(realm).bind(refresh.as_bytes().as_slice()).optional(connection).await?;
    row.map(|row| session(&row)).transpose()
}

/// One page of a realm's keys, newest first, and how many there are. Both are of one moment.
pub(super) async fn keys(
    connection: &mut Connection,
    realm: &str,
    owner: Option<&AccountId>,
    page: Page,
) -> Result<(Vec<KeyRow>, u64), sqlx::Error> {
    let owner = owner.map(AccountId::as_str);
    let count = query("SELECT count(*) AS total FROM keys WHERE realm = $1 AND ($2 IS NULL OR owner = $2)");
    let total: i64 = count.bind(realm).bind(owner).one(connection).await?.get("total")?;
    let list = query(concat!(
        "SELECT ",
        key_columns!(),
        " FROM keys WHERE realm = $1 AND ($2 IS NULL OR owner = $2) ORDER BY created_at DESC, id LIMIT $3 OFFSET $4"
    ));
    let list = list.bind(realm).bind(owner).bind(i64::from(page.limit.min(Page::MAX_LIMIT)));
    let rows = list.bind(i64::try_from(page.offset).unwrap_or(i64::MAX)).all(connection).await?;
    let one = |row: &Row| Ok(KeyRow { key: key(row)?, last_used_at: optional_time(row, "last_used_at")? });
    let keys = rows.iter().filter_map(|row| readable(one(row))).collect();
    Ok((keys, u64::try_from(total).unwrap_or(0)))
}

pub(super) async fn accounts(connection: &mut Connection, realm: Option<&str>) -> Result<Vec<Account>, sqlx::Error> {
    let list = query(concat!(
        "SELECT ",
        account_columns!(),
        " FROM accounts WHERE $1 IS NULL OR realm = $1 ORDER BY realm, username_canonical"
    ));
    let rows = list.bind(realm).all(connection).await?;
    Ok(rows.iter().filter_map(|row| readable(account(row))).collect())
}

pub(super) async fn signing_key(connection: &mut Connection, api: &str, algorithm: &str) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let find = query("SELECT sealed FROM signing_keys WHERE api = $1 AND algorithm = $2");
    find.bind(api).bind(algorithm).optional(connection).await?.map(|row| row.get("sealed")).transpose()
}

/// All signing keys as they are sealed: API, algorithm, bytes. What the encryption key is tried on.
pub(super) async fn signing_keys(connection: &mut Connection) -> Result<Vec<(String, String, Vec<u8>)>, sqlx::Error> {
    let rows = query("SELECT api, algorithm, sealed FROM signing_keys ORDER BY api, algorithm").all(connection).await?;
    rows.iter().map(|row| Ok((row.get("api")?, row.get("algorithm")?, row.get("sealed")?))).collect()
}

/// How many rows of keys are in memory at a time.
const KEYS_AT_ONCE: i64 = 4096;

/// What a JSON column of memberships holds.
#[derive(Deserialize)]
struct StoredMembership {
    tenant: String,
    role: String,
}

fn account(row: &Row) -> Result<Account, sqlx::Error> {
    let status: String = row.get("status")?;
    let tenants: Vec<StoredMembership> = parsed(row, "tenants")?;
    Ok(Account {
        id: AccountId(name(row, "id")?),
        realm: name(row, "realm")?,
        username: row.get("username")?,
        email: row.get("email")?,
        display_name: row.get("display_name")?,
        status: Status::parse(&status).ok_or_else(|| garbled("status", &status))?,
        roles: names(row, "roles")?,
        tenants: tenants.into_iter().map(|one| Membership { tenant: one.tenant.into(), role: one.role.into() }).collect(),
        attributes: parsed(row, "attributes")?,
        created_at: time(row, "created_at")?,
        sessions_valid_from: time(row, "sessions_valid_from")?,
    })
}

fn key(row: &Row) -> Result<ApiKey, sqlx::Error> {
    let scopes: String = row.get("scopes")?;
    let networks: Vec<String> = parsed(row, "allowed_ips")?;
    let network = |text: &String| Networks::parse_one(text).ok_or_else(|| garbled("allowed_ips", text));
    Ok(ApiKey {
        id: KeyId(name(row, "id")?),
        realm: name(row, "realm")?,
        owner: AccountId(name(row, "owner")?),
        name: row.get("name")?,
        scopes: ScopeSet::from_spaced(&scopes),
        tenants: names(row, "tenants")?,
        allowed_ips: networks.iter().map(network).collect::<Result<_, _>>()?,
        environment: name(row, "environment")?,
        digest: digest(row, "digest")?,
        created_at: time(row, "created_at")?,
        expires_at: optional_time(row, "expires_at")?,
        revoked_at: optional_time(row, "revoked_at")?,
    })
}

fn session(row: &Row) -> Result<Session, sqlx::Error> {
    Ok(Session {
        id: SessionId(name(row, "id")?),
        realm: name(row, "realm")?,
        api: name(row, "api")?,
        account: AccountId(name(row, "account")?),
        refresh: digest(row, "refresh")?,
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
        ended_at: optional_time(row, "ended_at")?,
    })
}

/// Logs a row that cannot be read and passes over it.
fn readable<T>(outcome: Result<T, sqlx::Error>) -> Option<T> {
    outcome.map_err(|error| tracing::error!(error = %error, "a row of the store cannot be read and counts as absent")).ok()
}

fn seen(row: &Row) -> Result<Seen, sqlx::Error> {
    Ok(Seen { seq: row.get("seq")?, at: row.get("at")? })
}

fn name(row: &Row, column: &str) -> Result<Arc<str>, sqlx::Error> {
    row.get::<&str>(column).map(Arc::from)
}

/// A JSON list of names.
fn names(row: &Row, column: &str) -> Result<Vec<Arc<str>>, sqlx::Error> {
    Ok(parsed::<Vec<String>>(row, column)?.into_iter().map(Arc::from).collect())
}

fn parsed<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(row.get(column)?).map_err(|error| garbled(column, &error))
}

fn time(row: &Row, column: &str) -> Result<Timestamp, sqlx::Error> {
    row.get::<i64>(column).map(timestamp)
}

fn optional_time(row: &Row, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    row.get::<Option<i64>>(column).map(|at| at.map(timestamp))
}

/// A moment before 1970 reads as 1970.
fn timestamp(at: i64) -> Timestamp {
    Timestamp(u64::try_from(at).unwrap_or(0))
}

fn digest(row: &Row, column: &str) -> Result<Digest, sqlx::Error> {
    let bytes: &[u8] = row.get(column)?;
    bytes.try_into().map(Digest::from_bytes).map_err(|_| garbled(column, &bytes.len()))
}

fn garbled(column: &str, what: &dyn fmt::Display) -> sqlx::Error {
    sqlx::Error::Decode(format!("column {column}: {what}").into())
}
