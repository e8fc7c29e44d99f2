//! JSON Web Keys of other issuers (RFC 7517; RFC 7518, section 6; RFC 8037). A set is read strictly or not at all; a key in
//! it that cannot be used is left out with a reason, so that one odd key does not take the others along.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::config::JwsAlgorithm;
use crate::token::verifying::{KeyName, shortened};
use crate::token::{KeySet, VerifyingKey, json};

impl KeySet {
    /// Reads a JWK set. A key serves those of `algorithms` that its kind can make, or the one that its own `alg` names.
    ///
    /// # Errors
    /// When it is no JWK set that can be read in one way only, is larger than 1 MiB, or lists more than 100 keys.
    pub fn parse(bytes: &[u8], algorithms: &[JwsAlgorithm]) -> Result<Self, String> {
        if bytes.len() > MAX_SET_BYTES {
            return Err(format!("the key set has {} bytes; at most {MAX_SET_BYTES} are read", bytes.len()));
        }
        let set = json::object(bytes).ok_or("the key set is no JSON object that can be read in one way only")?;
        let Some(Value::Array(entries)) = set.get("keys") else {
            return Err("the key set has no list `keys` (RFC 7517, section 5)".to_owned());
        };
        if entries.len() > MAX_KEYS {
            return Err(format!("the key set lists {} keys; at most {MAX_KEYS} are read", entries.len()));
        }
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, entry) in entries.iter().enumerate() {
            match Jwk::read(entry).and_then(|jwk| jwk.verifying_key(algorithms)) {
                Ok(key) => keys.push(key),
                Err(why) => skipped.push(format!("key {}: {why}", called(index, entry))),
            }
        }
        Ok(Self::with(keys, skipped))
    }
}

/// One entry of a set.
struct Jwk<'a>(&'a Map<String, Value>);

/// What a public key can verify with; an algorithm belongs to one of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl<'a> Jwk<'a> {
    fn read(entry: &'a Value) -> Result<Self, String> {
        entry.as_object().map(Self).ok_or_else(|| "it is no object".to_owned())
    }

    fn verifying_key(&self, algorithms: &[JwsAlgorithm]) -> Result<VerifyingKey, String> {
        let name = self.name()?;
        let kty = self.text("kty")?.ok_or("it has no `kty`")?;
        if kty == "oct" {
            return Err("a secret (`oct`) is never taken from a key set: whoever can read the set could sign".to_owned());
        }
        if let Some(member) = PRIVATE.iter().find(|member| self.0.contains_key(**member)) {
            return Err(format!(
                "it holds the PRIVATE key (`{member}`): whoever can read the set can sign; its issuer must replace the key"
            ));
        }
        self.judge_usage()?;
        let (kind, encoded) = match kty {
            "RSA" => (Kind::Rsa, self.rsa()?),
            "EC" => self.point()?,
            "OKP" => self.edwards()?,
            other => return Err(format!("its kind {:?} is not known", shortened(other))),
        };
        VerifyingKey::public(name, &self.algorithms(kind, algorithms)?, &encoded)
    }

    fn name(&self) -> Result<KeyName, String> {
        match self.text("kid")? {
            None => Ok(KeyName::Unnamed),
            Some(kid) if kid.len() > MAX_KID_BYTES || kid.contains(char::is_control) => {
                Err(format!("its `kid` has control characters or more than {MAX_KID_BYTES} bytes"))
            }
            Some(kid) => Ok(KeyName::Kid(kid.to_owned())),
        }
    }

    /// RFC 7517, sections 4.2 and 4.3. Without either member a key may be used for anything.
    fn judge_usage(&self) -> Result<(), String> {
        if let Some(usage) = self.text("use")?.filter(|usage| *usage != "sig") {
            return Err(format!("its `use` is {:?} and not \"sig\"", shortened(usage)));
        }
        match self.0.get("key_ops") {
            None => Ok(()),
            Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => Ok(()),
            Some(_) => Err("its `key_ops` does not list \"verify\"".to_owned()),
        }
    }

    /// Those of the issuer's algorithms that are this key's, at least one.
    fn algorithms(&self, kind: Kind, issuers: &[JwsAlgorithm]) -> Result<Vec<JwsAlgorithm>, String> {
        let fitting = issuers.iter().copied().filter(|algorithm| kind_of(*algorithm) == Some(kind));
        match self.text("alg")? {
            None => Ok(fitting.collect()),
            Some(own) => match fitting.into_iter().find(|algorithm| algorithm.as_str() == own) {
                Some(algorithm) => Ok(vec![algorithm]),
                None => Err(format!("its `alg` {:?} is not the issuer's or not for such a key", shortened(own))),
            },
        }
    }

    /// The DER of X.509. RFC 7518, section 6.3.1.
    fn rsa(&self) -> Result<Vec<u8>, String> {
        let (n, e) = (self.bytes("n")?, self.bytes("e")?);
        let first = n.first().copied().unwrap_or_default();
        if first == 0 {
            return Err("its `n` is empty or begins with a zero byte".to_owned());
        }
        let bits = n.len() * 8 - first.leading_zeros() as usize;
        if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
            return Err(format!("it is an RSA key of {bits} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are taken"));
        }
        // An exponent of more than 32 bits makes verifying slow, and 1 makes everything a signature of itself.
        let exponent = if e.len() > 4 { 0 } else { e.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)) };
        if e.first() == Some(&0) || exponent < 3 || exponent % 2 == 0 || n.last().is_none_or(|last| last % 2 == 0) {
            return Err("its RSA exponent or modulus is none that a key may have".to_owned());
        }
        if is_roca(&n) {
            return Err("it is an RSA key whose primes can be found from it (CVE-2017-15361)".to_owned());
        }
        let parsed = PublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
        parsed.map(|key| key.as_ref().to_vec()).map_err(|error| format!("it is no RSA key ({error})"))
    }

    /// An uncompressed point (SEC 1, section 2.3.3) of coordinates in full length (RFC 7518, section 6.2.1). Whether it lies
    /// on the curve is judged with the key.
    fn point(&self) -> Result<(Kind, Vec<u8>), String> {
        let (kind, size) = match self.text("crv")?.unwrap_or_default() {
            "P-256" => (Kind::P256, 32),
            "P-384" => (Kind::P384, 48),
            other => return Err(format!("its curve {:?} is not known", shortened(other))),
        };
        let (x, y) = (self.bytes("x")?, self.bytes("y")?);
        if x.len() != size || y.len() != size {
            return Err(format!("its coordinates do not have the {size} bytes of the curve"));
        }
        Ok((kind, [&[4], x.as_slice(), y.as_slice()].concat()))
    }

    /// RFC 8037, section 2.
    fn edwards(&self) -> Result<(Kind, Vec<u8>), String> {
        match self.text("crv")?.unwrap_or_default() {
            "Ed25519" => Ok((Kind::Ed25519, self.bytes("x")?)),
            other => Err(format!("its curve {:?} is not known", shortened(other))),
        }
    }

    fn bytes(&self, member: &str) -> Result<Vec<u8>, String> {
        let text = self.text(member)?.ok_or_else(|| format!("it has no `{member}`"))?;
        URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("its `{member}` is no base64url"))
    }

    fn text(&self, member: &str) -> Result<Option<&'a str>, String> {
        match self.0.get(member) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("its `{member}` is no text")),
        }
    }
}

fn called(index: usize, entry: &Value) -> String {
    let kid = entry.get("kid").and_then(Value::as_str);
    kid.map_or_else(|| format!("{} (without kid)", index + 1), |kid| format!("{:?}", shortened(kid)))
}

/// `None` for those that take a secret.
fn kind_of(algorithm: JwsAlgorithm) -> Option<Kind> {
    match algorithm {
        JwsAlgorithm::Hs256 | JwsAlgorithm::Hs384 | JwsAlgorithm::Hs512 => None,
        JwsAlgorithm::Rs256 | JwsAlgorithm::Rs384 | JwsAlgorithm::Rs512 => Some(Kind::Rsa),
        JwsAlgorithm::Ps256 | JwsAlgorithm::Ps384 | JwsAlgorithm::Ps512 => Some(Kind::Rsa),
        JwsAlgorithm::Es256 => Some(Kind::P256),
        JwsAlgorithm::Es384 => Some(Kind::P384),
        JwsAlgorithm::EdDsa => Some(Kind::Ed25519),
    }
}

/// Whether the modulus was made by the faulty library of CVE-2017-15361: its primes are powers of 65537 modulo many small
/// primes, and so is their product; of other moduli about one in 2^27 is (Nemec et al., ACM CCS 2017, section 3).
fn is_roca(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
    PRIMES.iter().all(|&prime| {
        let rest = modulus.iter().fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % prime);
        let step = |power: &u32| Some(power * (65537 % prime) % prime);
        std::iter::successors(Some(1), step).take(prime as usize).any(|power| power == rest)
    })
}

/// Members of private keys (RFC 7518, sections 6.2.2 and 6.3.2; RFC 8037, section 2).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
const MAX_SET_BYTES: usize = 1 << 20;
const MAX_KEYS: usize = 100;
const MAX_KID_BYTES: usize = 256;
const MIN_RSA_BITS: usize = 2048;
const MAX_RSA_BITS: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::fixture::{PUBLIC, Pair, SECRET, encoded, jwks};
    use crate::token::header::{Header, Parts};
    use crate::token::{Origin, kid_of};
    use proptest::prelude::*;
    use serde_json::json;

    fn set(keys: &[Value]) -> KeySet {
        KeySet::parse(&jwks(keys), &PUBLIC).unwrap()
    }

    /// The outcome of the signature alone.
    fn judged(keys: &KeySet, token: &str) -> &'static str {
        let parts = Parts::of(token).unwrap();
        let header = Header::read(parts.header, Origin::Foreign).unwrap();
        let judged = keys.verify(header.kid.as_deref(), &header.alg, parts.message.as_bytes(), parts.signature);
        judged.map_or_else(|denial| denial.code(), |()| "accepted")
    }

    fn token(pair: &Pair, alg: &str, kid: Option<&str>) -> String {
        let header = kid.map_or_else(|| json!({ "alg": alg }), |kid| json!({ "alg": alg, "kid": kid }));
        pair.token(&header, &json!({ "sub": "1" }))
    }

    fn changed(jwk: &Value, member: &str, value: Value) -> Value {
        let mut jwk = jwk.clone();
        jwk[member] = value;
        jwk
    }

    /// Why a key is left out.
    fn reason(jwk: Value) -> String {
        let set = set(&[jwk]);
        assert_eq!(set.len(), 0);
        set.skipped().join(" and ").replace("key \"k\": ", "")
    }

    /// F1: a key serves its own algorithms, whatever the token says, and the `alg` of a JWK leaves it one.
    #[test]
    fn the_kind_of_a_key_pins_its_algorithms() {
        for pair in [Pair::rsa(), Pair::p256(), Pair::p384(), Pair::ed25519()] {
            let jwk = pair.jwk(Some("k"));
            let keys = set(std::slice::from_ref(&jwk));
            assert_eq!(keys.describe(), [("k".to_owned(), pair.algorithms().to_vec())]);
            for algorithm in PUBLIC.into_iter().chain(SECRET) {
                let fits = pair.algorithms().contains(&algorithm);
                let expected = if fits { "accepted" } else { "token_algorithm" };
                assert_eq!(judged(&keys, &token(&pair, algorithm.as_str(), Some("k"))), expected, "{algorithm:?}");
            }
            for algorithm in PUBLIC {
                let pinned = set(&[changed(&jwk, "alg", algorithm.as_str().into())]);
                let fits = pair.algorithms().contains(&algorithm);
                assert_eq!(pinned.len(), usize::from(fits), "{algorithm:?}");
                for other in pair.algorithms().iter().filter(|other| fits && **other != algorithm) {
                    assert_eq!(judged(&pinned, &token(&pair, other.as_str(), Some("k"))), "token_algorithm");
                }
            }
        }
    }

    /// F1: the issuer's list holds, whatever its key set allows.
    #[test]
    fn an_algorithm_that_is_not_the_issuers_is_refused() {
        let pair = Pair::rsa();
        let keys = KeySet::parse(&jwks(&[pair.jwk(Some("k"))]), &[JwsAlgorithm::Rs256, JwsAlgorithm::Es256]).unwrap();
        assert_eq!(keys.describe(), [("k".to_owned(), vec![JwsAlgorithm::Rs256])]);
        assert_eq!(judged(&keys, &token(&pair, "PS256", Some("k"))), "token_algorithm");
        let none = KeySet::parse(&jwks(&[pair.jwk(Some("k"))]), &[JwsAlgorithm::Es256, JwsAlgorithm::Hs256]).unwrap();
        assert_eq!(none.skipped(), ["key \"k\": no algorithm that the issuer may use goes with it"]);
    }

    /// G4: keys that are weak, broken or for something else are left out, each with its reason.
    #[test]
    fn a_key_that_cannot_be_used_is_left_out_with_its_reason() {
        let rsa = Pair::rsa().jwk(Some("k"));
        let n = URL_SAFE_NO_PAD.decode(rsa["n"].as_str().unwrap()).unwrap();
        let modulus = |bytes: Vec<u8>| changed(&rsa, "n", encoded(&bytes).into());
        let odd = |bytes: usize| modulus(vec![0xff; bytes]);
        let exponent = |bytes: &[u8]| changed(&rsa, "e", encoded(bytes).into());
        let (ec, ed) = (Pair::p256().jwk(Some("k")), Pair::ed25519().jwk(Some("k")));
        let bad_rsa = "its RSA exponent or modulus is none that a key may have";
        let coordinates = "its coordinates do not have the 32 bytes of the curve";
        let key_ops = "its `key_ops` does not list \"verify\"";
        let secret = "a secret (`oct`) is never taken from a key set: whoever can read the set could sign";
        let cases = [
            (odd(64), "it is an RSA key of 512 bits; 2048 to 8192 are taken"),
            (odd(255), "it is an RSA key of 2040 bits; 2048 to 8192 are taken"),
            (modulus([&[0x7f], &n[1..]].concat()), "it is an RSA key of 2047 bits; 2048 to 8192 are taken"),
            (odd(1025), "it is an RSA key of 8200 bits; 2048 to 8192 are taken"),
            (modulus([&[0], n.as_slice()].concat()), "its `n` is empty or begins with a zero byte"),
            (modulus(Vec::new()), "its `n` is empty or begins with a zero byte"),
            (modulus([&n[..255], &[2]].concat()), bad_rsa),
            (exponent(&[1]), bad_rsa),
            (exponent(&[2]), bad_rsa),
            (exponent(&[0]), bad_rsa),
            (exponent(&[]), bad_rsa),
            (exponent(&[1, 0, 0]), bad_rsa),
            (exponent(&[0, 1, 0, 1]), bad_rsa),
            (exponent(&[1, 0, 0, 0, 1]), bad_rsa),
            (changed(&rsa, "e", json!(65537)), "its `e` is no text"),
            (changed(&rsa, "n", json!("AQ==")), "its `n` is no base64url"),
            (changed(&ec, "y", ec["x"].clone()), "it is no key for ES256 (InvalidEncoding)"),
            (changed(&ec, "x", encoded(&[0; 31]).into()), coordinates),
            (changed(&ec, "x", encoded(&[0; 33]).into()), coordinates),
            (changed(&ec, "crv", json!("P-384")), "its coordinates do not have the 48 bytes of the curve"),
            (changed(&ec, "crv", json!("secp256k1")), "its curve \"secp256k1\" is not known"),
            (changed(&ec, "kty", json!("RSA")), "it has no `n`"),
            (changed(&ed, "crv", json!("X25519")), "its curve \"X25519\" is not known"),
            (changed(&ed, "x", encoded(&[0; 31]).into()), "it is no key for EdDSA (InvalidEncoding)"),
            (changed(&ed, "kty", json!("AKP")), "its kind \"AKP\" is not known"),
            (changed(&ed, "kty", Value::Null), "its `kty` is no text"),
            (changed(&ed, "use", json!("enc")), "its `use` is \"enc\" and not \"sig\""),
            (changed(&ed, "use", json!(["sig"])), "its `use` is no text"),
            (changed(&ed, "key_ops", json!(["sign"])), key_ops),
            (changed(&ed, "key_ops", json!("verify")), key_ops),
            (changed(&ed, "alg", json!("none")), "its `alg` \"none\" is not the issuer's or not for such a key"),
            (changed(&ec, "alg", json!("RS256")), "its `alg` \"RS256\" is not the issuer's or not for such a key"),
            (changed(&rsa, "alg", json!("HS256")), "its `alg` \"HS256\" is not the issuer's or not for such a key"),
            (json!({ "kty": "oct", "kid": "k", "k": encoded(&[7; 32]) }), secret),
            (json!({ "kid": "k" }), "it has no `kty`"),
            (json!({ "kid": 1 }), "key 1 (without kid): its `kid` is no text"),
            (json!("key"), "key 1 (without kid): it is no object"),
        ];
        for (jwk, expected) in cases {
            assert_eq!(reason(jwk.clone()), expected, "{jwk}");
        }
        let odd_names = [json!("a\nb"), json!("a".repeat(257))];
        for (kid, shown) in odd_names.into_iter().zip([r"a\nb".to_owned(), "a".repeat(64)]) {
            let expected = format!("key \"{shown}\": its `kid` has control characters or more than 256 bytes");
            assert_eq!(reason(changed(&ed, "kid", kid)), expected);
        }
    }

    #[test]
    fn a_private_key_in_a_set_is_left_out_loudly() {
        for (jwk, member) in
            [(Pair::rsa().jwk(Some("k")), "qi"), (Pair::p256().jwk(Some("k")), "d"), (Pair::ed25519().jwk(Some("k")), "d")]
        {
            let found = reason(changed(&jwk, member, json!("AQAB")));
            assert!(found.starts_with(&format!("it holds the PRIVATE key (`{member}`): ")), "{found}");
        }
    }

    /// G4: keys of a library whose keys can be taken apart. Here small numbers of the same residues.
    #[test]
    fn moduli_of_a_library_that_made_weak_keys_are_known() {
        assert!(is_roca(&65537_u64.to_be_bytes()) && is_roca(&65537_u64.pow(3).to_be_bytes()));
        assert!(!is_roca(&65539_u64.to_be_bytes()) && !is_roca(&[0]) && !is_roca(&[]));
        assert_eq!(set(&[Pair::rsa().jwk(Some("k"))]).len(), 1);
    }

    /// G4: what is no key set is refused whole.
    #[test]
    fn a_document_that_is_no_key_set_is_refused() {
        let json_error = "the key set is no JSON object that can be read in one way only";
        let list_error = "the key set has no list `keys` (RFC 7517, section 5)";
        let deep = format!(r#"{{"keys":[],"x":{}}}"#, "[".repeat(100_000));
        let many = |keys: usize| jwks(&vec![json!({}); keys]);
        let large = [b"{".as_slice(), &vec![b' '; MAX_SET_BYTES]].concat();
        let cases: [(&[u8], &str); 12] = [
            (b"", json_error),
            (b"<html>", json_error),
            (b"[]", json_error),
            (br#"{"keys":[],"keys":[]}"#, json_error),
            (br#"{"keys":[{"kid":"a","\u006bid":"b"}]}"#, json_error),
            (b"{\"keys\":[]}\xff", json_error),
            (deep.as_bytes(), json_error),
            (b"{}", list_error),
            (br#"{"keys":{}}"#, list_error),
            (&many(101), "the key set lists 101 keys; at most 100 are read"),
            (&many(1000), "the key set lists 1000 keys; at most 100 are read"),
            (&large, "the key set has 1048577 bytes; at most 1048576 are read"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(KeySet::parse(bytes, &PUBLIC).unwrap_err(), expected, "{:.60}", String::from_utf8_lossy(bytes));
        }
        let most = KeySet::parse(&many(100), &PUBLIC).unwrap();
        assert_eq!((most.len(), most.skipped().len(), most.is_empty()), (0, 100, true));
    }

    /// G4: one odd key does not take the good ones along.
    #[test]
    fn a_bad_key_leaves_the_others_in_use() {
        let pair = Pair::ed25519();
        let keys = set(&[
            json!({ "kty": "new" }),
            pair.jwk(Some("good")),
            json!(7),
            changed(&pair.jwk(Some("enc")), "use", json!("enc")),
        ]);
        assert_eq!((keys.len(), keys.skipped().len()), (1, 3));
        assert!(keys.knows("good") && !keys.knows("enc") && !keys.knows("") && !keys.knows("Good"));
        assert_eq!(judged(&keys, &token(&pair, "EdDSA", Some("good"))), "accepted");
    }

    #[test]
    fn two_keys_of_one_kid_are_none_and_one_key_twice_is_one() {
        let (one, other) = (Pair::ed25519(), Pair::ed25519());
        let both = set(&[one.jwk(Some("k")), other.jwk(Some("k")), other.jwk(Some("fine"))]);
        assert_eq!(both.describe(), [("fine".to_owned(), vec![JwsAlgorithm::EdDsa])]);
        assert_eq!(both.skipped(), ["key \"k\": another key has the same kid"; 2]);
        for pair in [&one, &other] {
            assert_eq!(judged(&both, &token(pair, "EdDSA", Some("k"))), "token_key_unknown");
        }
        let twice = set(&[one.jwk(Some("k")), changed(&one.jwk(Some("k")), "x5t", json!("…"))]);
        assert_eq!((twice.len(), twice.skipped()), (1, &[][..]));
        assert_eq!(judged(&twice, &token(&one, "EdDSA", Some("k"))), "accepted");
    }

    /// F7: a kid is compared and nothing else.
    #[test]
    fn a_kid_leads_to_its_own_key_only() {
        let (first, second) = (Pair::ed25519(), Pair::ed25519());
        let keys = set(&[first.jwk(Some("a")), second.jwk(Some("b"))]);
        assert_eq!(judged(&keys, &token(&first, "EdDSA", Some("a"))), "accepted");
        assert_eq!(judged(&keys, &token(&first, "EdDSA", Some("b"))), "token_signature");
        for kid in ["", "A", "a ", "../a", "a\0", "' or 1=1 --", "http://127.0.0.1/jwks", "é"] {
            assert_eq!(judged(&keys, &token(&first, "EdDSA", Some(kid))), "token_key_unknown", "{kid:?}");
            assert_eq!(kid_of(&token(&first, "EdDSA", Some(kid))).as_deref(), Some(kid));
        }
    }

    #[test]
    fn a_token_without_kid_is_taken_where_one_key_fits() {
        let (rsa, ec, other) = (Pair::rsa(), Pair::p256(), Pair::p256());
        let keys = set(&[rsa.jwk(Some("a")), ec.jwk(Some("b"))]);
        assert_eq!(judged(&keys, &token(&rsa, "PS512", None)), "accepted");
        assert_eq!(judged(&keys, &token(&ec, "ES256", None)), "accepted");
        assert_eq!(judged(&keys, &token(&ec, "ES384", None)), "token_algorithm");
        let two = set(&[ec.jwk(Some("a")), other.jwk(None)]);
        assert_eq!(judged(&two, &token(&ec, "ES256", None)), "token_key_unknown");
        assert_eq!(judged(&KeySet::of(Vec::new()), &token(&ec, "ES256", None)), "token_key_unknown");
    }

    #[test]
    fn a_key_without_kid_is_for_tokens_without_kid() {
        let pair = Pair::p384();
        let keys = set(&[pair.jwk(None)]);
        assert_eq!(keys.describe(), [(String::new(), vec![JwsAlgorithm::Es384])]);
        assert_eq!(judged(&keys, &token(&pair, "ES384", None)), "accepted");
        for kid in ["", "a"] {
            assert_eq!(judged(&keys, &token(&pair, "ES384", Some(kid))), "token_key_unknown", "{kid:?}");
        }
    }

    /// G2: one kid at two issuers is two keys.
    #[test]
    fn a_key_of_one_issuer_is_nothing_at_another() {
        let (ours, theirs) = (Pair::p256(), Pair::p256());
        let (our_keys, their_keys) = (set(&[ours.jwk(Some("1"))]), set(&[theirs.jwk(Some("1"))]));
        assert_eq!(judged(&our_keys, &token(&ours, "ES256", Some("1"))), "accepted");
        assert_eq!(judged(&our_keys, &token(&theirs, "ES256", Some("1"))), "token_signature");
        assert_eq!(judged(&their_keys, &token(&ours, "ES256", Some("1"))), "token_signature");
        assert_ne!(our_keys, their_keys);
    }

    #[test]
    fn sets_are_equal_where_they_take_the_same_tokens() {
        let (a, b) = (Pair::ed25519().jwk(Some("a")), Pair::p256().jwk(Some("b")));
        let both = set(&[a.clone(), b.clone()]);
        assert_eq!(both, set(&[b.clone(), changed(&a, "x5u", json!("http://127.0.0.1/")), json!({ "kty": "new" })]));
        assert_ne!(both, set(std::slice::from_ref(&a)));
        assert_ne!(both, set(&[a.clone(), changed(&b, "kid", json!("c"))]));
        assert_ne!(both, KeySet::parse(&jwks(&[a, b]), &[JwsAlgorithm::EdDsa]).unwrap());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(KeySet::parse(&bytes, &PUBLIC).map_or(0, |set| set.len()), 0);
        }

        #[test]
        fn no_members_make_it_panic(
            kty in "RSA|EC|OKP|oct", crv in "P-256|P-384|Ed25519|", n in "[A-Za-z0-9_-]{0,350}", e in "[A-Za-z0-9_-]{0,6}", x in "[A-Za-z0-9_-]{40,70}",
        ) {
            let key = json!({ "kty": kty, "crv": crv, "n": n, "e": e, "x": x, "y": x });
            let set = set(&[key]);
            prop_assert_eq!(set.len() + set.skipped().len(), 1);
        }
    }
}
