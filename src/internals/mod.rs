//! What must hold for any input from outside, as functions that panic when it does not. Fuzz targets reach in through
//! these (feature `internals`), property tests call the same ones. And what benches measure. No part of the program that is
//! shipped.

mod config;
mod contract;
mod forwarded;
mod guard;
mod path;
mod pieces;
mod template;
mod token;

pub use config::config;
pub use contract::contract;
pub use forwarded::forwarded;
pub use guard::guard;
pub use path::path;
pub use pieces::{Piece, pieces};
pub use template::template;
pub use token::token;

use crate::config::report::Report;

/// Every mistake has a place in its text, and all of them can be printed.
fn places_are_real(report: &Report, text: &str) {
    for found in report.diagnostics() {
        assert!(!found.file.is_empty() && !found.message.is_empty(), "{found:?}");
        let lines = text.matches('\n').count() + 1;
        assert!((1..=lines).contains(&found.line), "{found:?} of {lines} lines");
        let line = text.split('\n').nth(found.line - 1).unwrap_or_default();
        assert!((1..=line.chars().count() + 1).contains(&found.column), "{found:?} in {line:?}");
    }
    assert_eq!(report.is_clean(), report.diagnostics().is_empty());
    assert!(!report.to_string().is_empty());
}
