//! The body that an endpoint reads: a JSON object with typed members, checked before the operation sees it.

use std::collections::HashSet;
use std::str::FromStr;

use regex_lite::Regex;
use serde_json::{Map, Value, json};

use crate::clock::Timestamp;
use crate::config::decode::{Decode, Decoder, Named, Node, section, words};
use crate::config::report::{Located, Report};
use crate::contract::facts::Facts;
use crate::contract::operation::{Input, Operation};
use crate::contract::template::Template;
use crate::identity::Networks;
use crate::rejection::Denial;

section! {
    /// One member of a request body.
    pub struct FieldRule {
        /// string, string[], rfc3339 or network[]
        "type" kind: FieldKind,
        required: bool = false,
        /// What the operation takes the value for.
        is: Option<Located<Input>> = None,
        /// Least and most characters.
        length: Option<Length> = None,
        /// A pattern that the whole string must match.
        matches: Option<Pattern> = None,
        must: Option<Must> = None,
        /// Taken when the member is absent.
        default: Option<Template> = None,
        /// Replaces the built-in words about what is wrong with the member.
        message: Option<String> = None,
    }
}

words! {
    /// Types of members.
    pub enum FieldKind: Display { Text = "string", TextList = "string[]", Moment = "rfc3339", NetworkList = "network[]" }
}

words! {
    /// Further demands.
    pub enum Must { Future = "future" }
}

words! {
    /// What becomes of members that no rule names.
    pub enum UnknownFields { Ignore = "ignore", Refuse = "refuse" }
}

/// Least and most characters of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    pub least: u64,
    pub most: u64,
}

/// A regular expression that must match the whole string, newline at the end included.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// The members of one endpoint's body.
#[derive(Clone, Debug)]
pub struct Fields {
    rules: Vec<(String, FieldRule)>,
    unknown: UnknownFields,
}

/// What the operation reads.
#[derive(Clone, Debug, Default)]
pub struct Inputs(Vec<(Input, FieldValue)>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    Text(String),
    TextList(Vec<String>),
    Moment(Timestamp),
    Networks(Networks),
}

/// Members of a list value: more than this is a mistake or an attack.
const MAX_ITEMS: usize = 100;

impl Inputs {
    pub fn text(&self, input: Input) -> Option<&str> {
        self.find(input).and_then(|value| if let FieldValue::Text(text) = value { Some(text.as_str()) } else { None })
    }

    pub fn list(&self, input: Input) -> Option<&[String]> {
        self.find(input).and_then(|value| if let FieldValue::TextList(list) = value { Some(list.as_slice()) } else { None })
    }

    pub fn moment(&self, input: Input) -> Option<Timestamp> {
        self.find(input).and_then(|value| if let FieldValue::Moment(at) = value { Some(*at) } else { None })
    }

    pub fn networks(&self, input: Input) -> Option<&Networks> {
        self.find(input).and_then(|value| if let FieldValue::Networks(list) = value { Some(list) } else { None })
    }

    fn find(&self, input: Input) -> Option<&FieldValue> {
        self.0.iter().find(|(name, _)| *name == input).map(|(_, value)| value)
    }
}

impl Fields {
    /// Checks the rules against what the operation takes.
    pub fn compile(operation: Operation, named: &Named<FieldRule>, unknown: UnknownFields, report: &mut Report) -> Self {
        let mut fed = HashSet::new();
        for (name, rule) in &named.0 {
            let Some(is) = &rule.is else { continue };
            if !fed.insert(is.value) {
                report.error(is.place, format!("two members are `{}`", is.value.as_str()));
            }
            if operation.required().contains(&is.value) && !rule.required && rule.default.is_none() {
                let why = format!("`{}` cannot do without `{}`", operation.as_str(), is.value.as_str());
                report.error_with_help(is.place, why, "write `required = true`");
            }
            if !operation.inputs().contains(&is.value) {
                let allowed = operation.inputs().iter().map(|input| input.as_str());
                report.unknown(is.place, "input of this operation", is.value.as_str(), allowed);
            } else if is.value.kind() != rule.kind {
                let wanted = is.value.kind().as_str();
                report.error(is.place, format!("`{}` is a {wanted}, and `{}` is not", is.value.as_str(), name.value));
            }
            if let Some(default) = &rule.default {
                default.check(operation.groups(), report);
            }
        }
        Self { rules: named.0.iter().map(|(name, rule)| (name.value.clone(), rule.clone())).collect(), unknown }
    }

    /// Whether some member feeds the input.
    pub fn feeds(&self, input: Input) -> bool {
        self.rules.iter().any(|(_, rule)| rule.is.as_ref().is_some_and(|is| is.value == input))
    }

    /// The name under which clients send an input.
    pub fn name_of(&self, input: Input) -> Option<&str> {
        self.rules.iter().find(|(_, rule)| rule.is.as_ref().is_some_and(|is| is.value == input)).map(|(name, _)| name.as_str())
    }

    /// Reads a body. An empty body reads as an empty object, so that bodies whose members are all optional may be left out.
    ///
    /// # Errors
    /// [`Denial::BodyNotJson`], or [`Denial::FieldInvalid`] for the first member that breaks its rule.
    pub fn read(&self, body: &[u8], facts: &Facts<'_>, now: Timestamp) -> Result<Inputs, Denial> {
        let object = parse_object(body)?;
        if self.unknown == UnknownFields::Refuse
            && let Some(name) = object.keys().find(|name| !self.rules.iter().any(|(known, _)| known == *name))
        {
            return Err(invalid(&clipped(name), "is not known"));
        }
        let mut inputs = Inputs::default();
        for (name, rule) in &self.rules {
            let sent = object.get(name).filter(|value| !value.is_null()).cloned();
            let value = match (sent, &rule.default) {
                (Some(value), _) => value,
                (None, Some(default)) => default.render(facts),
                (None, None) => Value::Null,
            };
            let read = match value.is_null() {
                true if rule.required => Err("is required"),
                true => continue,
                false => rule.read(&value, now),
            };
            let value = read.map_err(|why| match &rule.message {
                Some(message) => invalid(name, message),
                None => invalid(name, why),
            })?;
            if let Some(is) = &rule.is {
                inputs.0.push((is.value, value));
            }
        }
        Ok(inputs)
    }
}

impl FieldRule {
    fn read(&self, value: &Value, now: Timestamp) -> Result<FieldValue, &'static str> {
        match self.kind {
            FieldKind::Text => {
                let text = value.as_str().ok_or("must be a string")?;
                self.check_text(text)?;
                Ok(FieldValue::Text(text.to_owned()))
            }
            FieldKind::TextList => {
                let list = strings(value).ok_or("must be a list of strings")?;
                list.iter().try_for_each(|text| self.check_text(text))?;
                Ok(FieldValue::TextList(list.into_iter().map(str::to_owned).collect()))
            }
            FieldKind::Moment => {
                let moment = value.as_str().and_then(Timestamp::parse_rfc3339).ok_or("must be a date and time of RFC 3339")?;
                match self.must {
                    Some(Must::Future) if moment <= now => Err("must be in the future"),
                    Some(Must::Future) | None => Ok(FieldValue::Moment(moment)),
                }
            }
            FieldKind::NetworkList => {
                let wrong = "must be a list of IP addresses and CIDR networks";
                let list = strings(value).ok_or(wrong)?;
                list.into_iter().map(Networks::parse_one).collect::<Option<Networks>>().map(FieldValue::Networks).ok_or(wrong)
            }
        }
    }

    fn check_text(&self, text: &str) -> Result<(), &'static str> {
        let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        if self.required && text.is_empty() {
            return Err("must not be empty");
        }
        if self.length.is_some_and(|bounds| length < bounds.least || length > bounds.most) {
            return Err("has the wrong length");
        }
        if self.matches.as_ref().is_some_and(|pattern| !pattern.0.is_match(text)) {
            return Err("has the wrong form");
        }
        Ok(())
    }
}

impl Input {
    fn kind(self) -> FieldKind {
        match self {
            Self::LoginName | Self::LoginPassword | Self::Refresh | Self::KeyName => FieldKind::Text,
            Self::KeyTenants | Self::KeyScopes => FieldKind::TextList,
            Self::KeyExpiresAt => FieldKind::Moment,
            Self::KeyAllowedIps => FieldKind::NetworkList,
        }
    }
}

fn parse_object(body: &[u8]) -> Result<Map<String, Value>, Denial> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Denial::BodyNotJson { what: "it is JSON of another type".to_owned() }),
        // The parser's message holds line and column and none of the body, which may hold a password.
        Err(error) => {
            Err(Denial::BodyNotJson { what: format!("syntax error at line {} column {}", error.line(), error.column()) })
        }
    }
}

fn strings(value: &Value) -> Option<Vec<&str>> {
    let items = value.as_array().filter(|items| items.len() <= MAX_ITEMS)?;
    items.iter().map(Value::as_str).collect()
}

fn invalid(field: &str, reason: &str) -> Denial {
    Denial::FieldInvalid { field: field.to_owned(), reason: reason.to_owned() }
}

/// A name that a client chose, short enough for an answer.
fn clipped(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

impl Decode for Input {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let word = decoder.raw_string(node, "an input of the operation")?;
        let found = Self::parse(word);
        if found.is_none() {
            let place = decoder.place(node);
            decoder.report.unknown(place, "input", word, Self::ALL.iter().map(|input| input.as_str()));
        }
        found
    }

    fn schema() -> Value {
        json!({ "enum": Self::ALL.map(Self::as_str) })
    }
}

impl Decode for Length {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        match Vec::<u64>::decode(node, decoder)?.as_slice() {
            &[least, most] if least <= most => Some(Self { least, most }),
            _ => decoder.mismatch(node, "[least, most]"),
        }
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": { "type": "integer" }, "minItems": 2, "maxItems": 2 })
    }
}

impl Decode for Pattern {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = decoder.raw_string(node, "a regular expression")?;
        match Regex::from_str(&format!(r"\A(?:{text})\z")) {
            Ok(regex) => Some(Self(regex)),
            Err(error) => {
                let place = decoder.place(node);
                decoder.report.error(place, format!("`{text}` is no regular expression: {error}"));
                None
            }
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "format": "regex" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::decode_document;
    use crate::contract::facts::ApiFacts;

    fn fields(unknown: UnknownFields) -> Fields {
        let toml = "name = { type = 'string', required = true, length = [1, 5], matches = '[a-z]+', is = 'key.name' }\n\
                    tenants = { type = 'string[]', is = 'key.tenants' }\n\
                    expires_at = { type = 'rfc3339', must = 'future', is = 'key.expires_at' }\n\
                    allowed_ips = { type = 'network[]', is = 'key.allowed_ips' }";
        let mut report = Report::default();
        let source = report.add_source("t", toml);
        let mut decoder =
            Decoder { report: &mut report, source, folder: std::path::Path::new("."), environment: &|_: &str| None };
        let named: Named<FieldRule> = decode_document(toml, &mut decoder).unwrap();
        Fields::compile(Operation::KeysCreate, &named, unknown, &mut report)
    }

    fn read(body: &str) -> Result<Inputs, String> {
        let api = ApiFacts::default();
        let now = Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        fields(UnknownFields::Refuse).read(body.as_bytes(), &Facts::of(&api), now).map_err(|denial| denial.to_string())
    }

    #[test]
    fn values_arrive_typed() {
        let inputs = read(
            r#"{"name":"ci","tenants":["a","b"],"expires_at":"2026-01-01T00:00:01Z","allowed_ips":["10.0.0.0/8","192.168.1.100"]}"#,
        )
        .unwrap();
        assert_eq!(inputs.text(Input::KeyName), Some("ci"));
        assert_eq!(inputs.list(Input::KeyTenants), Some(["a".to_owned(), "b".to_owned()].as_slice()));
        assert_eq!(inputs.moment(Input::KeyExpiresAt).unwrap().rfc3339(), "2026-01-01T00:00:01Z");
        assert!(inputs.networks(Input::KeyAllowedIps).unwrap().contains("192.168.1.100".parse().unwrap()));
    }

    #[test]
    fn each_broken_rule_is_named_with_its_member() {
        for (body, expected) in [
            ("{}", "name: is required"),
            (r#"{"name":null}"#, "name: is required"),
            (r#"{"name":""}"#, "name: must not be empty"),
            (r#"{"name":{"$ne":1}}"#, "name: must be a string"),
            (r#"{"name":"abcdef"}"#, "name: has the wrong length"),
            ("{\"name\":\"abc\\n\"}", "name: has the wrong form"),
            (r#"{"name":"ci","tenants":"a"}"#, "tenants: must be a list of strings"),
            (r#"{"name":"ci","expires_at":"2026-01-01T00:00:00Z"}"#, "expires_at: must be in the future"),
            (r#"{"name":"ci","expires_at":"tomorrow"}"#, "expires_at: must be a date and time of RFC 3339"),
            (r#"{"name":"ci","allowed_ips":["10.0.0.0/33"]}"#, "allowed_ips: must be a list of IP addresses and CIDR networks"),
            (r#"{"name":"ci","colour":1}"#, "colour: is not known"),
            ("[]", "the body is no JSON object: it is JSON of another type"),
            (r#"{"name":"#, "the body is no JSON object: syntax error at line 1 column 8"),
        ] {
            assert_eq!(read(body).unwrap_err(), expected, "{body}");
        }
    }
}
