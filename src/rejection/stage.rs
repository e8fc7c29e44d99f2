//! Where on its path a request ended.

/// The stages of a request's path, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Listener,
    Route,
    Admit,
    Credential,
    Authenticate,
    Authorize,
    Limit,
    Issuer,
    Forward,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Route => "route",
            Self::Admit => "admit",
            Self::Credential => "credential",
            Self::Authenticate => "authenticate",
            Self::Authorize => "authorize",
            Self::Limit => "limit",
            Self::Issuer => "issuer",
            Self::Forward => "forward",
        }
    }
}
