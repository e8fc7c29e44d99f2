//! The contracts that the binary brings along: every file of `deploy/contracts/`, listed by `build.rs`.

include!(concat!(env!("OUT_DIR"), "/contracts.rs"));

/// The text of a built-in contract.
pub fn text(name: &str) -> Option<&'static str> {
    CONTRACTS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

pub fn names() -> impl Iterator<Item = &'static str> {
    CONTRACTS.iter().map(|(name, _)| *name)
}
