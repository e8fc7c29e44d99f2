//! Panics where a test asks for one (feature `inject-panics`, which no release build takes): what a defect in a stage
//! does to its request, and to nobody else's, is then seen from outside.

use std::cell::Cell;

use http::HeaderMap;

#[cfg(not(debug_assertions))]
compile_error!("the feature inject-panics lets callers crash requests: it is for tests in debug builds only");

/// The places that can be asked for, by name.
const POINTS: [&str; 6] = ["authenticate", "limiter", "inject", "body", "answer", "respond"];

thread_local! {
    static ASKED: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Notes which point a request asks for in `X-Inject-Panic`. Tests ask one at a time: what is noted holds for the worker.
pub fn ask(headers: &HeaderMap) {
    let name = headers.get("x-inject-panic").and_then(|value| value.to_str().ok());
    if let Some(point) = name.and_then(|name| POINTS.into_iter().find(|point| *point == name)) {
        ASKED.set(Some(point));
    }
}

/// Panics, once, when this point was asked for.
#[expect(clippy::panic, reason = "it is what the feature is for")]
pub fn here(point: &str) {
    if ASKED.get() == Some(point) {
        ASKED.set(None);
        panic!("a test asked for it at {point}");
    }
}
