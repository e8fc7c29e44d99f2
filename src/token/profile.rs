//! Judges tokens: ours and those of other issuers, each kind by its profile (RFC 8725). What a profile does not say a token
//! may not leave open.
//!
//! The order is: size, shape, header, key, algorithm, signature, and only then the claims, with the times last, so that
//! "expired" says that all else was right. No library judges a claim: those at hand read a clock of their own, judge a
//! claim only where it is present, keep the last of two members of one name, and overlook `crit`.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::rejection::Denial;
use crate::token::claims::{find, missing, moment, optional_moment, optional_text, text};
use crate::token::header::{Header, Parts, decoded};
use crate::token::verifying::shortened;
use crate::token::{Claims, KeySet};

/// What a token must say to be an access token of one issuer for one API. `exp` and the subject are always required.
#[derive(Clone, Debug)]
pub struct Profile {
    /// `iss`, compared as text. With `None` it is not judged: only for keys that nobody else has.
    pub issuer: Option<String>,
    /// `aud` is one of these texts, or an array of texts that holds one. With none of them a token that names any audience
    /// is refused: it is meant for somebody (RFC 7519, section 4.1.3).
    pub audience: Vec<String>,
    /// Accepted `typ`, compared without case and without a leading `application/` (RFC 7515, section 4.1.9). An empty
    /// one accepts tokens without `typ`.
    pub types: Vec<String>,
    /// How far the clock of whoever signed may differ from ours; for `exp`, `nbf` and `iat` alike.
    pub leeway: Duration,
    /// Claims that must be there and not null; a claim in a claim is written with dots.
    pub required_claims: Vec<String>,
    /// The claim that says whom the token is about, e.g. `sub`.
    pub subject_claim: String,
    pub origin: Origin,
}

/// Who writes the tokens, and so what is allowed to stand in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// We do. The header has `alg`, `typ` and `kid` only and times are whole seconds: what we never write we never read. So
    /// whatever a header could ask for next is refused because it is there, not because of what it says.
    Ours,
    /// Someone else. Other members of the header are overlooked, except those that must not be: `crit`, `b64`, `zip`,
    /// `jwk`, `jku`, `x5u`, `x5c`. Times may have fractions.
    Foreign,
}

/// Verifies the tokens of one profile with keys that stay the same.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: KeySet,
    profile: Profile,
}

impl Verifier {
    pub fn new(keys: impl Into<KeySet>, profile: Profile) -> Self {
        Self { keys: keys.into(), profile }
    }

    /// Whether one of its keys could have signed a token with such a header.
    pub fn knows(&self, kid: Option<&str>, alg: &str) -> bool {
        self.keys.answers(kid, alg)
    }

    /// # Errors
    /// As [`Profile::verify`].
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, Denial> {
        self.profile.verify(&self.keys, token, now)
    }
}

impl Profile {
    /// The profile of an API's own tokens: for itself, by itself, with one clock, hence without leeway.
    pub fn ours(api: &str, typ: &str) -> Self {
        Self {
            issuer: Some(api.to_owned()),
            audience: vec![api.to_owned()],
            types: vec![typ.to_owned()],
            leeway: Duration::ZERO,
            required_claims: ["iss", "aud", "sub", "jti", "iat", "exp"].map(str::to_owned).to_vec(),
            subject_claim: "sub".to_owned(),
            origin: Origin::Ours,
        }
    }

    /// # Errors
    /// The exact reason. All of them are one [`crate::rejection::Class`], so that the caller learns nothing from it.
    pub fn verify(&self, keys: &KeySet, token: &str, now: Timestamp) -> Result<Claims, Denial> {
        let parts = Parts::of(token)?;
        let header = Header::read(parts.header, self.origin)?;
        keys.verify(header.kid.as_deref(), &header.alg, parts.message.as_bytes(), parts.signature)?;
        self.judge_type(header.typ.as_deref().unwrap_or_default())?;
        let claims = decoded(parts.claims, "the claims are no JSON object that can be read in one way only")?;
        self.judge_claims(claims, now)
    }

    fn judge_type(&self, found: &str) -> Result<(), Denial> {
        let known = self.types.iter().any(|known| short_type(known).eq_ignore_ascii_case(short_type(found)));
        if known { Ok(()) } else { Err(Denial::TokenType { found: shortened(found) }) }
    }

    fn judge_claims(&self, all: Map<String, Value>, now: Timestamp) -> Result<Claims, Denial> {
        if let Some(absent) = self.required_claims.iter().find(|name| find(&all, name).is_none_or(Value::is_null)) {
            return Err(missing(absent));
        }
        if let Some(issuer) = &self.issuer
            && text(&all, "iss")? != issuer
        {
            return Err(Denial::TokenIssuer);
        }
        optional_text(&all, "iss")?;
        self.judge_audience(&all)?;
        let subject = text(&all, &self.subject_claim)?.to_owned();
        let (id, session) = (optional_text(&all, "jti")?, optional_text(&all, "sid")?);
        let issued_at = optional_moment(&all, "iat", self.origin)?;
        let expires_at = moment(&all, "exp", self.origin)?;
        let not_before = optional_moment(&all, "nbf", self.origin)?.max(issued_at).unwrap_or_default();
        if not_before > now.plus(self.leeway) {
            return Err(Denial::TokenNotYetValid);
        }
        // RFC 7519, section 4.1.4: valid before `exp`, no longer at it.
        if now >= expires_at.plus(self.leeway) {
            return Err(Denial::TokenExpired);
        }
        Ok(Claims { subject, id, session, issued_at, not_before, expires_at, all })
    }

    /// RFC 7519, section 4.1.3. An entry that is no text makes the whole claim malformed.
    fn judge_audience(&self, claims: &Map<String, Value>) -> Result<(), Denial> {
        let ours = |value: &Value| match value.as_str() {
            Some(found) => Ok(self.audience.iter().any(|audience| audience == found)),
            None => Err(missing("aud")),
        };
        let meant = match claims.get("aud") {
            Some(Value::Array(entries)) => entries.iter().map(ours).try_fold(false, |seen, ours| Ok(ours? || seen))?,
            Some(value) => ours(value)?,
            None if self.audience.is_empty() => true,
            None => return Err(missing("aud")),
        };
        if meant { Ok(()) } else { Err(Denial::TokenAudience) }
    }
}

fn short_type(typ: &str) -> &str {
    match typ.split_at_checked("application/".len()) {
        Some((tree, rest)) if tree.eq_ignore_ascii_case("application/") && !rest.contains('/') => rest,
        Some(_) | None => typ,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SigningAlgorithm;
    use crate::identity::Secret;
    use crate::token::fixture::{PUBLIC, Pair, jwks};
    use crate::token::{MAX_TOKEN_BYTES, SigningKey, issuer_of, kid_of};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn key(text: &str) -> SigningKey {
        SigningKey::load(SigningAlgorithm::Hs256, &Secret::new(text.repeat(32))).unwrap()
    }

    fn profile() -> Profile {
        Profile::ours("https://api.test", "at+jwt")
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
        assert_eq!((found.subject.as_str(), found.id.as_deref(), found.session.as_deref()), ("acc-1", Some("t-1"), Some("s-1")));
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

    /// What an issuer of others writes, and its key.
    fn foreign() -> (Pair, KeySet, Profile) {
        let pair = Pair::ed25519();
        let keys = KeySet::parse(&jwks(&[pair.jwk(Some("k"))]), &PUBLIC).unwrap();
        let profile = Profile {
            issuer: Some("https://api.test".into()),
            audience: vec!["https://api.test".into(), "gateway".into()],
            types: vec!["at+jwt".into()],
            leeway: Duration::from_secs(30),
            required_claims: ["exp", "sub", "iss", "aud"].map(str::to_owned).to_vec(),
            subject_claim: "sub".into(),
            origin: Origin::Foreign,
        };
        (pair, keys, profile)
    }

    fn named(judged: Result<Claims, Denial>) -> String {
        match judged {
            Ok(_) => "accepted".to_owned(),
            Err(Denial::TokenClaim { claim }) => format!("token_claim {claim}"),
            Err(denial) => denial.code().to_owned(),
        }
    }

    const FOREIGN_HEADER: &str = r#"{"alg":"EdDSA","typ":"at+jwt","kid":"k"}"#;

    /// F3, F6: what must be understood is refused, and a key that the token brings is no key.
    #[test]
    fn of_a_foreign_header_only_harmless_members_are_overlooked() {
        let (pair, keys, profile) = foreign();
        let body = claims().to_string();
        for (more, expected) in [
            (r#","cty":"JWT","x5t":"AA","x5t#S256":1,"nonce":null,"new":{"a":[1]}"#, "accepted"),
            (r#","crit":["exp"]"#, "token_malformed"),
            (r#","crit":[]"#, "token_malformed"),
            (r#","crit":null"#, "token_malformed"),
            (r#","\u0063rit":["exp"]"#, "token_malformed"),
            (r#","b64":false"#, "token_malformed"),
            (r#","b64":true"#, "token_malformed"),
            (r#","zip":"DEF""#, "token_malformed"),
            (r#","jwk":{}"#, "token_malformed"),
            (r#","jku":"http://127.0.0.1/""#, "token_malformed"),
            (r#","x5u":"http://127.0.0.1/""#, "token_malformed"),
            (r#","x5c":[]"#, "token_malformed"),
            (r#","alg":"EdDSA""#, "token_malformed"),
            (r#","typ":1"#, "token_malformed"),
        ] {
            let header = FOREIGN_HEADER.replace('}', &format!("{more}}}"));
            let judged = profile.verify(&keys, &pair.raw(&header, body.as_bytes()), Timestamp::from_seconds(NOW));
            assert_eq!(named(judged), expected, "{more}");
        }
        for header in [r#"{"alg":"EdDSA","typ":null,"kid":"k"}"#, r#"{"alg":["EdDSA"],"kid":"k"}"#, r#"{"kid":"k"}"#] {
            let judged = profile.verify(&keys, &pair.raw(header, body.as_bytes()), Timestamp::from_seconds(NOW));
            assert_eq!(named(judged), "token_malformed", "{header}");
        }
    }

    /// F2: times may have fractions and nothing else.
    #[test]
    fn foreign_times_are_numbers_of_this_age() {
        let (pair, keys, profile) = foreign();
        let judge =
            |claims: &Value, at: Timestamp| profile.verify(&keys, &pair.raw(FOREIGN_HEADER, claims.to_string().as_bytes()), at);
        let at = |seconds: u64, millis: u64| Timestamp(seconds * 1000 + millis);
        let fractions = with("exp", json!(NOW as f64 + 0.5));
        assert_eq!(named(judge(&fractions, at(NOW + 30, 499))), "accepted");
        assert_eq!(named(judge(&fractions, at(NOW + 30, 500))), "token_expired");
        let later = with("nbf", json!(NOW as f64 + 40.25));
        assert_eq!(named(judge(&later, at(NOW + 10, 249))), "token_not_yet_valid");
        let found = judge(&later, at(NOW + 10, 250)).unwrap();
        assert_eq!((found.not_before, found.issued_at), (at(NOW + 40, 250), Some(at(NOW - 10, 0))));
        let now = Timestamp::from_seconds(NOW);
        for claim in ["exp", "nbf", "iat"] {
            for value in [
                json!("1900000000"),
                json!(-1),
                json!(-0.5),
                json!(null),
                json!(true),
                json!([1]),
                json!({}),
                json!(1e300),
                json!(u64::MAX),
                json!(2f64.powi(64)),
                json!(1_000_000_000_000_000_000_u64),
                json!(253_402_300_801_u64),
            ] {
                assert_eq!(named(judge(&with(claim, value.clone()), now)), format!("token_claim {claim}"), "{value}");
            }
        }
        assert_eq!(named(judge(&with("exp", json!(0)), now)), "token_expired");
        assert_eq!(named(judge(&with("iat", json!(NOW + 31)), now)), "token_not_yet_valid");
        assert_eq!(named(judge(&without("exp"), now)), "token_claim exp");
        let timeless = judge(&without("iat"), now).unwrap();
        assert_eq!((timeless.issued_at, timeless.not_before), (None, Timestamp::default()));
    }

    /// F4: issuer and audience count where the profile names them, and a token for somebody is for nobody else.
    #[test]
    fn a_foreign_token_is_for_one_of_the_audiences() {
        let (pair, keys, profile) = foreign();
        let judge = |profile: &Profile, claims: &Value| {
            named(profile.verify(&keys, &pair.raw(FOREIGN_HEADER, claims.to_string().as_bytes()), Timestamp::from_seconds(NOW)))
        };
        for (aud, expected) in [
            (json!("gateway"), "accepted"),
            (json!(["x", "gateway"]), "accepted"),
            (json!("gatewa"), "token_audience"),
            (json!("Gateway"), "token_audience"),
            (json!([]), "token_audience"),
            (json!(["gateway", ["gateway"]]), "token_claim aud"),
            (json!({ "gateway": 1 }), "token_claim aud"),
            (json!(null), "token_claim aud"),
        ] {
            assert_eq!(judge(&profile, &with("aud", aud.clone())), expected, "{aud}");
        }
        let lax = Profile { required_claims: Vec::new(), ..profile.clone() };
        assert_eq!(judge(&lax, &without("aud")), "token_claim aud", "what is configured is asked for");
        assert_eq!(judge(&lax, &without("iss")), "token_claim iss");
        let own_secret = Profile { issuer: None, audience: Vec::new(), ..lax };
        let mut plain = without("aud");
        plain["iss"] = json!("anybody");
        assert_eq!(judge(&own_secret, &plain), "accepted");
        plain["iss"] = json!(7);
        assert_eq!(judge(&own_secret, &plain), "token_claim iss", "a claim of the wrong kind is never one that is not there");
        assert_eq!(judge(&own_secret, &claims()), "token_audience", "it is for somebody else");
        assert_eq!(judge(&own_secret, &with("aud", json!([]))), "token_audience");
        assert_eq!(judge(&own_secret, &with("aud", json!(null))), "token_claim aud");
    }

    #[test]
    fn required_claims_and_the_subject_are_found_inside_others_too() {
        let (pair, keys, profile) = foreign();
        let profile = Profile {
            required_claims: vec!["https://x.test/org".into(), "realm_access.roles".into()],
            subject_claim: "user.name".into(),
            ..profile
        };
        let mut all = claims();
        all["https://x.test/org"] = json!("o");
        all["realm_access"] = json!({ "roles": ["a"] });
        all["user"] = json!({ "name": "ann" });
        let judge = |claims: &Value| {
            profile.verify(&keys, &pair.raw(FOREIGN_HEADER, claims.to_string().as_bytes()), Timestamp::from_seconds(NOW))
        };
        let found = judge(&all).unwrap();
        assert_eq!(found.subject, "ann");
        assert_eq!(found.find("realm_access.roles"), Some(&json!(["a"])));
        assert_eq!(found.find("https://x.test/org"), Some(&json!("o")));
        for name in ["realm_access.none", "realm_access.roles.0", "sub.x", "", ".", "realm_access."] {
            assert_eq!(found.find(name), None, "{name:?}");
        }
        for (outer, value, expected) in [
            ("https://x.test/org", json!(null), "token_claim https://x.test/org"),
            ("realm_access", json!({ "roles": null }), "token_claim realm_access.roles"),
            ("realm_access", json!("roles"), "token_claim realm_access.roles"),
            ("user", json!({ "name": "a\r\nb" }), "token_claim user.name"),
            ("user", json!({ "name": "" }), "token_claim user.name"),
            ("user", json!({ "name": 1 }), "token_claim user.name"),
            ("user", json!({}), "token_claim user.name"),
            ("jti", json!(1), "token_claim jti"),
            ("sid", json!("a\u{0}b"), "token_claim sid"),
        ] {
            let mut changed = all.clone();
            changed[outer] = value.clone();
            assert_eq!(named(judge(&changed)), expected, "{outer} {value}");
        }
        // The whole name goes first, so that nothing inside another claim stands in for it.
        all["user.name"] = json!("bob");
        assert_eq!(judge(&all).unwrap().subject, "bob");
    }

    /// F9: without a word about it, only access tokens are access tokens.
    #[test]
    fn the_type_of_a_foreign_token_is_one_that_the_profile_takes() {
        let (pair, keys, profile) = foreign();
        let lax = Profile { types: vec!["JWT".into(), String::new()], ..profile.clone() };
        for (typ, strict_outcome, lax_outcome) in [
            (r#""typ":"at+jwt","#, "accepted", "token_type"),
            (r#""typ":"application/AT+JWT","#, "accepted", "token_type"),
            (r#""typ":"jwt","#, "token_type", "accepted"),
            (r#""typ":"","#, "token_type", "accepted"),
            ("", "token_type", "accepted"),
            (r#""typ":"id+jwt","#, "token_type", "token_type"),
            (r#""typ":"logout+jwt","#, "token_type", "token_type"),
            (r#""typ":"dpop+jwt","#, "token_type", "token_type"),
        ] {
            let token = pair.raw(&format!(r#"{{{typ}"alg":"EdDSA","kid":"k"}}"#), claims().to_string().as_bytes());
            for (profile, expected) in [(&profile, strict_outcome), (&lax, lax_outcome)] {
                assert_eq!(named(profile.verify(&keys, &token, Timestamp::from_seconds(NOW))), expected, "{typ}");
            }
        }
    }

    /// F8, F10: the unverified look takes no more than the verified one.
    #[test]
    fn the_issuer_and_the_key_that_a_token_claims_are_read_as_strictly_as_the_rest() {
        let pair = Pair::ed25519();
        let token = |claims: &str| pair.raw(FOREIGN_HEADER, claims.as_bytes());
        let good = token(r#"{"iss":"https://a.test"}"#);
        assert_eq!((issuer_of(&good).as_deref(), kid_of(&good).as_deref()), (Some("https://a.test"), Some("k")));
        for claims in
            [r#"{"iss":"a","iss":"b"}"#, r#"{"iss":"a","\u0069ss":"b"}"#, r#"{"iss":["a"]}"#, "{}", "[]", "", r#"{"iss":"a"}x"#]
        {
            assert_eq!(issuer_of(&token(claims)), None, "{claims}");
        }
        let large = token(&format!(r#"{{"iss":"a","x":"{}"}}"#, "x".repeat(MAX_TOKEN_BYTES)));
        assert_eq!((issuer_of(&large), kid_of(&large)), (None, None));
        for text in ["", ".", "..", "a.b", "a.b.c.d", &".".repeat(10_000), &format!("{good}.")] {
            assert_eq!((issuer_of(text), kid_of(text)), (None, None), "{text:.20}");
        }
        assert_eq!(kid_of(&pair.raw(r#"{"alg":"EdDSA"}"#, b"{}")), None);
        assert_eq!(kid_of(&pair.raw(r#"{"alg":"EdDSA","kid":"a","kid":"b"}"#, b"{}")), None);
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
