//! Why a call to the counters has no answer, in words that hold no secret.

use std::error::Error as _;

use redis::{ErrorKind, RedisError};

/// Why there is no answer. `Display` is for operators; it holds neither credentials nor what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Nothing was sent.
    #[error("they are away")]
    Away,
    /// Whether the script ran is not known.
    #[error("there was no answer in time")]
    TimedOut,
    /// Whether the script ran is not known.
    #[error("{detail}")]
    Lost { detail: String },
    /// The script did not run, or not to its end.
    #[error("the server refuses with {code}")]
    Refused { code: String },
    #[error("the answer is not what the script returns")]
    Malformed,
}

impl Unavailable {
    /// Whether the server has said of itself that it takes no writes from us, whatever they are.
    pub fn is_of_all_calls(&self) -> bool {
        matches!(self, Self::Refused { code } if ALL_CALLS.contains(&code.as_str()))
    }
}

impl From<RedisError> for Unavailable {
    /// Takes no text that the server wrote, beside its code: an old server repeats the command that it does not know, which
    /// may be the one with the password in it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the crate's kinds are an open set: the others are said in its words")]
    fn from(error: RedisError) -> Self {
        let lost = |detail: &str| Self::Lost { detail: detail.to_owned() };
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => Self::Refused { code: code_of(&error) },
            ErrorKind::AuthenticationFailed => Self::Refused { code: error.code().map_or("AUTH".to_owned(), plain) },
            ErrorKind::RESP3NotSupported => lost("the server is older than Redis 7"),
            ErrorKind::Parse => lost("what answers does not speak Redis' protocol"),
            _ => lost(&error.source().map_or_else(|| error.category().to_owned(), ToString::to_string)),
        }
    }
}

fn code_of(error: &RedisError) -> String {
    plain(error.code().unwrap_or("ERR"))
}

/// A code is a word of capitals; anything else is cut out of what the server calls one.
fn plain(code: &str) -> String {
    code.chars().filter(char::is_ascii_uppercase).take(32).collect()
}

/// A replica, a full memory, a start that is not over, a disk that fails, a cluster without some of its slots, a script that
/// does not end, a master without its replicas, a user who may not.
const ALL_CALLS: [&str; 11] =
    ["READONLY", "OOM", "LOADING", "MISCONF", "CLUSTERDOWN", "BUSY", "MASTERDOWN", "NOREPLICAS", "NOAUTH", "NOPERM", "WRONGPASS"];
