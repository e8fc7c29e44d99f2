//! The SQL of every write. Runs inside the writer's transaction; a refusal leaves the transaction usable.
//!
//! The text is portable: `$1`, `RETURNING`, `ON CONFLICT`, no functions of one database.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::error::DatabaseError;

use crate::clock::Timestamp;
use crate::identity::{Account, ApiKey, Membership, Secret, Status, canonical_login};
use crate::observe::AuditEvent;
use crate::rejection::Failure;
use crate::store::change::{Change, Record, Session, WriteError};
use crate::store::follow::Seen;
use crate::store::sql::{Connection, Query, parameters, query};

/// Why a statement did not do its work.
#[derive(Debug)]
pub(super) enum Fault {
    /// This change may not be made; others in the same transaction may.
    Refused(WriteError),
    /// The database is in trouble: the transaction is lost.
    Broken(sqlx::Error),
}

/// A moment from which an account's sessions count, so late that none of those it has does: `$4`, but later than what
/// held before, and than every session that it has. Whoever makes the change read its clock before it hashed a password,
/// and a clock may be set back; neither may let a session through that was opened before this statement.
macro_rules! raised {
    () => {
        "(SELECT max(moment) FROM (SELECT $4 AS moment UNION ALL SELECT sessions_valid_from + 1 UNION ALL
          SELECT max(created_at) + 1 FROM sessions WHERE sessions.realm = $1 AND sessions.account = $2) AS moments)"
    };
}

/// Does one change.
pub(super) async fn change(connection: &mut Connection, change: &Change) -> Result<(), Fault> {
    match change {
        Change::AddAccount { account, password } => add_account(connection, account, password.as_ref()).await,
        Change::SetPassword { realm, account, password, sessions_valid_from } => {
            let update = query(concat!(
                "UPDATE accounts SET password = $3, sessions_valid_from = ",
                raised!(),
                " WHERE realm = $1 AND id = $2"
            ));
            let update = update.bind(&**realm).bind(account.as_str()).bind(password.expose());
            touch_one(connection, update.bind(millis(*sessions_valid_from)), "account").await
        }
        Change::Rehash { realm, account, password, replaces } => {
            let update = query("UPDATE accounts SET password = $3 WHERE realm = $1 AND id = $2 AND password = $4");
            let update = update.bind(&**realm).bind(account.as_str()).bind(password.expose()).bind(replaces.expose());
            update.execute(connection).await?;
            Ok(())
        }
        Change::SetStatus { realm, account, status, sessions_valid_from } => {
            let update = match status {
                Status::Disabled => query(concat!(
                    "UPDATE accounts SET status = $3, sessions_valid_from = ",
                    raised!(),
                    " WHERE realm = $1 AND id = $2"
                )),
                Status::Active => query("UPDATE accounts SET status = $3 WHERE realm = $1 AND id = $2"),
            };
            let update = update.bind(&**realm).bind(account.as_str()).bind(status.as_str());
            let update = match status {
                Status::Disabled => update.bind(millis(*sessions_valid_from)),
                Status::Active => update,
            };
            touch_one(connection, update, "account").await
        }
        Change::OpenSession(session) => open_session(connection, session).await,
        Change::EndSession { realm, session, at } => {
            let update = query(
                "UPDATE sessions SET ended_at = CASE WHEN ended_at IS NULL THEN $3 ELSE ended_at END
                 WHERE realm = $1 AND id = $2",
            );
            touch_one(connection, update.bind(&**realm).bind(session.as_str()).bind(millis(*at)), "session").await
        }
        Change::AddKey(key) => match add_keys(connection, std::slice::from_ref(key)).await?.as_slice() {
            [] => Ok(()),
            [..] => conflict(SAME_KEY),
        },
        Change::AddKeys(keys) => match add_keys(connection, keys).await? {
            positions if positions.is_empty() => Ok(()),
            positions => Err(Fault::Refused(WriteError::Conflicts { what: SAME_KEY, positions })),
        },
        Change::RevokeKey { realm, key, at } => {
            let update = query(
                "UPDATE keys SET revoked_at = CASE WHEN revoked_at IS NULL THEN $3 ELSE revoked_at END
                 WHERE realm = $1 AND id = $2",
            );
            touch_one(connection, update.bind(&**realm).bind(key.as_str()).bind(millis(*at)), "API key").await
        }
        Change::AuditOnly => Ok(()),
    }
}

/// Tells other processes to read the record again.
pub(super) async fn announce(connection: &mut Connection, record: &Record, now: Timestamp) -> Result<Seen, Fault> {
    let insert = query(
        "INSERT INTO changes (seq, kind, realm, id, at)
         VALUES (coalesce((SELECT max(seq) FROM changes), 0) + 1, $1, $2, $3, $4) RETURNING seq",
    );
    let insert = insert.bind(record.kind.as_str()).bind(&*record.realm).bind(&*record.id).bind(millis(now));
    Ok(Seen { seq: insert.one(connection).await?.get("seq")?, at: millis(now) })
}

pub(super) async fn audit(connection: &mut Connection, event: &AuditEvent) -> Result<(), Fault> {
    let insert = query(
        "INSERT INTO audit (at, realm, action, done, actor, object, client_ip, request_id, reason)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    );
    let insert = insert.bind(millis(event.at)).bind(&event.realm).bind(event.action.as_str()).bind(i64::from(event.done));
    let insert = insert.bind(&event.actor).bind(&event.object).bind(event.client_ip.map(|address| address.to_string()));
    insert.bind(event.request_id.as_deref()).bind(event.reason).execute(connection).await?;
    Ok(())
}

/// Keeps the first signing key that arrives, whoever made it.
pub(super) async fn signing_key(
    connection: &mut Connection,
    (api, algorithm): (&str, &str),
    sealed: &[u8],
    now: Timestamp,
) -> Result<(), Fault> {
    let insert =
        query("INSERT INTO signing_keys (api, algorithm, sealed, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING");
    insert.bind(api).bind(algorithm).bind(sealed).bind(millis(now)).execute(connection).await?;
    Ok(())
}

/// Notes last uses. By the ids alone: ids are random, and a wrong note in another realm would do no harm.
pub(super) async fn touch_keys(connection: &mut Connection, touches: &[(Arc<str>, Timestamp)]) -> Result<(), Fault> {
    for part in touches.chunks(TOUCHES_AT_ONCE) {
        let rows = parameters(part.len(), 2);
        let update = query(format!(
            "UPDATE keys SET last_used_at = used.column2 FROM (VALUES {rows}) AS used
             WHERE keys.id = used.column1 AND (last_used_at IS NULL OR last_used_at < used.column2)"
        ));
        part.iter().fold(update, |update, (id, at)| update.bind(&**id).bind(millis(*at))).execute(connection).await?;
    }
    Ok(())
}

/// Deletes what nobody asks for any more: announcements that every follower has seen or will notice to have missed,
/// and sessions long past their expiry. The newest announcement always stays: by it a follower sees that it is behind.
pub(super) async fn prune(connection: &mut Connection, now: Timestamp) -> Result<(), Fault> {
    const HOUR_MS: u64 = 3_600_000;
    const WEEK_MS: u64 = 7 * 24 * HOUR_MS;
    const CHANGES_KEPT: i64 = 100_000;
    let changes = query(
        "DELETE FROM changes WHERE seq < (SELECT max(seq) FROM changes)
         AND (at < $1 OR seq <= (SELECT max(seq) FROM changes) - $2)",
    );
    let an_hour_ago = Timestamp(now.0.saturating_sub(HOUR_MS));
    changes.bind(millis(an_hour_ago)).bind(CHANGES_KEPT).execute(connection).await?;
    let sessions = query(
        "DELETE FROM sessions WHERE (realm, id) IN
         (SELECT realm, id FROM sessions WHERE expires_at < $1 ORDER BY expires_at LIMIT 5000)",
    );
    let a_week_ago = Timestamp(now.0.saturating_sub(WEEK_MS));
    sessions.bind(millis(a_week_ago)).execute(connection).await?;
    Ok(())
}

async fn add_account(connection: &mut Connection, account: &Account, password: Option<&Secret>) -> Result<(), Fault> {
    let canonical = canonical_login(&account.username);
    let insert = query(
        "INSERT INTO accounts (realm, id, username, username_canonical, email, email_canonical, display_name, status,
         roles, tenants, attributes, password, created_at, sessions_valid_from)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING",
    );
    let membership = |one: &Membership| json!({ "tenant": &*one.tenant, "role": &*one.role });
    let insert = insert.bind(&*account.realm).bind(account.id.as_str()).bind(&account.username).bind(&canonical);
    let insert = insert.bind(account.email.as_deref()).bind(account.email.as_deref().map(canonical_login));
    let insert = insert.bind(account.display_name.as_deref()).bind(account.status.as_str()).bind(list(&account.roles));
    let insert = insert.bind(account.tenants.iter().map(membership).collect::<Value>().to_string());
    let insert = insert.bind(json!(account.attributes).to_string()).bind(password.map(Secret::expose));
    let insert = insert.bind(millis(account.created_at)).bind(millis(account.sessions_valid_from));
    if insert.execute(connection).await? == 1 {
        return Ok(());
    }
    let same_name = query("SELECT count(*) AS found FROM accounts WHERE realm = $1 AND username_canonical = $2");
    let same_name: i64 = same_name.bind(&*account.realm).bind(&canonical).one(connection).await?.get("found")?;
    conflict(if same_name > 0 { "account with this login name" } else { "account with this id" })
}

async fn open_session(connection: &mut Connection, session: &Session) -> Result<(), Fault> {
    let insert = query(
        "INSERT INTO sessions (realm, id, api, account, refresh, created_at, expires_at, ended_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
    );
    let insert = insert.bind(&*session.realm).bind(session.id.as_str()).bind(&*session.api).bind(session.account.as_str());
    let insert = insert.bind(session.refresh.as_bytes().as_slice()).bind(millis(session.created_at));
    let insert = insert.bind(millis(session.expires_at)).bind(session.ended_at.map(millis));
    match insert.execute(connection).await.map_err(|error| owner_missing(error.into()))? {
        0 => conflict("session with this id or refresh token"),
        _ => Ok(()),
    }
}

/// Adds keys, many with one statement: 100,000 of them then take a second of the writers' lock and not ten. Answers the positions of those that were not added, because their id or secret is another key's.
async fn add_keys(connection: &mut Connection, keys: &[ApiKey]) -> Result<Vec<usize>, Fault> {
    let mut refused = Vec::new();
    for (part, first) in keys.chunks(KEYS_AT_ONCE).zip((0..).step_by(KEYS_AT_ONCE)) {
        let rows = parameters(part.len(), 12);
        let insert = query(format!(
            "INSERT INTO keys (realm, id, owner, name, scopes, tenants, allowed_ips, environment, digest, created_at,
             expires_at, revoked_at) VALUES {rows} ON CONFLICT DO NOTHING RETURNING id"
        ));
        let insert = part.iter().fold(insert, |insert, key| {
            let networks = key.allowed_ips.iter().map(|network| json!(network.to_string())).collect::<Value>();
            let insert = insert.bind(&*key.realm).bind(key.id.as_str()).bind(key.owner.as_str()).bind(&key.name);
            let insert = insert.bind(key.scopes.to_spaced()).bind(list(&key.tenants)).bind(networks.to_string());
            let insert = insert.bind(&*key.environment).bind(key.digest.as_bytes().as_slice()).bind(millis(key.created_at));
            insert.bind(key.expires_at.map(millis)).bind(key.revoked_at.map(millis))
        });
        let added = insert.all(connection).await.map_err(|error| owner_missing(error.into()))?;
        let mut added: HashSet<String> = added.iter().map(|row| row.get("id")).collect::<Result<_, _>>()?;
        // Taken out: of two keys with one id only the first was added.
        let missing = part.iter().zip(first..).filter(|(key, _)| !added.remove(key.id.as_str()));
        refused.extend(missing.map(|(_, position)| position));
    }
    Ok(refused)
}

/// Runs an update that must find its row.
async fn touch_one(connection: &mut Connection, update: Query<'_>, what: &'static str) -> Result<(), Fault> {
    match update.execute(connection).await? {
        0 => Err(Fault::Refused(WriteError::Unknown { what })),
        _ => Ok(()),
    }
}

fn conflict(what: &'static str) -> Result<(), Fault> {
    Err(Fault::Refused(WriteError::Conflict { what }))
}

/// The only foreign key of sessions and keys is their account.
fn owner_missing(fault: Fault) -> Fault {
    match fault {
        Fault::Broken(error) if error.as_database_error().is_some_and(DatabaseError::is_foreign_key_violation) => {
            Fault::Refused(WriteError::Unknown { what: "account" })
        }
        other @ (Fault::Broken(_) | Fault::Refused(_)) => other,
    }
}

fn list(names: &[Arc<str>]) -> String {
    names.iter().map(|name| json!(&**name)).collect::<Value>().to_string()
}

/// How many keys one statement adds. Each is twelve parameters, and SQLite finds a parameter by going through all of them.
const KEYS_AT_ONCE: usize = 16;
const TOUCHES_AT_ONCE: usize = 128;
const SAME_KEY: &str = "key with this id or secret";

/// SQL integers are signed; no date of this calendar is beyond them.
pub(super) fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

impl From<sqlx::Error> for Fault {
    /// A value that a table or the engine refuses is a defect of ours and must not take the other changes with it.
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(database) if database.is_check_violation() || database.is_unique_violation() || is_bad_value(database) => {
                Self::Refused(WriteError::Unavailable(Failure::Internal { detail: error.to_string() }))
            }
            Some(_) | None => Self::Broken(error),
        }
    }
}

/// Postgres' classes 22, data exception, and 54, program limit exceeded: what is no JSON, and a name too long for its
/// index. SQLite has shorter codes.
fn is_bad_value(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| code.len() == 5 && (code.starts_with("22") || code.starts_with("54")))
}
