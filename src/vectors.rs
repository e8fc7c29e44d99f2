//! Shared test vectors. Where they are missing the test says so, and fails in CI.

use std::path::PathBuf;

use serde_json::Value;

/// The vectors of a file, e.g. `own/paths.json`; `None` where they are not installed.
#[expect(clippy::disallowed_methods, reason = "a test is told by its environment where the vectors are")]
pub fn vectors(file: &str) -> Option<Value> {
    let folder = std::env::var_os("GATEWARD_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let path = folder.join(file);
    match std::fs::read(&path) {
        Ok(text) => Some(serde_json::from_slice(&text).unwrap()),
        Err(error) => {
            let message = format!("no vectors at {}: {error}; set GATEWARD_VECTORS to their folder", path.display());
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
            println!("{message}");
            None
        }
    }
}
