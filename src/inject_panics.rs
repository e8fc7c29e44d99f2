//! Panics where a test asks for one: what a defect does to its request, and to nobody else's, is then seen from outside.
//! Without the feature `inject-panics`, which no release build can have, a point is nothing at all.

#[cfg(all(feature = "inject-panics", not(debug_assertions)))]
compile_error!("the feature inject-panics lets callers crash requests: it is for tests, in debug builds only");

/// A place where a request may ask for a panic, by its name.
macro_rules! panic_point {
    ($name:expr) => {
        #[cfg(feature = "inject-panics")]
        crate::inject_panics::here($name);
    };
}

#[cfg(feature = "inject-panics")]
pub use points::{ask, here};

#[cfg(feature = "inject-panics")]
mod points {
    use std::cell::Cell;

    use http::HeaderMap;

    const POINTS: [&str; 6] = ["authenticate", "limiter", "inject", "body", "answer", "respond"];

    thread_local! {
        static ASKED: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Notes which point a request asks for in `X-Inject-Panic`. Tests ask one at a time: the note is the worker's.
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
}
