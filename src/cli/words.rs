//! Values of options, parsed: one that exists is short enough, shows what it is, and is safe wherever it goes (lists,
//! headers, logs).

use crate::cli::output::is_invisible;
use crate::clock::Timestamp;
use crate::config::value::{is_everyone, parse_duration};
use crate::identity::{Membership, Networks, Scope};

/// `KEY=VALUE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub key: String,
    pub value: String,
}

/// When a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    After(std::time::Duration),
    At(Timestamp),
}

/// A text for people: a login name, a display name, a key's name.
pub fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.trim() != text {
        return Err("it is empty, or begins or ends with a blank".to_owned());
    }
    line(text)
}

/// A role or a tenant: it stands in headers and in lists.
pub fn word(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'@' | b'-');
    match (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected 1 to {MAX_BYTES} of a-z, A-Z, 0-9, `_`, `.`, `:`, `@` and `-`")),
    }
}

/// An id that an upstream gave out: like a [`word`], with the marks that such ids have besides.
pub fn id(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.:@-|/+=~".contains(&b);
    match (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err("expected 1 to 128 of a-z, A-Z, 0-9 and `_.:@-|/+=~`".to_owned()),
    }
}

pub fn email(text: &str) -> Result<String, String> {
    let wrong = || "expected an address such as alice@example.com".to_owned();
    let (local, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
    match local.is_empty() || domain.is_empty() || text.contains(char::is_whitespace) {
        true => Err(wrong()),
        false => line(text),
    }
}

pub fn attribute(text: &str) -> Result<Attribute, String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok(Attribute { key: word(key)?, value: line(value)? })
}

pub fn membership(text: &str) -> Result<Membership, String> {
    let (tenant, role) = text.split_once('=').ok_or("expected TENANT=ROLE")?;
    Ok(Membership { tenant: word(tenant)?.into(), role: word(role)?.into() })
}

pub fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).ok_or_else(|| "expected a scope such as items:read".to_owned())
}

/// One network, as a list of one.
pub fn network(text: &str) -> Result<Networks, String> {
    let network = Networks::parse_one(text).ok_or("expected a network such as 10.0.0.0/8, or one address")?;
    match is_everyone(&network) {
        true => Err("that is every address: leave it out for that".to_owned()),
        false => Ok(Networks::from_iter([network])),
    }
}

/// A duration from now, or a moment.
pub fn expiry(text: &str) -> Result<Expiry, String> {
    let wrong = "expected a duration such as 90d or 12h, or a moment such as 2030-01-31T00:00:00Z";
    match (parse_duration(text), Timestamp::parse_rfc3339(text)) {
        (Ok(duration), _) if duration.is_zero() => Err("it would have expired already".to_owned()),
        (Ok(duration), _) => Ok(Expiry::After(duration)),
        (Err(_), Some(at)) => Ok(Expiry::At(at)),
        (Err(_), None) => Err(wrong.to_owned()),
    }
}

impl Expiry {
    /// `None` when it is over.
    pub fn moment(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::After(duration) => Some(now.plus(duration)),
            Self::At(at) => Some(at).filter(|at| *at > now),
        }
    }
}

/// One line of printable text.
fn line(text: &str) -> Result<String, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("it is longer than {MAX_BYTES} bytes"));
    }
    match text.contains(|c: char| c.is_control() || is_invisible(c)) {
        true => Err("it holds characters that do not show".to_owned()),
        false => Ok(text.to_owned()),
    }
}

const MAX_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn names_show_what_they_are() {
        assert_eq!(name("Zoë Müller"), Ok("Zoë Müller".to_owned()));
        assert_eq!(name(&"x".repeat(256)), Ok("x".repeat(256)));
        for wrong in ["", " alice", "alice\t", "a\nb", "a\u{0}", "admin\u{200b}", "\u{202e}nimda", "a\u{9b}b", &"x".repeat(257)] {
            assert_eq!(name(wrong).ok(), None, "{wrong:?}");
        }
    }

    #[test]
    fn roles_and_tenants_cannot_break_a_list_or_a_header() {
        assert_eq!(word("team-1:eu.west@x_2"), Ok("team-1:eu.west@x_2".to_owned()));
        for wrong in ["", "a b", "a,b", "a;b", "a\"b", "a=b", "ä", "a\r\nX-Role: admin"] {
            assert_eq!(word(wrong).ok(), None, "{wrong:?}");
        }
        let membership = membership("prod=viewer").unwrap();
        assert_eq!((&*membership.tenant, &*membership.role), ("prod", "viewer"));
    }

    #[test]
    fn ids_of_other_systems_are_taken_as_they_are() {
        for right in ["42", "auth0|5f7c", "3f1e9a60-93b1-4a7e-8a5e-0d4a8e9f7b11", "abc=="] {
            assert_eq!(id(right), Ok(right.to_owned()));
        }
        for wrong in ["", "a b", "a,b", "ü", "a\n"] {
            assert_eq!(id(wrong).ok(), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_attribute_is_split_at_its_first_sign() {
        assert_eq!(attribute("plan=a=b"), Ok(Attribute { key: "plan".to_owned(), value: "a=b".to_owned() }));
        assert_eq!(attribute("plan"), Err("expected KEY=VALUE".to_owned()));
        assert_eq!(attribute("=x").ok(), None);
    }

    #[test]
    fn a_key_ends_later_than_now() {
        let now = Timestamp::from_seconds(1_710_583_200);
        assert_eq!(expiry("90d").map(|expiry| expiry.moment(now)), Ok(Some(now.plus(Duration::from_secs(7_776_000)))));
        assert_eq!(expiry("2024-03-16T10:00:01Z").map(|expiry| expiry.moment(now)), Ok(Some(now.plus(Duration::from_secs(1)))));
        assert_eq!(expiry("2024-03-16T10:00:00Z").map(|expiry| expiry.moment(now)), Ok(None));
        for wrong in ["", "0s", "90", "-1d", "tomorrow", "2024-03-16"] {
            assert_eq!(expiry(wrong).ok(), None, "{wrong}");
        }
    }

    #[test]
    fn every_address_is_no_limit() {
        assert_eq!(network("10.1.2.3").map(|networks| networks.iter().count()), Ok(1));
        for wrong in ["0.0.0.0/0", "::/0", "10.0.0.0/33", "example.com"] {
            assert_eq!(network(wrong).ok(), None, "{wrong}");
        }
    }

    #[test]
    fn an_email_has_two_sides() {
        assert_eq!(email("alice@example.com"), Ok("alice@example.com".to_owned()));
        for wrong in ["alice", "@example.com", "alice@", "a b@example.com", "a@b\u{200b}"] {
            assert_eq!(email(wrong).ok(), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_safe_wherever_it_goes(text in "\\PC{0,300}|[a-z=@,. \\r\\n]{0,12}") {
            let _ = (scope(&text), network(&text), expiry(&text));
            let texts = [name(&text), email(&text), attribute(&text).map(|attribute| attribute.value)];
            let words = [word(&text), id(&text), membership(&text).map(|membership| membership.role.to_string())];
            for found in texts.into_iter().chain(words.clone()).flatten() {
                prop_assert!(found.len() <= MAX_BYTES && !found.contains(char::is_control));
            }
            for found in words.into_iter().flatten() {
                prop_assert!(found.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',' && byte != b';'));
            }
        }
    }
}
