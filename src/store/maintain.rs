//! What an operator does to the database as such: bring its tables up to date, look whether it is sound, copy it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::clock;
use crate::store::database::{Database, NEWEST, version};
use crate::store::seal::{Missing, Seal, sync_folder};
use crate::store::sql::{Begin, Connection, Row, query};
use crate::store::{OpenError, Pace, StoreOptions, read, sealed_name};

/// From which version to which the tables were brought; 0 is none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    pub from: i64,
    pub to: i64,
}

/// How a store is.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The file, or the database without its password.
    pub place: String,
    /// Of the tables, and the one that this program wants.
    pub version: i64,
    pub wanted: i64,
    /// Rows of each table.
    pub rows: Vec<(&'static str, i64)>,
    /// How far the clock of the database's machine is ahead of this one's, in milliseconds; 0 for a file.
    pub clock_ahead_ms: i64,
    /// What is wrong, in words. Empty: all is well.
    pub problems: Vec<String>,
}

/// Makes the tables, or brings them up to date.
pub async fn migrate(options: &StoreOptions) -> Result<Migrated, OpenError> {
    let database = Database::new(&options.url, Pace::USUAL);
    let (connection, from) = database.prepare().await?;
    connection.close().await.map_err(|error| database.error(error.to_string()))?;
    Ok(Migrated { from, to: NEWEST })
}

/// Looks whether the store is sound; changes nothing.
///
/// # Errors
/// When it cannot be looked at.
pub async fn check(options: &StoreOptions) -> Result<Condition, OpenError> {
    let database = Database::new(&options.url, Pace::USUAL);
    let failed = |error: sqlx::Error| database.error(error.to_string());
    let mut connection = database.reader().await.map_err(failed)?;
    connection.begin(Begin::Snapshot).await.map_err(failed)?;
    let place = options.url.to_string();
    let version = version(&mut connection).await.map_err(failed)?;
    let mut condition = Condition { place, version, wanted: NEWEST, rows: Vec::new(), clock_ahead_ms: 0, problems: Vec::new() };
    match version {
        NEWEST => {
            look(&mut connection, &mut condition).await.map_err(failed)?;
            condition.problems.extend(try_seal(options, &mut connection).await.map_err(failed)?);
        }
        0 => condition.problems.push("there are no tables yet; run `gateward store migrate`".to_owned()),
        older if older < NEWEST => {
            condition.problems.push("the tables are older than this program; run `gateward store migrate`".to_owned());
        }
        _ => condition.problems.push("the tables are of a newer gateward than this program".to_owned()),
    }
    connection.close().await.map_err(failed)?;
    Ok(condition)
}

/// Copies a SQLite store into a new file, as it is at one moment, while gateways use it. The file is its owner's alone and
/// on disk when this returns.
///
/// # Errors
/// Also when there is such a file already, and for Postgres, which has tools of its own.
pub async fn backup(options: &StoreOptions, file: &Path) -> Result<(), OpenError> {
    let database = Database::new(&options.url, Pace::USUAL);
    if let Database::Postgres(_) = database {
        return Err(database.error("pg_dump makes its backups".to_owned()));
    }
    let failed = |error: sqlx::Error| database.error(error.to_string());
    let refused = |error: std::io::Error| OpenError::Backup { path: file.to_owned(), what: error.to_string() };
    let mut connection = database.reader().await.map_err(failed)?;
    // SQLite fills an empty file that is there.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(refused)?;
    let copied = match copy(&mut connection, file).await {
        Ok(()) => File::open(file).and_then(|copy| copy.sync_all()).and_then(|()| sync_folder(file)).map_err(refused),
        Err(error) => Err(failed(error)),
    };
    if copied.is_err() {
        // A part of a copy is worse than none; the first error is the one to tell.
        let _ = std::fs::remove_file(file);
    }
    copied
}

async fn copy(connection: &mut Connection, file: &Path) -> Result<(), sqlx::Error> {
    query("PRAGMA query_only = OFF").execute(connection).await?;
    query("VACUUM INTO $1").bind(file.to_string_lossy().into_owned()).execute(connection).await?;
    Ok(())
}

async fn look(connection: &mut Connection, condition: &mut Condition) -> Result<(), sqlx::Error> {
    for (table, count) in [
        ("accounts", "SELECT count(*) AS found FROM accounts"),
        ("sessions", "SELECT count(*) AS found FROM sessions"),
        ("keys", "SELECT count(*) AS found FROM keys"),
        ("signing_keys", "SELECT count(*) AS found FROM signing_keys"),
        ("audit", "SELECT count(*) AS found FROM audit"),
    ] {
        condition.rows.push((table, query(count).one(connection).await?.get("found")?));
    }
    match connection {
        Connection::Sqlite(_) => {
            let verdicts = query("PRAGMA integrity_check").all(connection).await?;
            let told = verdicts.iter().map(|row| row.get("integrity_check")).collect::<Result<Vec<String>, _>>()?;
            condition.problems.extend(told.into_iter().filter(|verdict| verdict != "ok"));
            let orphans = query("PRAGMA foreign_key_check").all(connection).await?;
            let told = |row: &Row| row.get::<String>("table").map(|table| format!("a row of {table} has no account"));
            condition.problems.extend(orphans.iter().map(told).collect::<Result<Vec<_>, _>>()?);
        }
        Connection::Postgres(_) => {
            let asked_at = clock::now().wall;
            let clock = query("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now").one(connection).await?;
            // Half of the way there and back is the best guess of when it was read.
            let answered_at = clock::now().wall;
            let here = i64::try_from(asked_at.0.midpoint(answered_at.0)).unwrap_or(i64::MAX);
            condition.clock_ahead_ms = clock.get::<i64>("now")?.saturating_sub(here);
            if condition.clock_ahead_ms.unsigned_abs() > MOST_SKEW_MS {
                let ahead = condition.clock_ahead_ms;
                condition.problems.push(format!("the clock of the database's machine is {ahead} ms ahead of this one's"));
            }
        }
    }
    Ok(())
}

/// What is wrong with the encryption key, if there is anything that it should open.
async fn try_seal(options: &StoreOptions, connection: &mut Connection) -> Result<Vec<String>, sqlx::Error> {
    let sealed = read::signing_keys(connection).await?;
    if sealed.is_empty() {
        return Ok(Vec::new());
    }
    let seal = match Seal::load(&options.encryption_key_file, Missing::Refuse) {
        Ok(seal) => seal,
        Err(error) => return Ok(vec![error.to_string()]),
    };
    let opened = sealed.iter().map(|(api, algorithm, sealed)| seal.open(&sealed_name(api, algorithm), sealed));
    Ok(opened.filter_map(Result::err).map(|failure| failure.to_string()).collect())
}

/// Nothing compares the two clocks; a large difference means that one of the machines has a wrong one, and all tokens and
/// limits go by it.
const MOST_SKEW_MS: u64 = 2000;
