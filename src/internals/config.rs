//! `gateway.toml`: any text is a config or is told what is wrong with it, each time the same.

use std::path::Path;

use crate::config::report::Report;
use crate::config::{Loaded, parse};
use crate::internals::places_are_real;

/// # Panics
/// When the same text is read in two ways, or a mistake has no place.
pub fn config(text: &str) {
    // A file that the text names is no part of the text.
    if text.contains("${file:") {
        return;
    }
    let (first, told) = read(text);
    let (second, told_again) = read(text);
    let shown = |loaded: &Option<Loaded>| loaded.as_ref().map(|loaded| format!("{:?}", loaded.config));
    assert_eq!(shown(&first), shown(&second));
    assert_eq!(told.diagnostics(), told_again.diagnostics());
    assert!(first.is_some() || !told.is_clean(), "nothing was read and nothing is wrong");
    // The byte order mark is no character of the first line.
    places_are_real(&told, text.strip_prefix('\u{feff}').unwrap_or(text));
}

fn read(text: &str) -> (Option<Loaded>, Report) {
    let mut report = Report::default();
    let environment = |name: &str| (name != "NONE").then(|| name.to_owned());
    let loaded = parse(text, Path::new("/nowhere/gateway.toml"), &environment, &mut report);
    (loaded, report)
}
