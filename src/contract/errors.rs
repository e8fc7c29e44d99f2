//! How an API says no: one body template, and a table from reasons to status, code and words.

use std::collections::HashMap;

use http::StatusCode;
use http::header::HeaderValue;
use serde_json::{Value, json};

use crate::config::decode::{Decode, Decoder, Named, Node, section};
use crate::config::report::{Located, Report};
use crate::contract::facts::{ErrorFacts, Facts};
use crate::contract::operation::Operation;
use crate::contract::placeholder::Group;
use crate::contract::template::Template;
use crate::identity::CredentialKind;
use crate::rejection::{Class, Denial, Failure, Rejection};

section! {
    /// `[errors]` of a contract file.
    pub struct ErrorsSection {
        /// The body of every error.
        json: Template,
        content_type: String = "application/json".to_owned(),
        /// Reason to entry. A reason is a class or a code, with ` / KIND` for one kind of credential and ` @ OPERATION` for one endpoint; the most specific wins.
        when: Named<ErrorEntry>,
    }
}

section! {
    /// What one reason answers.
    pub struct ErrorEntry {
        /// By default that of the class.
        status: Option<Status> = None,
        code: String,
        message: Template,
    }
}

/// An error status.
#[derive(Clone, Copy, Debug)]
pub struct Status(pub StatusCode);

/// The compiled table.
#[derive(Clone, Debug)]
pub struct ErrorTable {
    body: Template,
    content_type: HeaderValue,
    entries: HashMap<Key, ErrorEntry>,
}

/// A reason as the table is asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    reason: Reason,
    kind: Option<CredentialKind>,
    operation: Option<Operation>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Reason {
    Class(Class),
    Code(String),
}

/// A rendered error.
pub struct ErrorAnswer {
    pub status: StatusCode,
    pub content_type: HeaderValue,
    pub body: Vec<u8>,
}

impl ErrorTable {
    /// Compiles a contract's section; every class must have an entry, so that no reason is without an answer.
    pub fn compile(section: &ErrorsSection, report: &mut Report) -> Option<Self> {
        section.json.check(&[Group::Error], report);
        let mut entries = HashMap::new();
        for (name, entry) in &section.when.0 {
            entry.message.check(&[Group::Error], report);
            // Limits that count failures would take a refusal for a success.
            if entry.status.is_some_and(|status| status.0.is_success()) {
                report.error(entry.place, "an error's `status` is one from 400 to 599");
            }
            if let Some(key) = parse_key(name, report)
                && entries.insert(key, entry.clone()).is_some()
            {
                report.error(name.place, format!("`{}` stands there twice", name.value));
            }
        }
        let general = |class: Class| Key { reason: Reason::Class(class), kind: None, operation: None };
        let missing: Vec<&str> =
            Class::ALL.into_iter().filter(|class| !entries.contains_key(&general(*class))).map(Class::as_str).collect();
        if !missing.is_empty() {
            report.error(section.when.0.first().map_or(section.place, |(name, _)| name.place), {
                format!("[errors.when] has no entry for: {}", missing.join(", "))
            });
        }
        let Ok(content_type) = HeaderValue::from_str(&section.content_type) else {
            report.error(section.place, format!("content_type `{}` is no header value", section.content_type));
            return None;
        };
        missing.is_empty().then(|| Self { body: section.json.clone(), content_type, entries })
    }

    /// RFC 9457 problem details, for requests that belong to no API.
    pub fn problem() -> Self {
        let place = Default::default();
        let value = |name: &str, placeholder| crate::contract::template::Member {
            name: name.to_owned(),
            optional: false,
            value: Template::Value(placeholder, place),
        };
        use crate::contract::placeholder::Placeholder as P;
        let body = Template::Object(vec![
            crate::contract::template::Member {
                name: "type".to_owned(),
                optional: false,
                value: Template::Literal(json!("about:blank")),
            },
            value("title", P::Message),
            value("status", P::Status),
            value("code", P::Code),
            value("request_id", P::RequestId),
        ]);
        let entry = |class: Class| {
            let title = class.default_status().canonical_reason().unwrap_or("Error");
            let entry =
                ErrorEntry { status: None, code: class.as_str().to_owned(), message: Template::Literal(json!(title)), place };
            (Key { reason: Reason::Class(class), kind: None, operation: None }, entry)
        };
        Self {
            body,
            content_type: HeaderValue::from_static("application/problem+json"),
            entries: Class::ALL.into_iter().map(entry).collect(),
        }
    }

    /// The answer to a rejection.
    pub fn render(
        &self,
        rejection: &Rejection,
        kind: Option<CredentialKind>,
        operation: Option<Operation>,
        request_id: &str,
        facts: &Facts<'_>,
    ) -> ErrorAnswer {
        let class = rejection.class();
        let entry = self.find(rejection.code(), class, kind, operation);
        let status = entry.and_then(|entry| entry.status).map_or(class.default_status(), |status| status.0);
        let reason = match rejection {
            Rejection::Denied(denial) => denial.public().unwrap_or_default(),
            Rejection::Failed(_) => String::new(),
        };
        let code = entry.map_or(class.as_str(), |entry| entry.code.as_str());
        let mut error = ErrorFacts { code, message: "", reason: &reason, status: status.as_u16(), request_id };
        let message = entry.map(|entry| entry.message.render_text(&Facts { error: Some(error), ..*facts })).unwrap_or_default();
        error.message = if message.is_empty() { status.canonical_reason().unwrap_or("Error") } else { &message };
        let body = self.body.render(&Facts { error: Some(error), ..*facts });
        ErrorAnswer { status, content_type: self.content_type.clone(), body: body.to_string().into_bytes() }
    }

    /// A listed code beats its class; then an operation beats a kind, and either beats neither.
    fn find(&self, code: &str, class: Class, kind: Option<CredentialKind>, operation: Option<Operation>) -> Option<&ErrorEntry> {
        let scopes = [(kind, operation), (None, operation), (kind, None), (None, None)];
        [Reason::Code(code.to_owned()), Reason::Class(class)]
            .into_iter()
            .flat_map(|reason| scopes.map(|(kind, operation)| Key { reason: reason.clone(), kind, operation }))
            .find_map(|key| self.entries.get(&key))
    }
}

fn parse_key(name: &Located<String>, report: &mut Report) -> Option<Key> {
    let (rest, operation) = match name.value.split_once(" @ ") {
        Some((rest, word)) => match Operation::parse(word) {
            Some(operation) => (rest, Some(operation)),
            None => {
                report.unknown(name.place, "operation", word, Operation::ALL.map(Operation::as_str));
                return None;
            }
        },
        None => (name.value.as_str(), None),
    };
    let (word, kind) = match rest.split_once(" / ") {
        Some((word, kind)) => match CredentialKind::parse(kind) {
            Some(kind) => (word, Some(kind)),
            None => {
                report.unknown(name.place, "kind of credential", kind, CredentialKind::ALL.map(CredentialKind::as_str));
                return None;
            }
        },
        None => (rest, None),
    };
    let reason = match Class::parse(word) {
        Some(class) => Some(Reason::Class(class)),
        None => Denial::class_of_code(word).or_else(|| Failure::class_of_code(word)).map(|_| Reason::Code(word.to_owned())),
    };
    if reason.is_none() {
        report.unknown(name.place, "reason", word, Class::ALL.map(Class::as_str).into_iter().chain(Rejection::codes()));
    }
    reason.map(|reason| Key { reason, kind, operation })
}

impl Decode for Status {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let number = u64::decode(node, decoder)?;
        match u16::try_from(number).ok().and_then(|code| StatusCode::from_u16(code).ok()) {
            Some(status) if status.is_client_error() || status.is_server_error() || status.is_success() => Some(Self(status)),
            _ => decoder.mismatch(node, "an HTTP status of 200 to 299 or 400 to 599"),
        }
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 200, "maximum": 599 })
    }
}
