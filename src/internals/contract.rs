//! Contract files: any text is compiled or told what is wrong with it, each time the same, and what compiles answers
//! every refusal with JSON.

use std::path::Path;

use serde_json::Value;

use crate::config;
use crate::config::report::Report;
use crate::contract::{Api, Facts, compile_text};
use crate::internals::places_are_real;
use crate::rejection::{Denial, Failure, Rejection};

/// # Panics
/// When the compiler contradicts itself, or a compiled contract answers with something that is no JSON.
pub fn contract(text: &str) {
    // A file that the text names is no part of the text.
    if text.contains("${file:") {
        return;
    }
    let (first, told) = compiled(text);
    let (second, told_again) = compiled(text);
    assert_eq!((first.is_some(), told.diagnostics()), (second.is_some(), told_again.diagnostics()));
    assert_eq!(first.is_some(), told.is_clean(), "{told}");
    places_are_real(&told, text);
    let Some(api) = first else { return };
    let refusals: [Rejection; 3] = [
        Denial::BodyTooLarge { limit: 1 }.into(),
        Denial::PathAmbiguous { what: "\"}" }.into(),
        Failure::Internal { detail: "\"}".to_owned() }.into(),
    ];
    for refusal in refusals {
        let answer = api.errors.render(&refusal, None, None, "\"id\"", &Facts::of(&api.facts));
        assert!(serde_json::from_slice::<Value>(&answer.body).is_ok(), "{:?}", String::from_utf8_lossy(&answer.body));
    }
}

fn compiled(text: &str) -> (Option<Api>, Report) {
    const CONFIG: &str = "[[api]]\nupstream = \"http://127.0.0.1:9000\"\ncontract = \"own.toml\"\n";
    let mut other = Report::default();
    let loaded = config::parse(CONFIG, Path::new("gateway.toml"), &|_| None, &mut other);
    let mut report = Report::default();
    let api = loaded.as_ref().and_then(|loaded| loaded.config.apis.first()).and_then(|api| compile_text(api, text, &mut report));
    (api, report)
}
