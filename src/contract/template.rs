//! Typed templates: a tree of JSON with placeholders in it. There is no text to escape, so nothing can be injected.
//!
//! A string that is one placeholder takes the value's own type; a placeholder inside a longer string is text, arrays
//! joined by ", ". A member whose name ends in `?` is left out when it is null. `{ each = "{keys}", json = … }` repeats.

use serde_json::{Map, Value, json};
use toml::de::DeValue;

use crate::config::decode::{Decode, Decoder, Node};
use crate::config::report::{Place, Report};
use crate::contract::facts::Facts;
use crate::contract::placeholder::{Group, Placeholder};

/// One node of the tree.
#[derive(Clone, Debug)]
pub enum Template {
    Literal(Value),
    /// One placeholder: the value with its own type.
    Value(Placeholder, Place),
    Text(Vec<Part>, Place),
    Array(Vec<Self>),
    Object(Vec<Member>),
    /// The list of keys, each through the inner template.
    EachKey(Box<Self>, Place),
}

#[derive(Clone, Debug)]
pub enum Part {
    Text(String),
    Value(Placeholder),
}

#[derive(Clone, Debug)]
pub struct Member {
    pub name: String,
    pub optional: bool,
    pub value: Template,
}

impl Template {
    /// Fills the tree in.
    pub fn render(&self, facts: &Facts<'_>) -> Value {
        match self {
            Self::Literal(value) => value.clone(),
            Self::Value(placeholder, _) => facts.value(placeholder),
            Self::Text(parts, _) => Value::String(render_parts(parts, facts)),
            Self::Array(items) => items.iter().map(|item| item.render(facts)).collect(),
            Self::Object(members) => Value::Object(render_members(members, facts)),
            Self::EachKey(inner, _) => {
                facts.keys.iter().map(|key| inner.render(&Facts { key: Some(*key), keys: &[], ..*facts })).collect()
            }
        }
    }

    /// The tree as text, for values that are text by nature such as an error's message.
    pub fn render_text(&self, facts: &Facts<'_>) -> String {
        plain(&self.render(facts))
    }

    /// The name of the member that shows a placeholder, wherever in the tree it stands.
    pub fn member_of(&self, wanted: &Placeholder) -> Option<&str> {
        let Self::Object(members) = self else { return None };
        members.iter().find_map(|member| {
            let is_wanted = matches!(&member.value, Self::Value(placeholder, _) if placeholder == wanted);
            if is_wanted { Some(member.name.as_str()) } else { member.value.member_of(wanted) }
        })
    }

    /// Reports the placeholders that have no value where this template stands.
    pub fn check(&self, groups: &[Group], report: &mut Report) {
        let mut wrong = |placeholder: &Placeholder, place: &Place| {
            if placeholder.group() != Group::Api && !groups.contains(&placeholder.group()) {
                let allowed = Placeholder::words().filter(|word| {
                    Placeholder::parse(word).is_some_and(|known| known.group() == Group::Api || groups.contains(&known.group()))
                });
                report.unknown(*place, "placeholder here", &placeholder.word(), allowed);
            }
        };
        match self {
            Self::Literal(_) => {}
            Self::Value(placeholder, place) => wrong(placeholder, place),
            Self::Text(parts, place) => {
                for part in parts {
                    if let Part::Value(placeholder) = part {
                        wrong(placeholder, place);
                    }
                }
            }
            Self::Array(items) => items.iter().for_each(|item| item.check(groups, report)),
            Self::Object(members) => members.iter().for_each(|member| member.value.check(groups, report)),
            Self::EachKey(inner, place) => {
                if !groups.contains(&Group::Page) {
                    report.error(*place, "`each` repeats the keys of a list, and this operation lists none");
                }
                inner.check(&[groups, &[Group::Key]].concat(), report);
            }
        }
    }

    /// Puts the values of the contract's switches in; reports switches that do not exist.
    pub fn resolve_options(&mut self, options: &dyn Fn(&str) -> Option<Value>, report: &mut Report) {
        match self {
            Self::Value(Placeholder::Option(name), place) => match options(name) {
                Some(value) => *self = Self::Literal(value),
                None => report.error(*place, format!("the contract has no option `{name}`")),
            },
            Self::Text(parts, place) => {
                for part in parts {
                    let Part::Value(Placeholder::Option(name)) = part else { continue };
                    match options(name) {
                        Some(value) => *part = Part::Text(plain(&value)),
                        None => report.error(*place, format!("the contract has no option `{name}`")),
                    }
                }
            }
            Self::Array(items) => items.iter_mut().for_each(|item| item.resolve_options(options, report)),
            Self::Object(members) => members.iter_mut().for_each(|member| member.value.resolve_options(options, report)),
            Self::EachKey(inner, _) => inner.resolve_options(options, report),
            Self::Literal(_) | Self::Value(..) => {}
        }
    }

    /// The template of one string.
    fn from_text(text: &str, place: Place, report: &mut Report) -> Option<Self> {
        let parts = parse_parts(text, place, report)?;
        Some(match parts.as_slice() {
            [] => Self::Literal(Value::String(String::new())),
            [Part::Text(only)] => Self::Literal(Value::String(only.clone())),
            [Part::Value(placeholder)] => Self::Value(placeholder.clone(), place),
            _ => Self::Text(parts, place),
        })
    }
}

impl Decode for Template {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let place = decoder.place(node);
        match node.value.get_ref() {
            DeValue::String(text) => Self::from_text(text, place, decoder.report),
            DeValue::Boolean(value) => Some(Self::Literal(json!(value))),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Some(Self::Literal(json!(number))),
                Err(_) => decoder.mismatch(node, "a number of at most 64 bits"),
            },
            DeValue::Array(_) => Vec::decode(node, decoder).map(Self::Array),
            DeValue::Table(_) => decode_object(node, place, decoder),
            DeValue::Float(_) | DeValue::Datetime(_) => decoder.mismatch(node, "a string, whole number, boolean, array or table"),
        }
    }

    fn schema() -> Value {
        json!({ "description": "JSON with {placeholders}" })
    }
}

fn decode_object(node: &Node<'_>, place: Place, decoder: &mut Decoder<'_>) -> Option<Template> {
    let mut table = decoder.table(node, "a table")?;
    if let Some(list) = table.take("each") {
        let inner = table.required::<Template>("json", decoder);
        let name = decoder.raw_string(&list, "\"{keys}\"")?;
        let list_place = decoder.place(&list);
        table.finish(decoder);
        if name != "{keys}" {
            decoder.report.unknown(list_place, "list", name, ["{keys}"]);
            return None;
        }
        return Some(Template::EachKey(Box::new(inner?), place));
    }
    let members: Vec<Option<Member>> = table
        .rest()
        .into_iter()
        .map(|(key, _, node)| {
            let (name, optional) = key.strip_suffix('?').map_or((key, false), |name| (name, true));
            Some(Member { name: name.to_owned(), optional, value: Template::decode(&node, decoder)? })
        })
        .collect();
    members.into_iter().collect::<Option<_>>().map(Template::Object)
}

/// `{{` and `}}` stand for braces.
fn parse_parts(text: &str, place: Place, report: &mut Report) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from_brace) = rest.split_at(at);
        literal.push_str(before);
        if let Some(after) = from_brace.strip_prefix("{{").or_else(|| from_brace.strip_prefix("}}")) {
            literal.push_str(from_brace.get(..1).unwrap_or_default());
            rest = after;
            continue;
        }
        let Some((word, after)) = from_brace.strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
            report.error_with_help(place, format!("a brace of \"{text}\" has no partner"), "write `{{` or `}}` for a brace");
            return None;
        };
        let Some(placeholder) = Placeholder::parse(word) else {
            report.unknown(place, "placeholder", word, Placeholder::words());
            return None;
        };
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal)));
        }
        parts.push(Part::Value(placeholder));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    Some(parts)
}

/// Renders an object's members in their order.
pub fn render_members(members: &[Member], facts: &Facts<'_>) -> Map<String, Value> {
    let mut object = Map::new();
    for member in members {
        let value = member.value.render(facts);
        if !(member.optional && value.is_null()) {
            object.insert(member.name.clone(), value);
        }
    }
    object
}

fn render_parts(parts: &[Part], facts: &Facts<'_>) -> String {
    parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Value(placeholder) => plain(&facts.value(placeholder)),
        })
        .collect()
}

/// A value inside a text: strings as they are, arrays joined by ", ", null as nothing.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::decode_document;
    use crate::contract::facts::{ApiFacts, ErrorFacts};

    fn template(toml: &str) -> (Option<Template>, Report) {
        let mut report = Report::default();
        let source = report.add_source("t.toml", toml);
        let mut decoder =
            Decoder { report: &mut report, source, folder: std::path::Path::new("."), environment: &|_: &str| None };
        let decoded = decode_document(toml, &mut decoder);
        (decoded, report)
    }

    fn render(toml: &str) -> String {
        let api = ApiFacts { name: "shop".into(), environment: "li\"ve".into(), ..ApiFacts::default() };
        let error = ErrorFacts { code: "X", message: "m", reason: "", status: 400, request_id: "r" };
        template(toml).0.unwrap().render(&Facts { error: Some(error), ..Facts::of(&api) }).to_string()
    }

    #[test]
    fn a_lone_placeholder_keeps_its_type_and_one_in_a_text_is_text() {
        assert_eq!(
            render("a = '{status}'\nb = 'status {status}'\nc = '{account.roles}'"),
            r#"{"a":400,"b":"status 400","c":null}"#
        );
    }

    #[test]
    fn values_cannot_break_out_of_their_string() {
        assert_eq!(render("a = 'in {api.environment}'"), r#"{"a":"in li\"ve"}"#);
    }

    #[test]
    fn members_marked_optional_are_left_out_when_null() {
        assert_eq!(render("'a?' = '{details}'\n'b' = '{details}'\nc = { 'd?' = 1 }"), r#"{"b":null,"c":{"d":1}}"#);
    }

    #[test]
    fn doubled_braces_are_braces() {
        assert_eq!(render("a = '{{code}} {code}'"), r#"{"a":"{code} X"}"#);
    }

    #[test]
    fn unknown_placeholders_and_lone_braces_are_found_with_their_places() {
        let (decoded, report) = template("a = '{account.ids}'\nb = 'x {code'\n");
        assert!(decoded.is_none());
        let found: Vec<_> = report.diagnostics().into_iter().map(|d| (d.line, d.message)).collect();
        assert_eq!(
            found,
            [(1, "unknown placeholder `account.ids`".to_owned()), (2, "a brace of \"x {code\" has no partner".to_owned())]
        );
    }

    #[test]
    fn a_placeholder_outside_its_group_is_refused() {
        let (decoded, mut report) = template("a = '{access}'\nb = '{api.name}'\n");
        decoded.unwrap().check(&[Group::Account], &mut report);
        let found: Vec<_> = report.diagnostics().into_iter().map(|d| (d.line, d.message)).collect();
        assert_eq!(found, [(1, "unknown placeholder here `access`".to_owned())]);
    }
}
