//! The JSON Schema of `gateway.toml`, for editors and for `gateward schema`.

use serde_json::{Map, Value};

use crate::config::Config;
use crate::config::decode::Decode;

/// JSON Schema (2020-12) of the whole file, made from the same declarations as the decoder. It knows types, not the
/// rules between values.
pub fn schema() -> Value {
    let mut out = Map::new();
    out.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    out.insert("title".to_owned(), "gateway.toml, the configuration of gateward".into());
    if let Value::Object(members) = Config::schema() {
        out.extend(members);
    }
    Value::Object(out)
}
