//! WHY NOT. Every reason for which a request is not served, once.
//!
//! A reason has three readers. The operator gets `code` (stable, in logs and metrics) and `Display` (the detail, never
//! secret). The client gets what the API's contract writes for the [`Class`]; only [`Denial::public`] may add words of
//! its own to that. The contract may list a single code apart from its class.

mod class;
mod denial;
mod failure;
mod stage;
mod table;

pub use class::Class;
pub use denial::Denial;
pub use failure::Failure;
pub use stage::Stage;

/// The end of a request that is not served.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Rejection {
    /// The caller's doing: a 4xx.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// Ours or an upstream's: a 5xx.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl Rejection {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied(denial) => denial.code(),
            Self::Failed(failure) => failure.code(),
        }
    }

    pub fn class(&self) -> Class {
        match self {
            Self::Denied(denial) => denial.class(),
            Self::Failed(failure) => failure.class(),
        }
    }

    pub fn stage(&self) -> Stage {
        match self {
            Self::Denied(denial) => denial.stage(),
            Self::Failed(failure) => failure.stage(),
        }
    }

    /// Every code that a rejection can have, for metrics and for contract files.
    pub fn codes() -> impl Iterator<Item = &'static str> {
        Denial::CODES.iter().chain(Failure::CODES).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_explains_every_reason() {
        let readme = include_str!("../../README.md");
        let missing: Vec<&str> = Rejection::codes().filter(|code| !readme.contains(&format!("`{code}`"))).collect();
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn a_code_belongs_to_one_reason() {
        let mut codes: Vec<&str> = Rejection::codes().collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
    }
}
