//! JSON that can be read in one way only. `serde_json` alone keeps the last of two members of one name, so that two
//! readers of one token could see two subjects (RFC 8725, section 2.4; RFC 7519, section 4).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads one object and nothing after it. `None` when the text is no JSON object, when an object at any level has two
/// members of one name (compared after unescaping), or when it nests more than 32 deep.
pub fn object(text: &[u8]) -> Option<Map<String, Value>> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = reader.deserialize_any(Strict { levels: MAX_DEPTH }).ok()?;
    reader.end().ok()?;
    match value {
        Value::Object(members) => Some(members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
    }
}

/// Builds a value and refuses what [`object`] says.
#[derive(Clone, Copy)]
struct Strict {
    /// How many levels of arrays and objects may still open.
    levels: usize,
}

impl Strict {
    fn below<E: Error>(self) -> Result<Self, E> {
        let levels = self.levels.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Self { levels })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.below()?;
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            out.push(item);
        }
        Ok(out.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.below()?;
        let mut out = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if out.insert(name, value).is_some() {
                return Err(A::Error::custom("two members of one name"));
            }
        }
        Ok(out.into())
    }
}

const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn every_kind_of_value_is_kept_as_it_is() {
        let text = r#"{"a":null,"b":[true,-1,2,1.5,"x\u0041"],"c":{"a":{}}}"#;
        let expected = json!({ "a": null, "b": [true, -1, 2, 1.5, "xA"], "c": { "a": {} } });
        assert_eq!(object(text.as_bytes()).map(Value::Object), Some(expected));
    }

    #[test]
    fn two_members_of_one_name_are_refused_at_every_level() {
        for text in [
            r#"{"sub":"a","sub":"b"}"#,
            r#"{"sub":"a","s\u0075b":"b"}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"a":[{"b":1,"c":2,"b":1}]}"#,
            r#"{"":1,"":1}"#,
        ] {
            assert_eq!(object(text.as_bytes()), None, "{text}");
        }
        assert!(object(br#"{"a":{"a":1},"b":{"a":1}}"#).is_some(), "in different objects they are different members");
    }

    #[test]
    fn what_is_no_single_object_is_refused() {
        for text in
            ["", " ", "null", "1", "\"x\"", "[]", "{}{}", "{} x", "{", "{\"a\":1e400}", "{'a':1}", "{\"a\":1,}", "\u{feff}{}"]
        {
            assert_eq!(object(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), None);
        assert_eq!(object(br#"{"a":"\ud800"}"#), None);
    }

    #[test]
    fn thirty_two_levels_pass_and_one_more_does_not() {
        let nested = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        assert!(object(nested(32).as_bytes()).is_some());
        assert_eq!(object(nested(33).as_bytes()), None);
        assert_eq!(object(format!("{{\"a\":{}", "[".repeat(100_000)).as_bytes()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_like_serde_json_or_refused(text in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(found) = object(&text) {
                prop_assert_eq!(Value::Object(found), serde_json::from_slice::<Value>(&text).unwrap());
            }
        }

        #[test]
        fn json_shaped_text_is_read_like_serde_json_or_refused(text in "[{}\\[\\]\",:ab0-9.e\\\\u -]{0,40}") {
            if let Some(found) = object(text.as_bytes()) {
                prop_assert_eq!(Value::Object(found), serde_json::from_str::<Value>(&text).unwrap());
            }
        }
    }
}
