//! One line of an import file: a JSON object, judged as far as it can be without the store. What is said of a line never
//! shows a value: a secret may stand in the wrong place.

use serde_json::{Map, Value};

use crate::cli::opened::unknown;
use crate::cli::words;
use crate::clock::Timestamp;
use crate::identity::{Digest, Networks, Scope, Secret};

/// A key that a client holds.
#[derive(Debug)]
pub struct Row {
    /// A login name, email or id.
    pub owner: String,
    pub name: String,
    /// `None`: what the contract gives a key for which none are named.
    pub scopes: Option<Vec<Scope>>,
    pub tenants: Vec<String>,
    pub allowed_ips: Networks,
    pub environment: Option<String>,
    pub created_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub text: Text,
}

/// The key's text.
#[derive(Debug)]
pub enum Text {
    Whole(Secret),
    /// Only what it can be recognised by.
    Hashed(Digest),
}

/// The members of a line that were not looked at yet, and what is wrong with those that were.
struct Members {
    left: Map<String, Value>,
    wrong: Vec<String>,
}

impl Row {
    /// # Errors
    /// Everything that is wrong with the line.
    pub fn parse(line: &str) -> Result<Self, Vec<String>> {
        let left = match serde_json::from_str(line) {
            Ok(Value::Object(left)) => left,
            Ok(_) => return Err(vec!["expected a JSON object".to_owned()]),
            Err(error) => return Err(vec![format!("not JSON from column {} on", error.column())]),
        };
        let mut members = Members { left, wrong: Vec::new() };
        members.only_known();
        let (owner, text, _) = (members.owner(), members.key_text(), members.text("kind", api_key));
        let (name, scopes) = (members.text("name", words::name), members.list("scopes", words::scope));
        let (tenants, networks) = (members.list("tenants", words::word), members.list("allow_ips", words::network));
        let (created_at, expires_at) = (members.text("created_at", moment), members.text("expires", moment));
        let environment = members.text("environment", words::word);
        let (Some(owner), Some(text), []) = (owner, text, members.wrong.as_slice()) else { return Err(members.wrong) };
        Ok(Self {
            owner,
            name: name.unwrap_or_else(|| "imported".to_owned()),
            scopes,
            tenants: tenants.unwrap_or_default(),
            allowed_ips: networks.unwrap_or_default().iter().flat_map(Networks::iter).copied().collect(),
            environment,
            created_at,
            expires_at,
            text,
        })
    }
}

impl Members {
    fn only_known(&mut self) {
        let strangers = self.left.keys().filter(|name| !KNOWN.contains(&name.as_str()));
        self.wrong.extend(strangers.map(|name| unknown("member", name, KNOWN)));
    }

    fn owner(&mut self) -> Option<String> {
        if matches!(self.left.get("owner"), None | Some(Value::Null)) {
            self.wrong.push("`owner` is missing".to_owned());
        }
        self.text("owner", |text| Ok(text.to_owned()))
    }

    /// `null` is as good as nothing.
    fn text<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let parsed = match self.left.remove(name)? {
            Value::Null => return None,
            Value::String(text) => {
                // A secret that stands here leaves no copy behind.
                let text = Secret::new(text);
                parse(text.expose())
            }
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Err("expected a text".to_owned()),
        };
        parsed.map_err(|why| self.wrong.push(format!("`{name}`: {why}"))).ok()
    }

    fn list<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let one = |value: &Value| value.as_str().map_or_else(|| Err("expected texts".to_owned()), &parse);
        let parsed = match self.left.remove(name)? {
            Value::Null => return None,
            Value::Array(values) => values.iter().map(one).collect(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => Err("expected a list of texts".to_owned()),
        };
        parsed.map_err(|why| self.wrong.push(format!("`{name}`: {why}"))).ok()
    }

    fn key_text(&mut self) -> Option<Text> {
        let is_there = |name: &str| self.left.get(name).is_some_and(|value| !value.is_null());
        match (is_there("value"), is_there("sha256")) {
            (true, false) => self.text("value", value).map(Text::Whole),
            (false, true) => self.text("sha256", hashed).map(Text::Hashed),
            (true, true) | (false, false) => {
                self.wrong.push("expected either `value` or `sha256`".to_owned());
                None
            }
        }
    }
}

fn api_key(text: &str) -> Result<(), String> {
    match text {
        "api_key" => Ok(()),
        _ => Err("there is no other kind than `api_key`".to_owned()),
    }
}

fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| "expected a moment such as 2030-01-31T00:00:00Z".to_owned())
}

/// A key as a client sends it. A short one is found by trying: nothing slows that down but limits.
fn value(text: &str) -> Result<Secret, String> {
    match text.len() {
        MIN_BYTES..=MAX_BYTES if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') => Ok(Secret::new(text)),
        MIN_BYTES..=MAX_BYTES => Err("no header takes it: it holds a blank, a comma or what is no visible ASCII".to_owned()),
        length => Err(format!("expected {MIN_BYTES} to {MAX_BYTES} characters, it has {length}")),
    }
}

/// `sha256:` and 64 hexadecimal digits: of the whole key as the client sends it.
fn hashed(text: &str) -> Result<Digest, String> {
    let wrong = || "expected `sha256:` and 64 hexadecimal digits".to_owned();
    let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64).ok_or_else(wrong)?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| pair.get(at).and_then(|&digit| char::from(digit).to_digit(16));
        let (high, low) = (digit(0).ok_or_else(wrong)?, digit(1).ok_or_else(wrong)?);
        *byte = u8::try_from(high * 16 + low).map_err(|_| wrong())?;
    }
    Ok(Digest::from_bytes(bytes))
}

/// Whether all texts of this length and of these sorts of characters are fewer than 2^128.
pub fn is_guessable(value: &str) -> bool {
    let has = |sort: fn(&u8) -> bool| value.as_bytes().iter().any(sort);
    let hexadecimal = value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let sorts = [
        (has(u8::is_ascii_digit), 10),
        (has(u8::is_ascii_lowercase), if hexadecimal { 6 } else { 26 }),
        (has(u8::is_ascii_uppercase), 26),
        (has(u8::is_ascii_punctuation), 32),
    ];
    let alphabet: u32 = sorts.iter().filter(|(has, _)| *has).map(|(_, size)| size).sum();
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    f64::from(length) * f64::from(alphabet).log2() < 128.0
}

const KNOWN: &[&str] =
    &["owner", "kind", "name", "scopes", "tenants", "allow_ips", "environment", "created_at", "expires", "value", "sha256"];
const MIN_BYTES: usize = 8;
/// As much as is looked at in a request.
const MAX_BYTES: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wrong(line: &str) -> Vec<String> {
        Row::parse(line).err().unwrap_or_default()
    }

    #[test]
    fn a_line_with_everything_is_read() {
        let row = Row::parse(
            r#"{"owner":"ann","kind":"api_key","name":"ci","scopes":["read","write"],"tenants":["prod"],
                "allow_ips":["10.1.2.3/8","::1"],"environment":"live","created_at":"2020-01-01T00:00:00Z",
                "expires":"2030-01-31T01:00:00+01:00","value":"ak_0123456789"}"#,
        )
        .unwrap();
        assert_eq!((row.owner.as_str(), row.name.as_str(), row.environment.as_deref()), ("ann", "ci", Some("live")));
        assert_eq!(row.scopes.unwrap().iter().map(Scope::as_str).collect::<Vec<_>>(), ["read", "write"]);
        assert_eq!(
            (row.tenants, row.allowed_ips.texts().collect()),
            (vec!["prod".to_owned()], vec!["10.0.0.0/8".to_owned(), "::1".to_owned()])
        );
        assert_eq!(row.created_at.unwrap().rfc3339(), "2020-01-01T00:00:00Z");
        assert_eq!(row.expires_at.unwrap().rfc3339(), "2030-01-31T00:00:00Z");
        let Text::Whole(value) = row.text else { panic!("no value") };
        assert_eq!(value.expose(), "ak_0123456789");
    }

    #[test]
    fn what_is_left_out_and_what_is_null_have_the_same_default() {
        let digest = format!("sha256:{}", "0aF".repeat(22).get(..64).unwrap());
        for rest in ["", r#","kind":null,"name":null,"scopes":null,"tenants":null,"allow_ips":null,"expires":null,"value":null"#]
        {
            let row = Row::parse(&format!(r#"{{"owner":"ann","sha256":"{digest}"{rest}}}"#)).unwrap();
            assert_eq!((row.name.as_str(), row.scopes, row.expires_at, row.created_at), ("imported", None, None, None));
            assert!(row.tenants.is_empty() && row.allowed_ips.is_empty() && row.environment.is_none());
            let Text::Hashed(found) = row.text else { panic!("no digest") };
            assert_eq!(found.as_bytes().first_chunk(), Some(&[0x0a, 0xf0, 0xaf, 0x0a]));
        }
    }

    #[test]
    fn everything_that_is_wrong_with_a_line_is_told() {
        let line = r#"{"owner":7,"kind":"runner","scopes":["a b"],"expires":"tomorrow","allow_ips":["0.0.0.0/0"],"vaule":"x"}"#;
        let told = wrong(line);
        assert_eq!(
            told,
            [
                format!("unknown member `vaule`; did you mean `value`? known: {}", KNOWN.join(", ")).as_str(),
                "`owner`: expected a text",
                "expected either `value` or `sha256`",
                "`kind`: there is no other kind than `api_key`",
                "`scopes`: expected a scope such as items:read",
                "`allow_ips`: that is every address: leave it out for that",
                "`expires`: expected a moment such as 2030-01-31T00:00:00Z",
            ]
        );
    }

    #[test]
    fn texts_that_no_client_could_send_or_anyone_could_guess_are_refused() {
        let of = |value: &str| wrong(&serde_json::json!({ "owner": "ann", "value": value }).to_string());
        assert_eq!(of("12345678"), [""; 0]);
        assert_eq!(of("1234567"), ["`value`: expected 8 to 8192 characters, it has 7"]);
        assert_eq!(of(&"x".repeat(8193)), ["`value`: expected 8 to 8192 characters, it has 8193"]);
        for value in ["with blank", "with,comma", "line\nbreak", "umläut-äöü"] {
            assert_eq!(
                of(value),
                ["`value`: no header takes it: it holds a blank, a comma or what is no visible ASCII"],
                "{value}"
            );
        }
        for digest in
            ["", "sha256:", &"0".repeat(64), &format!("sha256:{}", "0".repeat(63)), &format!("sha256:{}", "g".repeat(64))]
        {
            let line = format!(r#"{{"owner":"ann","sha256":"{digest}"}}"#);
            assert_eq!(wrong(&line), ["`sha256`: expected `sha256:` and 64 hexadecimal digits"], "{digest}");
        }
        let both = format!(r#"{{"owner":"ann","value":"0123456789","sha256":"sha256:{}"}}"#, "0".repeat(64));
        assert_eq!(wrong(&both), ["expected either `value` or `sha256`"]);
    }

    #[test]
    fn what_is_no_object_is_told_without_being_shown() {
        assert_eq!(wrong("ak_secret"), ["not JSON from column 1 on"]);
        assert_eq!(wrong(r#""ak_secret""#), ["expected a JSON object"]);
        assert_eq!(wrong("{}"), ["`owner` is missing", "expected either `value` or `sha256`"]);
    }

    #[test]
    fn keys_below_128_bits_are_guessable() {
        for (value, guessable) in [
            ("0123456789abcdef0123456789abcdef", false),
            ("0123456789abcdef0123456789abcde", true),
            ("012345678901234567890123456789012345678", false),
            ("01234567890123456789012345678901234567", true),
            ("Abcdefghijklmnop0123456", false),
            ("abcdefgh-01234", true),
        ] {
            assert_eq!(is_guessable(value), guessable, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic_and_no_secret_is_told(member in "owner|kind|name|scopes|expires|value|sha256|tenants", secret in "[A-Z]{12}") {
            for line in [format!(r#"{{"{member}":"{secret} "}}"#), format!(r#"{{"{member}":["{secret} "]}}"#), format!("{{{secret}")] {
                let told = Row::parse(&line).unwrap_err().join(" ");
                prop_assert!(!told.contains(&secret), "{told}");
            }
        }
    }
}
