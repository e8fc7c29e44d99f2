//! One SQL text for both engines: connections, statements with values, and rows, whichever database it is.
//!
//! A connection that an error or the end of patience leaves within a transaction is dropped, never used again: the
//! database then takes the transaction back.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use sqlx::decode::Decode;
use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::query::Query as Bound;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, Type};
use tokio::time::timeout;

pub(super) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// What a transaction is begun for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// All reads see one moment.
    Snapshot,
    /// No other gateway writes until it ends.
    Write,
}

/// A statement and the values of `$1`, `$2`, …
pub(super) struct Query<'q> {
    text: Cow<'static, str>,
    values: Vec<Value<'q>>,
}

pub(super) enum Value<'q> {
    Integer(Option<i64>),
    Text(Option<Cow<'q, str>>),
    Bytes(&'q [u8]),
}

pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Connection {
    /// Also the question whether a connection that was kept is still good: a Postgres that does not even begin is not
    /// waited for.
    pub(super) async fn begin(&mut self, begin: Begin) -> Result<(), sqlx::Error> {
        match (&mut *self, begin) {
            (Self::Sqlite(_), Begin::Snapshot) => self.run("BEGIN").await,
            (Self::Sqlite(_), Begin::Write) => self.run("BEGIN IMMEDIATE").await,
            (Self::Postgres(connection), Begin::Snapshot) => {
                answered(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
            }
            (Self::Postgres(connection), Begin::Write) => {
                answered(connection, "BEGIN ISOLATION LEVEL READ COMMITTED").await?;
                take_turn(connection).await
            }
        }
    }

    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.run("COMMIT").await
    }

    pub(super) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => self.run("ROLLBACK").await,
            Self::Postgres(connection) => answered(connection, "ROLLBACK").await,
        }
    }

    /// Marks the place that [`Self::take_back`] returns to.
    pub(super) async fn mark(&mut self) -> Result<(), sqlx::Error> {
        self.run("SAVEPOINT task").await
    }

    pub(super) async fn keep(&mut self) -> Result<(), sqlx::Error> {
        self.run("RELEASE SAVEPOINT task").await
    }

    pub(super) async fn take_back(&mut self) -> Result<(), sqlx::Error> {
        self.run("ROLLBACK TO SAVEPOINT task; RELEASE SAVEPOINT task").await
    }

    pub(super) async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(connection) => connection.close().await,
            Self::Postgres(connection) => connection.close().await,
        }
    }

    async fn run(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(connection) => sqlx::raw_sql(text).execute(connection).await.map(drop),
            Self::Postgres(connection) => in_time(STATEMENT, sqlx::raw_sql(text).execute(connection)).await.map(drop),
        }
    }
}

async fn answered(connection: &mut PgConnection, text: &'static str) -> Result<(), sqlx::Error> {
    in_time(ANSWER, sqlx::raw_sql(text).execute(connection)).await.map(drop)
}

/// A server that has stopped, or is cut off, does not say so.
async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(io::Error::other(format!("no answer in {limit:?}")).into()))
}

/// Begins the turn of this writer among all gateways. Numbers of changes are then given in the order of the commits and
/// without gaps, which a sequence would not do.
pub(super) async fn take_turn(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let turn = sqlx::query_scalar("SELECT current_setting('transaction_read_only') FROM pg_advisory_xact_lock($1)");
    let read_only: String = turn.bind(WRITERS).fetch_one(connection).await?;
    match read_only.as_str() {
        "off" => Ok(()),
        _ => Err(io::Error::other("the server is read-only").into()),
    }
}

impl<'q> Query<'q> {
    pub(super) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Answers how many rows it changed.
    pub(super) async fn execute(self, connection: &mut Connection) -> Result<u64, sqlx::Error> {
        match connection {
            Connection::Sqlite(connection) => Ok(self.for_sqlite().execute(connection).await?.rows_affected()),
            Connection::Postgres(connection) => {
                Ok(in_time(STATEMENT, self.for_postgres().execute(connection)).await?.rows_affected())
            }
        }
    }

    pub(super) async fn all(self, connection: &mut Connection) -> Result<Vec<Row>, sqlx::Error> {
        match connection {
            Connection::Sqlite(connection) => {
                Ok(self.for_sqlite().fetch_all(connection).await?.into_iter().map(Row::Sqlite).collect())
            }
            Connection::Postgres(connection) => {
                Ok(in_time(STATEMENT, self.for_postgres().fetch_all(connection)).await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    pub(super) async fn optional(self, connection: &mut Connection) -> Result<Option<Row>, sqlx::Error> {
        match connection {
            Connection::Sqlite(connection) => Ok(self.for_sqlite().fetch_optional(connection).await?.map(Row::Sqlite)),
            Connection::Postgres(connection) => {
                Ok(in_time(STATEMENT, self.for_postgres().fetch_optional(connection)).await?.map(Row::Postgres))
            }
        }
    }

    pub(super) async fn one(self, connection: &mut Connection) -> Result<Row, sqlx::Error> {
        self.optional(connection).await?.ok_or(sqlx::Error::RowNotFound)
    }

    fn for_sqlite(self) -> Bound<'q, Sqlite, SqliteArguments> {
        self.values.into_iter().fold(sqlx::query(AssertSqlSafe(self.text)), |query, value| match value {
            Value::Integer(number) => query.bind(number),
            Value::Text(text) => query.bind(text),
            Value::Bytes(bytes) => query.bind(bytes),
        })
    }

    fn for_postgres(self) -> Bound<'q, Postgres, PgArguments> {
        self.values.into_iter().fold(sqlx::query(AssertSqlSafe(self.text)), |query, value| match value {
            Value::Integer(number) => query.bind(number),
            Value::Text(text) => query.bind(text.map(without_nul)),
            Value::Bytes(bytes) => query.bind(bytes),
        })
    }
}

/// A statement. The text is ours, with a `$1` for each value from outside.
pub(super) fn query<'q>(text: impl Into<Cow<'static, str>>) -> Query<'q> {
    Query { text: text.into(), values: Vec::new() }
}

/// `($1, $2), ($3, $4)`: the parameters of so many rows.
pub(super) fn parameters(rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(rows * columns * 6);
    for parameter in 1..=rows * columns {
        let before = match (parameter, parameter % columns) {
            (1, _) => "(",
            (_, 1) => "), (",
            _ => ", ",
        };
        // Writing to a text does not fail.
        let _ = write!(text, "{before}${parameter}");
    }
    text.push(')');
    text
}

impl Row {
    pub(super) fn get<'r, T>(&'r self, column: &str) -> Result<T, sqlx::Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

/// Postgres has no text with a zero character, which a name from outside may hold: such a name is another one there, and
/// never breaks what is written beside it.
fn without_nul(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(Some(number))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(number: Option<i64>) -> Self {
        Self::Integer(number)
    }
}

impl<'q> From<&'q str> for Value<'q> {
    fn from(text: &'q str) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl<'q> From<&'q String> for Value<'q> {
    fn from(text: &'q String) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl<'q> From<Option<&'q str>> for Value<'q> {
    fn from(text: Option<&'q str>) -> Self {
        Self::Text(text.map(Cow::from))
    }
}

impl From<Option<String>> for Value<'_> {
    fn from(text: Option<String>) -> Self {
        Self::Text(text.map(Cow::from))
    }
}

impl<'q> From<&'q [u8]> for Value<'q> {
    fn from(bytes: &'q [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

/// For a statement that needs no work.
const ANSWER: Duration = Duration::from_secs(2);
/// For any other. The server gives up by itself as soon; this is for one that cannot.
const STATEMENT: Duration = Duration::from_secs(10);

/// The advisory lock of whoever writes: "gateward".
pub(super) const WRITERS: i64 = i64::from_be_bytes(*b"gateward");
