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
