//! Stands in for the key sets of another branch until the merge: knows `kid`s and verifies nothing.

use serde_json::Value;

use crate::config::JwsAlgorithm;
use crate::token::json;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet {
    kids: Vec<String>,
    skipped: Vec<String>,
}

impl KeySet {
    pub fn parse(bytes: &[u8], _algorithms: &[JwsAlgorithm]) -> Result<Self, String> {
        let set = json::object(bytes).ok_or("the key set is no JSON object that can be read in one way only")?;
        let Some(Value::Array(entries)) = set.get("keys") else {
            return Err("the key set has no list `keys` (RFC 7517, section 5)".to_owned());
        };
        if entries.len() > 100 {
            return Err(format!("the key set lists {} keys; at most 100 are read", entries.len()));
        }
        let kids = entries.iter().filter(|entry| entry.get("kty").is_some_and(|kty| kty == "OKP"));
        let kids: Vec<String> = kids.filter_map(|entry| Some(entry.get("kid")?.as_str()?.to_owned())).collect();
        let skipped = if kids.len() < entries.len() { vec!["key \"x\": its kty is not known".to_owned()] } else { Vec::new() };
        Ok(Self { kids, skipped })
    }

    pub fn knows(&self, kid: &str) -> bool {
        self.kids.iter().any(|known| known == kid)
    }

    pub fn is_empty(&self) -> bool {
        self.kids.is_empty()
    }

    pub fn len(&self) -> usize {
        self.kids.len()
    }

    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    pub fn describe(&self) -> Vec<(String, Vec<JwsAlgorithm>)> {
        self.kids.iter().map(|kid| (kid.clone(), vec![JwsAlgorithm::EdDsa])).collect()
    }
}
