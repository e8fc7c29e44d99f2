//! The outside of a token: its three parts and its header. What the header says is a claim of the sender until the
//! signature is verified.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::rejection::Denial;
use crate::token::{Origin, json};

/// Longer tokens are refused before anything is decoded, and never signed.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A token of allowed size, taken apart (RFC 7515, section 7.1).
pub(super) struct Parts<'a> {
    /// What the signature is over: `header.claims`.
    pub message: &'a str,
    pub header: &'a str,
    pub claims: &'a str,
    pub signature: &'a str,
}

/// The members of a header that are read.
pub(super) struct Header {
    pub alg: String,
    pub typ: Option<String>,
    pub kid: Option<String>,
}

/// The `iss` that a token claims, UNVERIFIED: it chooses whose keys are tried and says nothing else. `None` for what is no
/// token of allowed size, or names no issuer.
pub fn issuer_of(token: &str) -> Option<String> {
    let claims = decoded(Parts::of(token).ok()?.claims, "").ok()?;
    claims.get("iss").and_then(Value::as_str).map(str::to_owned)
}

/// The `kid` that a token claims, UNVERIFIED: it says whether newer keys might help and nothing else.
pub fn kid_of(token: &str) -> Option<String> {
    Header::read(Parts::of(token).ok()?.header, Origin::Foreign).ok()?.kid
}

/// The `kid` and `alg` that a token claims, UNVERIFIED: they say whether there is a signature to look at and nothing else.
/// `None` for what is no token.
pub fn signer_of(token: &str) -> Option<(Option<String>, String)> {
    let header = Header::read(Parts::of(token).ok()?.header, Origin::Foreign).ok()?;
    Some((header.kid, header.alg))
}

impl<'a> Parts<'a> {
    pub fn of(token: &'a str) -> Result<Self, Denial> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Denial::TokenMalformed { what: "it is longer than 8 KiB" });
        }
        let apart = token.rsplit_once('.').and_then(|(message, signature)| {
            let (header, claims) = message.split_once('.')?;
            (!claims.contains('.')).then_some(Self { message, header, claims, signature })
        });
        apart.ok_or(Denial::TokenMalformed { what: "it does not have three parts" })
    }
}

impl Header {
    pub fn read(part: &str, origin: Origin) -> Result<Self, Denial> {
        let members = decoded(part, "the header is no JSON object that can be read in one way only")?;
        let (mut alg, mut typ, mut kid) = (None, None, None);
        for (name, value) in members {
            let slot = match name.as_str() {
                "alg" => &mut alg,
                "typ" => &mut typ,
                "kid" => &mut kid,
                other => {
                    judge_other(other, origin)?;
                    continue;
                }
            };
            let Value::String(text) = value else {
                return Err(Denial::TokenMalformed { what: "a member of the header is no text" });
            };
            *slot = Some(text);
        }
        let alg = alg.ok_or(Denial::TokenMalformed { what: "the header has no alg" })?;
        Ok(Self { alg, typ, kid })
    }
}

fn judge_other(name: &str, origin: Origin) -> Result<(), Denial> {
    match origin {
        Origin::Ours => Err(Denial::TokenMalformed { what: "the header has a member other than alg, typ and kid" }),
        Origin::Foreign if BINDING.contains(&name) => {
            Err(Denial::TokenMalformed { what: "the header asks for an extension, or brings a key of its own" })
        }
        Origin::Foreign => Ok(()),
    }
}

/// The base64url engine takes one spelling of every text: no padding, no other alphabet, no left-over bits.
pub(super) fn decoded(part: &str, otherwise: &'static str) -> Result<Map<String, Value>, Denial> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Denial::TokenMalformed { what: "a part is no base64url" })?;
    json::object(&bytes).ok_or(Denial::TokenMalformed { what: otherwise })
}

/// What may not be overlooked: extensions that must be understood (RFC 7515, section 4.1.11; RFC 7797), compression that
/// only encrypted tokens have, and keys that the token itself brings or points to (RFC 8725, section 3.10).
const BINDING: [&str; 7] = ["crit", "b64", "zip", "jwk", "jku", "x5u", "x5c"];
