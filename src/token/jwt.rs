//! Takes our own tokens back. One profile, strictly: what we never write we never read (RFC 8725).
//!
//! The order is: size, shape, header, key, algorithm, signature, and only then the claims, with the times last, so that
//! "expired" says that all else was right. The library verifies the signature and nothing else: it would read a clock of its
//! own, judge a claim only where it is present, keep the last of two members of one name, and overlook `crit`.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::rejection::Denial;
use crate::token::{VerifyingKey, json};

/// Longer tokens are refused before anything is decoded, and never signed.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// What a token of an API must say to be one of its access tokens.
#[derive(Clone, Debug)]
pub struct Profile {
    /// `iss`, compared as text.
    pub issuer: String,
    /// `aud` is this text, or an array of texts that holds it.
    pub audience: String,
    /// Accepted `typ`, compared without case and without a leading `application/` (RFC 7515, section 4.1.9). An empty
    /// one accepts tokens without `typ`.
    pub types: Vec<String>,
    /// How far the clock of whoever signed may differ from ours; for `exp`, `nbf` and `iat` alike.
    pub leeway: Duration,
}

/// Verifies the tokens of one profile.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: HashMap<String, VerifyingKey>,
    profile: Profile,
}

/// What a verified token says. Texts are not empty and hold no control characters.
#[derive(Clone, Debug)]
pub struct Claims {
    /// `sub`
    pub subject: String,
    /// `jti`
    pub id: String,
    /// `sid`, where the token belongs to a session.
    pub session: Option<String>,
    pub expires_at: Timestamp,
    /// All claims, those above included.
    pub all: Map<String, Value>,
}

impl Verifier {
    /// A token names its key by `kid`; one without is taken only where there is exactly one key.
    pub fn new(keys: Vec<VerifyingKey>, profile: Profile) -> Self {
        Self { keys: keys.into_iter().map(|key| (key.kid.clone(), key)).collect(), profile }
    }

    /// # Errors
    /// The exact reason. All of them are one [`crate::rejection::Class`], so that the caller learns nothing from it.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, Denial> {
        let (message, signature) = split(token)?;
        let (header, claims) = message.split_once('.').ok_or(Denial::TokenMalformed { what: PARTS })?;
        let header = Header::read(header)?;
        let key = self.key(header.kid.as_deref())?;
        if header.alg != key.algorithm.as_str() {
            return Err(Denial::TokenAlgorithm { found: shortened(&header.alg) });
        }
        key.verify(message, signature)?;
        self.judge_type(header.typ.as_deref().unwrap_or_default())?;
        let claims = decoded(claims, "the claims are no JSON object that can be read in one way only")?;
        self.judge_claims(claims, now)
    }

    fn key(&self, kid: Option<&str>) -> Result<&VerifyingKey, Denial> {
        let mut all = self.keys.values();
        let found = match (kid, all.next(), all.next()) {
            (Some(kid), _, _) => self.keys.get(kid),
            (None, only, None) => only,
            (None, Some(_) | None, Some(_)) => None,
        };
        found.ok_or_else(|| Denial::TokenKeyUnknown { kid: shortened(kid.unwrap_or_default()) })
    }

    fn judge_type(&self, found: &str) -> Result<(), Denial> {
        let known = self.profile.types.iter().any(|known| short_type(known).eq_ignore_ascii_case(short_type(found)));
        if known { Ok(()) } else { Err(Denial::TokenType { found: shortened(found) }) }
    }

    fn judge_claims(&self, claims: Map<String, Value>, now: Timestamp) -> Result<Claims, Denial> {
        if text(&claims, "iss")? != self.profile.issuer {
            return Err(Denial::TokenIssuer);
        }
        self.judge_audience(&claims)?;
        let subject = text(&claims, "sub")?.to_owned();
        let id = text(&claims, "jti")?.to_owned();
        let session = if claims.contains_key("sid") { Some(text(&claims, "sid")?.to_owned()) } else { None };
        let (issued_at, expires_at) = (moment(&claims, "iat")?, moment(&claims, "exp")?);
        let not_before = if claims.contains_key("nbf") { moment(&claims, "nbf")? } else { issued_at };
        if issued_at.max(not_before) > now.plus(self.profile.leeway) {
            return Err(Denial::TokenNotYetValid);
        }
        // RFC 7519, section 4.1.4: valid before `exp`, no longer at it.
        if now >= expires_at.plus(self.profile.leeway) {
            return Err(Denial::TokenExpired);
        }
        Ok(Claims { subject, id, session, expires_at, all: claims })
    }

    /// RFC 7519, section 4.1.3. An entry that is no text makes the whole claim malformed.
    fn judge_audience(&self, claims: &Map<String, Value>) -> Result<(), Denial> {
        const MALFORMED: Denial = Denial::TokenClaim { claim: "aud" };
        let ours = |value: &Value| value.as_str().map(|text| text == self.profile.audience).ok_or(MALFORMED);
        let meant = match claims.get("aud") {
            Some(Value::Array(entries)) => entries.iter().map(ours).try_fold(false, |seen, ours| Ok(ours? || seen))?,
            Some(value) => ours(value)?,
            None => return Err(MALFORMED),
        };
        if meant { Ok(()) } else { Err(Denial::TokenAudience) }
    }
}

/// The header of a token of ours: these members and no others. So `crit`, `b64`, `zip`, `jwk`, `jku`, `x5u`, `x5c` and
/// whatever comes next are refused because they are there, not because of what they say.
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
}

impl Header {
    fn read(part: &str) -> Result<Self, Denial> {
        let members = decoded(part, "the header is no JSON object that can be read in one way only")?;
        let (mut alg, mut typ, mut kid) = (None, None, None);
        for (name, value) in members {
            let slot = match name.as_str() {
                "alg" => &mut alg,
                "typ" => &mut typ,
                "kid" => &mut kid,
                _ => return Err(Denial::TokenMalformed { what: "the header has a member other than alg, typ and kid" }),
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

/// Message and signature of a token of allowed size.
fn split(token: &str) -> Result<(&str, &str), Denial> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Denial::TokenMalformed { what: "it is longer than 8 KiB" });
    }
    match token.rsplit_once('.') {
        Some((message, signature)) if message.bytes().filter(|&byte| byte == b'.').count() == 1 => Ok((message, signature)),
        Some(_) | None => Err(Denial::TokenMalformed { what: PARTS }),
    }
}

/// The base64url engine takes one spelling of every text: no padding, no other alphabet, no left-over bits.
fn decoded(part: &str, otherwise: &'static str) -> Result<Map<String, Value>, Denial> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Denial::TokenMalformed { what: "a part is no base64url" })?;
    json::object(&bytes).ok_or(Denial::TokenMalformed { what: otherwise })
}

fn text<'a>(claims: &'a Map<String, Value>, claim: &'static str) -> Result<&'a str, Denial> {
    let found = claims.get(claim).and_then(Value::as_str);
    found.filter(|text| !text.is_empty() && !text.contains(char::is_control)).ok_or(Denial::TokenClaim { claim })
}

/// Whole seconds. RFC 7519 would allow fractions; we write none.
fn moment(claims: &Map<String, Value>, claim: &'static str) -> Result<Timestamp, Denial> {
    claims.get(claim).and_then(Value::as_u64).map(Timestamp::from_seconds).ok_or(Denial::TokenClaim { claim })
}

fn short_type(typ: &str) -> &str {
    match typ.split_at_checked("application/".len()) {
        Some((tree, rest)) if tree.eq_ignore_ascii_case("application/") && !rest.contains('/') => rest,
        Some(_) | None => typ,
    }
}

/// As much of a text from outside as a log line needs.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

const PARTS: &str = "it does not have three parts";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SigningAlgorithm;
    use crate::identity::Secret;
    use crate::token::SigningKey;
    use proptest::prelude::*;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn key(text: &str) -> SigningKey {
        SigningKey::load(SigningAlgorithm::Hs256, &Secret::new(text.repeat(32))).unwrap()
    }

    fn profile() -> Profile {
        Profile {
            issuer: "https://api.test".into(),
            audience: "https://api.test".into(),
            types: vec!["at+jwt".into()],
            leeway: Duration::ZERO,
        }
    }

    fn verifier() -> Verifier {
        Verifier::new(vec![key("a").verifying_key()], profile())
    }

    fn claims() -> Value {
        json!({
            "iss": "https://api.test", "aud": "https://api.test", "sub": "acc-1", "jti": "t-1", "sid": "s-1",
            "iat": NOW - 10, "exp": NOW + 300, "roles": ["admin"],
        })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    fn without(name: &str) -> Value {
        let mut claims = claims();
        claims.as_object_mut().unwrap().shift_remove(name);
        claims
    }

    fn token(claims: &Value) -> String {
        let header = json!({ "typ": "at+jwt" });
        key("a").sign(header.as_object().unwrap(), claims.as_object().unwrap()).unwrap()
    }

    /// A token with this very header and claims, signed with our key.
    fn raw(header: &str, claims: &[u8]) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, "a".repeat(32).as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&secret, message.as_bytes())))
    }

    fn judge(token: &str) -> Result<Claims, Denial> {
        verifier().verify(token, Timestamp::from_seconds(NOW))
    }

    fn refused(token: &str) -> String {
        let denial = judge(token).unwrap_err();
        let claim = if let Denial::TokenClaim { claim } = &denial { format!(" {claim}") } else { String::new() };
        format!("{}{claim}", denial.code())
    }

    #[test]
    fn a_token_of_ours_comes_back_as_it_was_signed() {
        let found = judge(&token(&claims())).unwrap();
        assert_eq!((found.subject.as_str(), found.id.as_str(), found.session.as_deref()), ("acc-1", "t-1", Some("s-1")));
        assert_eq!(found.expires_at.seconds(), NOW + 300);
        assert_eq!(Value::Object(found.all), claims());
        assert_eq!(judge(&token(&without("sid"))).unwrap().session, None);
    }

    #[test]
    fn every_algorithm_signs_what_it_verifies_and_no_other_key_does() {
        for algorithm in [SigningAlgorithm::Hs256, SigningAlgorithm::Rs256, SigningAlgorithm::Es256, SigningAlgorithm::EdDsa] {
            let make = || SigningKey::load(algorithm, &SigningKey::generate(algorithm)).unwrap();
            let (ours, theirs) = (make(), make());
            let sign = |key: &SigningKey| {
                key.sign(json!({ "typ": "at+jwt" }).as_object().unwrap(), claims().as_object().unwrap()).unwrap()
            };
            let verifier = Verifier::new(vec![ours.verifying_key()], profile());
            let now = Timestamp::from_seconds(NOW);
            assert_eq!(verifier.verify(&sign(&ours), now).unwrap().subject, "acc-1");
            assert_eq!(verifier.verify(&sign(&theirs), now).unwrap_err().code(), "token_key_unknown");
        }
    }

    #[test]
    fn a_key_is_found_by_its_id_only() {
        let two = Verifier::new(vec![key("a").verifying_key(), key("b").verifying_key()], profile());
        let now = Timestamp::from_seconds(NOW);
        assert_eq!(two.verify(&token(&claims()), now).unwrap().subject, "acc-1");
        let body = claims().to_string();
        let unnamed = raw(r#"{"alg":"HS256","typ":"at+jwt"}"#, body.as_bytes());
        assert_eq!(two.verify(&unnamed, now).unwrap_err().code(), "token_key_unknown");
        assert_eq!(judge(&unnamed).unwrap().subject, "acc-1");
        assert_eq!(Verifier::new(Vec::new(), profile()).verify(&unnamed, now).unwrap_err().code(), "token_key_unknown");
        // The other key's name on our signature.
        let renamed = raw(&format!(r#"{{"alg":"HS256","typ":"at+jwt","kid":"{}"}}"#, key("b").kid()), body.as_bytes());
        assert_eq!(two.verify(&renamed, now).unwrap_err().code(), "token_signature");
    }

    #[test]
    fn a_header_with_anything_that_we_do_not_write_is_malformed() {
        let body = claims().to_string();
        for more in [
            r#","crit":["exp"]"#,
            r#","crit":[]"#,
            r#","b64":false"#,
            r#","zip":"DEF""#,
            r#","jwk":{}"#,
            r#","jku":"http://127.0.0.1/""#,
            r#","x5u":"http://127.0.0.1/""#,
            r#","x5c":[]"#,
            r#","cty":"JWT""#,
            r#","kid":null"#,
            r#","kid":1"#,
            r#","alg":"HS256""#,
            r#","\u0061lg":"HS256""#,
        ] {
            let token = raw(&format!(r#"{{"alg":"HS256","typ":"at+jwt"{more}}}"#), body.as_bytes());
            assert_eq!(refused(&token), "token_malformed", "{more}");
        }
        assert_eq!(refused(&raw(r#"{"typ":"at+jwt"}"#, body.as_bytes())), "token_malformed");
    }

    #[test]
    fn the_algorithm_is_the_keys_and_never_the_tokens() {
        let body = claims().to_string();
        for alg in ["none", "None", "NONE", "", "HS384", "HS512", "RS256", "hs256", "HS256 "] {
            let token = raw(&format!(r#"{{"alg":"{alg}","typ":"at+jwt"}}"#), body.as_bytes());
            assert_eq!(refused(&token), "token_algorithm", "{alg}");
        }
    }

    #[test]
    fn the_type_is_one_of_the_profiles() {
        let body = claims().to_string();
        for (typ, accepted) in [
            (r#","typ":"at+jwt""#, true),
            (r#","typ":"AT+JWT""#, true),
            (r#","typ":"application/at+jwt""#, true),
            (r#","typ":"APPLICATION/At+Jwt""#, true),
            (r#","typ":"JWT""#, false),
            (r#","typ":"id+jwt""#, false),
            (r#","typ":"application/application/at+jwt""#, false),
            (r#","typ":"""#, false),
            ("", false),
        ] {
            let token = raw(&format!(r#"{{"alg":"HS256"{typ}}}"#), body.as_bytes());
            let found = judge(&token).map(|_| "accepted").unwrap_or_else(|denial| denial.code());
            assert_eq!(found, if accepted { "accepted" } else { "token_type" }, "{typ}");
        }
    }

    #[test]
    fn a_signature_over_other_bytes_does_not_verify() {
        let good = token(&claims());
        let (message, signature) = good.rsplit_once('.').unwrap();
        let forged = token(&with("sub", json!("admin")));
        let forged_message = forged.rsplit_once('.').unwrap().0;
        assert_eq!(refused(&format!("{forged_message}.{signature}")), "token_signature");
        assert_eq!(refused(&format!("{message}.")), "token_signature");
        assert_eq!(refused(&format!("{message}.{}", signature.get(..40).unwrap())), "token_signature");
    }

    #[test]
    fn claims_that_are_missing_or_of_another_kind_are_named() {
        for claim in ["iss", "aud", "sub", "jti", "iat", "exp"] {
            assert_eq!(refused(&token(&without(claim))), format!("token_claim {claim}"));
        }
        for claim in ["iss", "sub", "jti", "sid"] {
            for value in [json!(1), json!(null), json!(["https://api.test"]), json!(""), json!("a\r\nb"), json!("a\u{0}b")] {
                assert_eq!(refused(&token(&with(claim, value.clone()))), format!("token_claim {claim}"), "{value}");
            }
        }
        for claim in ["iat", "exp", "nbf"] {
            for value in [json!("1900000000"), json!(1.9e9), json!(-1), json!(null), json!(true), json!([1]), json!({})] {
                assert_eq!(refused(&token(&with(claim, value.clone()))), format!("token_claim {claim}"), "{value}");
            }
        }
        for value in [json!(1), json!(null), json!({ "0": "https://api.test" }), json!(["https://api.test", 1])] {
            assert_eq!(refused(&token(&with("aud", value.clone()))), "token_claim aud", "{value}");
        }
    }

    #[test]
    fn issuer_and_audience_are_compared_whole() {
        for other in ["https://api.test/", "https://API.test", "https://api.tes", "http://api.test"] {
            assert_eq!(refused(&token(&with("iss", json!(other)))), "token_issuer", "{other}");
            assert_eq!(refused(&token(&with("aud", json!(other)))), "token_audience", "{other}");
        }
        assert_eq!(refused(&token(&with("aud", json!([])))), "token_audience");
        assert_eq!(refused(&token(&with("aud", json!(["x"])))), "token_audience");
        assert_eq!(judge(&token(&with("aud", json!(["x", "https://api.test"])))).unwrap().subject, "acc-1");
    }

    #[test]
    fn times_are_judged_at_the_moment_that_is_given() {
        let token = token(&with("nbf", json!(NOW - 5)));
        for (leeway, at, expected) in [
            (0, NOW - 6, "token_not_yet_valid"),
            (0, NOW - 5, "accepted"),
            (0, NOW + 299, "accepted"),
            (0, NOW + 300, "token_expired"),
            (30, NOW - 36, "token_not_yet_valid"),
            (30, NOW - 35, "accepted"),
            (30, NOW + 329, "accepted"),
            (30, NOW + 330, "token_expired"),
        ] {
            let profile = Profile { leeway: Duration::from_secs(leeway), ..profile() };
            let verifier = Verifier::new(vec![key("a").verifying_key()], profile);
            let judged = verifier.verify(&token, Timestamp::from_seconds(at));
            let found = judged.map(|_| "accepted").unwrap_or_else(|denial| denial.code());
            assert_eq!(found, expected, "leeway {leeway}, at {at}");
        }
    }

    #[test]
    fn a_token_from_the_future_is_refused_even_without_nbf() {
        assert_eq!(refused(&token(&with("iat", json!(NOW + 1)))), "token_not_yet_valid");
        assert_eq!(refused(&token(&with("nbf", json!(NOW + 1)))), "token_not_yet_valid");
    }

    #[test]
    fn duplicate_and_ambiguous_claims_are_malformed() {
        let body = claims().to_string();
        let open = body.strip_suffix('}').unwrap();
        for claims in [
            format!(r#"{open},"sub":"admin"}}"#),
            format!(r#"{open},"s\u0075b":"admin"}}"#),
            format!(r#"{open},"x":{{"a":1,"a":2}}}}"#),
            format!(r#"{open},"x":{}1{}}}"#, "[".repeat(40), "]".repeat(40)),
            format!("{body}{{}}"),
            "[]".to_owned(),
            "null".to_owned(),
            String::new(),
        ] {
            let token = raw(r#"{"alg":"HS256","typ":"at+jwt"}"#, claims.as_bytes());
            assert_eq!(refused(&token), "token_malformed", "{claims}");
        }
    }

    #[test]
    fn a_token_has_three_parts_one_spelling_and_at_most_eight_kibibytes() {
        let good = token(&claims());
        for text in [
            String::new(),
            ".".into(),
            "..".into(),
            ".".repeat(10_000),
            format!("{good}."),
            format!(".{good}"),
            format!("{good}="),
            format!("{good}\n"),
            format!(" {good}"),
            good.replacen('.', "=.", 1),
            "a".repeat(MAX_TOKEN_BYTES + 1),
        ] {
            assert_eq!(refused(&text), "token_malformed", "{text:.40}");
        }
        // 256 bits leave two bits over in the last of 43 characters: a second spelling of the same signature.
        let last = good.chars().last().unwrap();
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
        assert_eq!(refused(&format!("{}{next}", good.strip_suffix(last).unwrap())), "token_malformed");
    }

    #[test]
    fn what_came_from_outside_is_cut_before_it_reaches_a_log() {
        let body = claims().to_string();
        let token = raw(&format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "A".repeat(4000)), body.as_bytes());
        let shown = judge(&token).unwrap_err().to_string();
        assert_eq!(shown, format!("no key has the id {:?}", "A".repeat(64)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_or_pass(text in "[A-Za-z0-9_.=-]{0,200}") {
            prop_assert_eq!(judge(&text).unwrap_err().class(), crate::rejection::Class::CredentialRefused);
        }

        #[test]
        fn no_change_of_one_character_passes(at in 0usize..400, to in "[A-Za-z0-9_.-]") {
            let good = token(&claims());
            let at = at % good.len();
            let mut changed = good.clone();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != good);
            prop_assert_eq!(judge(&changed).unwrap_err().class(), crate::rejection::Class::CredentialRefused);
        }
    }
}
