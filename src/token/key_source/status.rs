//! What operators see of an issuer's keys.

use serde::Serialize;

/// How it stands with an issuer's keys, for operators. Holds no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyStatus {
    pub issuer: String,
    /// Without its query. `None` where nothing is fetched, and until discovery has found it.
    pub url: Option<String>,
    /// Whether tokens can be verified.
    pub usable: bool,
    pub keys: Vec<KeyLine>,
    /// Keys of the set that are not used, each with the reason.
    pub skipped: Vec<String>,
    pub generation: Option<u64>,
    /// RFC 3339, as are the others.
    pub fetched_at: Option<String>,
    pub usable_until: Option<String>,
    pub next_refresh: Option<String>,
    /// Of the newest fetch; `None` when it brought keys.
    pub last_error: Option<String>,
}

/// One key in a [`KeyStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyLine {
    /// Empty where it has none.
    pub kid: String,
    pub algorithms: Vec<&'static str>,
}
