//! What a token says, as values. Reading is strict: a claim of the wrong kind is never one that is not there.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::rejection::Denial;
use crate::token::Origin;

/// What a verified token says. Texts are not empty and hold no control characters.
#[derive(Clone, Debug)]
pub struct Claims {
    /// `sub`, or the claim that the profile takes for it.
    pub subject: String,
    /// `jti`; tokens of ours always have one.
    pub id: Option<String>,
    /// `sid`, where the token belongs to a session.
    pub session: Option<String>,
    /// `iat`; tokens of ours always have one.
    pub issued_at: Option<Timestamp>,
    /// The later of `nbf` and `iat`, as far as they are there. Leeway is not in it.
    pub not_before: Timestamp,
    /// `exp`. Leeway is not in it.
    pub expires_at: Timestamp,
    /// All claims, those above included.
    pub all: Map<String, Value>,
}

impl Claims {
    /// About what they take in memory.
    pub fn held_bytes(&self) -> u64 {
        u64::try_from(self.all.iter().map(|(name, value)| MEMBER + name.len() + held(value)).sum::<usize>()).unwrap_or(u64::MAX)
    }

    /// The claim of this name, see [`find`].
    pub fn find(&self, name: &str) -> Option<&Value> {
        find(&self.all, name)
    }
}

fn held(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => ITEM,
        Value::String(text) => ITEM + text.len(),
        Value::Array(items) => ITEM + items.iter().map(held).sum::<usize>(),
        Value::Object(members) => {
            ITEM + MAP + members.iter().map(|(name, value)| MEMBER + name.len() + held(value)).sum::<usize>()
        }
    }
}

/// Bytes of a value without what it points to, with what the allocator adds; of a member of a map; of a map.
const ITEM: usize = 96;
const MEMBER: usize = 160;
const MAP: usize = 256;

/// The claim of this name; where there is none, the one inside a claim that dots lead to (`realm_access.roles`). Names
/// that are URLs hold dots themselves: the whole name goes first.
pub(super) fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let mut parts = name.split('.');
        let outer = claims.get(parts.next()?)?;
        parts.try_fold(outer, |value, part| value.as_object()?.get(part))
    })
}

pub(super) fn text<'a>(claims: &'a Map<String, Value>, claim: &str) -> Result<&'a str, Denial> {
    let found = find(claims, claim).and_then(Value::as_str);
    found.filter(|text| !text.is_empty() && !text.contains(char::is_control)).ok_or_else(|| missing(claim))
}

pub(super) fn optional_text(claims: &Map<String, Value>, claim: &str) -> Result<Option<String>, Denial> {
    if claims.contains_key(claim) { text(claims, claim).map(|text| Some(text.to_owned())) } else { Ok(None) }
}

/// Seconds since 1970 (RFC 7519, section 2, NumericDate). We write whole ones; others may write fractions.
pub(super) fn moment(claims: &Map<String, Value>, claim: &str, origin: Origin) -> Result<Timestamp, Denial> {
    let value = claims.get(claim).ok_or_else(|| missing(claim))?;
    let found = match origin {
        Origin::Ours => value.as_u64().map(Timestamp::from_seconds),
        Origin::Foreign => value.as_f64().filter(|seconds| *seconds <= END_OF_TIME).and_then(fraction),
    };
    found.ok_or_else(|| missing(claim))
}

pub(super) fn optional_moment(claims: &Map<String, Value>, claim: &str, origin: Origin) -> Result<Option<Timestamp>, Denial> {
    if claims.contains_key(claim) { moment(claims, claim, origin).map(Some) } else { Ok(None) }
}

pub(super) fn missing(claim: &str) -> Denial {
    Denial::TokenClaim { claim: claim.to_owned().into() }
}

/// `None` before 1970.
fn fraction(seconds: f64) -> Option<Timestamp> {
    Duration::try_from_secs_f64(seconds).ok().map(|since| Timestamp::default().plus(since))
}

/// The year 10,000. A date beyond it is no date but an overflow on the other side.
const END_OF_TIME: f64 = 253_402_300_800.0;
