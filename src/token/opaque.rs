//! Keys and other credentials that mean nothing by themselves: how they are made and how a typing error is told from a
//! guess without asking the store. Looking a key up and comparing its digest is not done here.
//!
//! `<prefix><id, 10 of a-z 0-9>_<secret, 43 of 0-9 A-Z a-z>_<checksum, 6 of the same>`. The secret has 256 bits. The
//! checksum is the CRC-32 (ISO-HDLC, as in zip) of everything before the last `_`, written in base 62, most significant
//! digit first.

use zeroize::Zeroizing;

use crate::identity::Secret;
use crate::random;
use crate::rejection::Denial;

/// How the keys of one API look.
#[derive(Clone, Debug)]
pub struct KeyFormat {
    /// What new keys begin with, e.g. `gw_live_`.
    pub prefix: String,
    /// What other keys of the API may begin with.
    pub also: Vec<String>,
    /// What the keys of all environments begin with.
    pub family: String,
    /// What keys may begin with that were made elsewhere: these have any form.
    pub foreign: Vec<String>,
}

/// What the text of a key is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyName<'a> {
    /// The part of its id that the text holds.
    Id(&'a str),
    /// The digest of the whole text, which holds nothing that names it.
    Digest,
}

/// A new key. The secret is the whole text, shown once.
#[derive(Debug)]
pub struct Minted {
    /// The public part that finds the key again.
    pub id_part: String,
    pub secret: Secret,
}

impl KeyFormat {
    pub fn mint(&self) -> Minted {
        let id_part = random::word(ID_LENGTH);
        let secret = base62_secret();
        let body = Zeroizing::new(format!("{}{id_part}_{}", self.prefix, secret.as_str()));
        let key = format!("{}_{}", body.as_str(), checksum(&body));
        Minted { id_part, secret: Secret::new(key) }
    }

    /// How a key is found, before any look-up. One of this format names its id; one that was made elsewhere is known as a
    /// whole only.
    ///
    /// # Errors
    /// Those of a text that begins like a key of this format and is none: it is not looked up.
    pub fn name<'a>(&self, text: &'a str) -> Result<KeyName<'a>, Denial> {
        let begins = |prefixes: &[String]| prefixes.iter().any(|prefix| text.starts_with(prefix.as_str()));
        let is_own = text.starts_with(&self.family) || text.starts_with(&self.prefix) || begins(&self.also);
        match self.parse(text) {
            Ok(id) => Ok(KeyName::Id(id)),
            // Form and length are right: a typing error, also where keys made elsewhere begin the same.
            Err(Denial::KeyChecksum) => Err(Denial::KeyChecksum),
            Err(denial) if is_own && !begins(&self.foreign) => Err(denial),
            Err(_) => Ok(KeyName::Digest),
        }
    }

    /// The id of a key of this format, before any look-up: the whole key is to be compared after it.
    ///
    /// # Errors
    /// [`Denial::KeyMalformed`] or, where only the checksum is wrong, [`Denial::KeyChecksum`].
    fn parse<'a>(&self, text: &'a str) -> Result<&'a str, Denial> {
        const SHAPE: Denial = Denial::KeyMalformed { what: "it does not have the length and form of a key" };
        let mut rests = std::iter::once(&self.prefix).chain(&self.also).filter_map(|prefix| text.strip_prefix(prefix.as_str()));
        let Some(first) = rests.next() else { return Err(Denial::KeyMalformed { what: "it does not begin like a key" }) };
        // One accepted prefix may begin another: the length says which was meant.
        let rest = std::iter::once(first).chain(rests).find(|rest| rest.len() == REST_LENGTH).ok_or(SHAPE)?;
        let mut parts = rest.split('_');
        let (Some(id), Some(secret), Some(sum), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(SHAPE);
        };
        let id_fits = id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let in_alphabet = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !id_fits || secret.len() != SECRET_LENGTH || !in_alphabet(secret) || !in_alphabet(sum) {
            return Err(SHAPE);
        }
        let (body, _) = text.rsplit_once('_').ok_or(SHAPE)?;
        if checksum(body) == sum { Ok(id) } else { Err(Denial::KeyChecksum) }
    }
}

fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [b'0'; SUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = base62(rest % 62);
        rest /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

/// 43 digits of base 62, each drawn evenly: 256.03 bits.
fn base62_secret() -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(SECRET_LENGTH));
    while out.len() < SECRET_LENGTH {
        let drawn = Zeroizing::new(random::bytes::<64>());
        // 248 is the largest multiple of 62 below 256: bytes above it would favour the first digits.
        let even = drawn.iter().filter(|&&byte| byte < 248).take(SECRET_LENGTH - out.len());
        out.extend(even.map(|&byte| char::from(base62(u32::from(byte) % 62))));
    }
    out
}

fn base62(digit: u32) -> u8 {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    usize::try_from(digit).ok().and_then(|digit| ALPHABET.get(digit)).copied().unwrap_or(b'0')
}

const ID_LENGTH: usize = 10;
const SECRET_LENGTH: usize = 43;
const SUM_LENGTH: usize = 6;
const REST_LENGTH: usize = ID_LENGTH + 1 + SECRET_LENGTH + 1 + SUM_LENGTH;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn format() -> KeyFormat {
        KeyFormat { prefix: "gw_live_".into(), also: vec!["sk_".into()], family: "gw_".into(), foreign: Vec::new() }
    }

    fn refused(text: &str) -> &'static str {
        format().parse(text).unwrap_err().code()
    }

    #[test]
    fn a_minted_key_parses_to_its_id_and_no_two_are_alike() {
        let mut seen = HashSet::new();
        for _ in 0..200 {
            let minted = format().mint();
            assert_eq!(format().parse(minted.secret.expose()).unwrap(), minted.id_part);
            assert_eq!(minted.secret.expose().len(), "gw_live_".len() + 61);
            assert!(seen.insert(minted.secret.expose().to_owned()));
        }
    }

    #[test]
    fn the_format_is_stable() {
        let body = "gw_live_abcdef0123_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";
        // Computed with another implementation of CRC-32 (zlib).
        assert_eq!(format().parse(&format!("{body}_3cWgOT")).unwrap(), "abcdef0123");
    }

    #[test]
    fn every_other_prefix_is_no_key() {
        let minted = format().mint();
        let rest = minted.secret.expose().strip_prefix("gw_live_").unwrap();
        for prefix in ["", "gw_test_", "GW_LIVE_", "gw_live", " gw_live_", "gw_live__"] {
            let code = refused(&format!("{prefix}{rest}"));
            assert_eq!(code, "key_malformed", "{prefix}");
        }
    }

    #[test]
    fn keys_of_the_other_prefixes_are_taken_and_their_checksum_covers_the_prefix() {
        let other = KeyFormat { prefix: "sk_".into(), also: Vec::new(), ..format() }.mint();
        assert_eq!(format().parse(other.secret.expose()).unwrap(), other.id_part);
        let swapped = other.secret.expose().replacen("sk_", "gw_live_", 1);
        assert_eq!(refused(&swapped), "key_checksum");
        let nested = KeyFormat { prefix: "sk_".into(), also: vec!["sk_live_".into()], ..format() };
        let long = KeyFormat { prefix: "sk_live_".into(), also: Vec::new(), ..format() }.mint();
        assert_eq!(nested.parse(long.secret.expose()).unwrap(), long.id_part);
    }

    #[test]
    fn a_key_cut_short_or_made_longer_is_malformed() {
        let minted = format().mint();
        let key = minted.secret.expose();
        for length in 0..key.len() {
            assert_eq!(refused(key.get(..length).unwrap()), "key_malformed", "{length}");
        }
        for more in ["0", "_", " ", "\n", "_000000"] {
            assert_eq!(refused(&format!("{key}{more}")), "key_malformed", "{more:?}");
        }
    }

    /// H2: nothing here could look a key up.
    #[test]
    fn one_wrong_letter_is_found_without_a_look_up() {
        let minted = format().mint();
        let key = minted.secret.expose();
        for at in "gw_live_".len()..key.len() {
            let old = key.as_bytes()[at];
            let new = if old == b'7' { '8' } else { '7' };
            let mut changed = key.to_owned();
            changed.replace_range(at..=at, &new.to_string());
            let expected = if old == b'_' { "key_malformed" } else { "key_checksum" };
            assert_eq!(refused(&changed), expected, "{at}");
        }
    }

    /// H2: what only begins like a key of ours is not looked up either, unless others make keys that begin so.
    #[test]
    fn keys_made_elsewhere_are_named_by_their_digest() {
        let minted = format().mint();
        let mixed = KeyFormat { foreign: vec!["sk_".into()], ..format() };
        let own = minted.secret.expose();
        let typo = format!("{}{}", own.get(..own.len() - 1).unwrap(), if own.ends_with('7') { '8' } else { '7' });
        let name = |format: &KeyFormat, text: &str| match format.name(text) {
            Ok(KeyName::Id(id)) => format!("id {id}"),
            Ok(KeyName::Digest) => "digest".to_owned(),
            Err(denial) => denial.code().to_owned(),
        };
        for (text, alone, beside_others) in [
            (own, format!("id {}", minted.id_part).as_str(), format!("id {}", minted.id_part).as_str()),
            (&typo, "key_checksum", "key_checksum"),
            (&typo.replacen("gw_live_", "sk_", 1), "key_checksum", "key_checksum"),
            ("gw_live_abc", "key_malformed", "key_malformed"),
            ("sk_0123456789", "key_malformed", "digest"),
            ("ak_0123456789", "digest", "digest"),
            ("gw_live", "key_malformed", "key_malformed"),
            ("gw", "digest", "digest"),
        ] {
            assert_eq!((name(&format(), text).as_str(), name(&mixed, text).as_str()), (alone, beside_others), "{text}");
        }
    }

    #[test]
    fn letters_outside_the_alphabet_are_malformed() {
        let minted = format().mint();
        let key = minted.secret.expose();
        for (at, letter) in [(8, 'A'), (8, '-'), (20, '-'), (20, '_'), (64, '+'), (20, '\u{0}')] {
            let mut changed = key.to_owned();
            changed.replace_range(at..=at, &letter.to_string());
            assert_eq!(refused(&changed), "key_malformed", "{at} {letter:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(gw_live_|sk_)?\\PC{0,80}") {
            prop_assert!(format().parse(&text).is_err() || text.starts_with("gw_live_") || text.starts_with("sk_"));
        }
    }
}
