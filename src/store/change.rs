//! What may be written, and how a write can fail. Types only; `execute.rs` turns them into SQL.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::identity::{Account, AccountId, ApiKey, Digest, KeyId, Secret, SessionId, Status};
use crate::rejection::Failure;

/// One write. It is done as a whole or not at all, together with its audit event.
#[derive(Clone, Debug)]
pub enum Change {
    /// `password` is a PHC string; `None` makes an account that no password opens.
    AddAccount {
        account: Account,
        password: Option<Secret>,
    },
    /// All sessions of the account end: `sessions_valid_from` is raised beyond each of them, and beyond what it was.
    SetPassword {
        realm: Arc<str>,
        account: AccountId,
        password: Secret,
        sessions_valid_from: Timestamp,
    },
    /// The same password under newer parameters. Done only while the stored hash still is `replaces`: a login that
    /// read the old hash must not undo a password change that came in between. If it is not, nothing happens.
    Rehash {
        realm: Arc<str>,
        account: AccountId,
        password: Secret,
        replaces: Secret,
    },
    /// When the status becomes `Disabled`, `sessions_valid_from` is raised as for a new password; it is never lowered.
    SetStatus {
        realm: Arc<str>,
        account: AccountId,
        status: Status,
        sessions_valid_from: Timestamp,
    },
    OpenSession(Session),
    /// Ending an ended session is done at once; the first moment stays.
    EndSession {
        realm: Arc<str>,
        session: SessionId,
        at: Timestamp,
    },
    AddKey(ApiKey),
    /// Keys of one realm, all of them or none.
    AddKeys(Arc<[ApiKey]>),
    /// Revoking a revoked key is done at once; the first moment stays.
    RevokeKey {
        realm: Arc<str>,
        key: KeyId,
        at: Timestamp,
    },
    /// Writes the audit event and nothing else.
    AuditOnly,
}

/// A login session. It lives until `expires_at`, `ended_at`, or the account's `sessions_valid_from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub realm: Arc<str>,
    pub api: Arc<str>,
    pub account: AccountId,
    /// Of the refresh token.
    pub refresh: Digest,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// Why a write was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// Nothing was written, the audit event neither.
    #[error("there already is one: {what}")]
    Conflict { what: &'static str },
    /// The same, of a change with many records: those that there are already, by their positions in it.
    #[error("there already are {} of these: {what}", .positions.len())]
    Conflicts { what: &'static str, positions: Vec<usize> },
    /// Nothing was written, the audit event neither.
    #[error("there is no such {what}")]
    Unknown { what: &'static str },
    /// The store did not acknowledge the write. In the rare case that the disk failed while it committed, the write may
    /// yet be found done.
    #[error(transparent)]
    Unavailable(Failure),
}

/// Which record a change touched, as the table `changes` tells other processes; with an empty id, which no record has, so
/// many that all are to be read again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    pub kind: Kind,
    pub realm: Arc<str>,
    pub id: Arc<str>,
}

/// Kinds of records that the directory shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Account,
    Key,
    Session,
}

impl Change {
    /// How many records a change of unusual size has.
    pub(super) fn bulk(&self) -> u32 {
        if let Self::AddKeys(keys) = self { u32::try_from(keys.len()).unwrap_or(u32::MAX) } else { 0 }
    }

    /// The record that the directory must show anew. `None` where the directory shows nothing of the change: an open
    /// session, a hash, an audit event.
    pub(super) fn record(&self) -> Option<Record> {
        let record = |kind, realm: &Arc<str>, id: &Arc<str>| Some(Record { kind, realm: realm.clone(), id: id.clone() });
        match self {
            Self::AddAccount { account, .. } => record(Kind::Account, &account.realm, &account.id.0),
            Self::SetPassword { realm, account, .. } | Self::SetStatus { realm, account, .. } => {
                record(Kind::Account, realm, &account.0)
            }
            Self::EndSession { realm, session, .. } => record(Kind::Session, realm, &session.0),
            Self::AddKey(key) => record(Kind::Key, &key.realm, &key.id.0),
            Self::AddKeys(keys) => keys.first().map(|key| Record::all(Kind::Key, key.realm.clone())),
            Self::RevokeKey { realm, key, .. } => record(Kind::Key, realm, &key.0),
            // Whoever logs in is to be known at once, also to a process that has not heard of the account yet.
            Self::OpenSession(session) => record(Kind::Account, &session.realm, &session.account.0),
            Self::Rehash { .. } | Self::AuditOnly => None,
        }
    }
}

impl Record {
    fn all(kind: Kind, realm: Arc<str>) -> Self {
        Self { kind, realm, id: "".into() }
    }

    pub(super) fn stands_for_all(&self) -> bool {
        self.id.is_empty()
    }
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Key => "key",
            Self::Session => "session",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Account, Self::Key, Self::Session].into_iter().find(|kind| kind.as_str() == text)
    }
}
