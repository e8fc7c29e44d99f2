//! What became of one request, as one line: JSON for machines, text for people.
//!
//! Served, refused and failed requests share one set of fields. A field that a stranger may fill is cut and escaped, so
//! that a record is one line of printable characters whatever they sent. Never holds a credential or a query string
//! (which may hold one).

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::Method;

use crate::clock::Timestamp;
use crate::observe::Colour;

/// One line of the access log.
#[derive(Clone, Debug)]
pub struct Record {
    /// When the request was received.
    pub at: Timestamp,
    /// At most 128 bytes: no longer one is taken from anybody.
    pub request_id: String,
    pub verdict: Verdict,
    /// Where the path of a request ended that was not served.
    pub stage: Option<&'static str>,
    /// The stable code of the rejection.
    pub reason: Option<&'static str>,
    /// The rejection in words, for operators.
    pub detail: Option<String>,
    pub listener: Arc<str>,
    /// Empty when no API was found; so is `route`.
    pub api: Arc<str>,
    pub route: Arc<str>,
    /// E.g. `HTTP/1.1`.
    pub protocol: &'static str,
    pub method: Method,
    pub host: String,
    /// Normalised, without the query.
    pub path: String,
    pub client_ip: IpAddr,
    /// The other end of the connection: the client or a proxy.
    pub peer: SocketAddr,
    /// Kind and id, e.g. `api_key:key-abc`, `jwt:JTI` or `jwt:JTI of ISSUER`. Never the credential.
    pub credential: Option<String>,
    pub account: Option<String>,
    pub tenant: Option<String>,
    /// What the client was answered; 0 when it left before the answer.
    pub status: u16,
    pub duration_us: u64,
    pub upstream: Option<Arc<str>>,
    pub upstream_us: Option<u64>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// Made by [`Record::agent`].
    pub user_agent: Option<String>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An upstream answered.
    Forwarded,
    /// The gateway answered, as an endpoint of the API.
    Answered,
    /// A proxy that asked was told that the request may pass.
    Allowed,
    /// The caller was refused: 4xx.
    Refused,
    /// Something of ours or of an upstream broke: 5xx.
    Failed,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Answered => "answered",
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Record {
    /// A `User-Agent` field as text: at most 256 bytes of it, bytes that are no UTF-8 as U+FFFD.
    pub fn agent(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes.get(..NAME_BYTES).unwrap_or(bytes)).into_owned()
    }

    /// One JSON object without the end of the line. Every key is always there; what is unknown is null.
    pub fn json(&self) -> String {
        let mut object = Object(String::with_capacity(640));
        object.text("time", &Moment(self.at).to_string(), NAME_BYTES);
        object.text("request_id", &self.request_id, NAME_BYTES);
        object.text("verdict", self.verdict.as_str(), NAME_BYTES);
        object.optional("stage", self.stage);
        object.optional("reason", self.reason);
        object.long("detail", self.detail.as_deref(), DETAIL_BYTES);
        object.optional("listener", known(&self.listener));
        object.optional("api", known(&self.api));
        object.optional("route", known(&self.route));
        object.text("protocol", self.protocol, NAME_BYTES);
        object.text("method", self.method.as_str(), NAME_BYTES);
        object.text("host", &self.host, NAME_BYTES);
        object.text("path", &self.path, PATH_BYTES);
        object.bare("client_ip", format_args!("\"{}\"", self.client_ip));
        object.bare("peer", format_args!("\"{}\"", self.peer));
        object.optional("credential", self.credential.as_deref());
        object.optional("account", self.account.as_deref());
        object.optional("tenant", self.tenant.as_deref());
        object.bare("status", format_args!("{}", self.status));
        object.bare("duration_us", format_args!("{}", self.duration_us));
        object.optional("upstream", self.upstream.as_deref());
        match self.upstream_us {
            Some(micros) => object.bare("upstream_us", format_args!("{micros}")),
            None => object.bare("upstream_us", format_args!("null")),
        }
        object.bare("bytes_in", format_args!("{}", self.bytes_in));
        object.bare("bytes_out", format_args!("{}", self.bytes_out));
        object.optional("user_agent", self.user_agent.as_deref());
        object.0.push('}');
        object.0
    }

    /// One line for people; a value with a blank stands in quotes, what is unknown is left out.
    pub fn text(&self, colour: Colour) -> String {
        let mut out = String::with_capacity(320);
        let (start, end) = match colour {
            Colour::Plain => ("", ""),
            Colour::Ansi => (self.status_colour(), "\x1b[0m"),
        };
        let _ = write!(out, "{} {start}{:03} {}{end} ", Moment(self.at), self.status, self.verdict.as_str());
        escape(&mut out, self.method.as_str(), NAME_BYTES);
        out.push(' ');
        escape(&mut out, &self.host, NAME_BYTES);
        escape(&mut out, &self.path, PATH_BYTES);
        let _ = write!(out, " {}", Millis(self.duration_us));
        if let Some(reason) = self.reason {
            let _ = write!(out, " {start}{}/{reason}{end}", self.stage.unwrap_or_default());
        }
        word(&mut out, "detail", self.detail.as_deref(), DETAIL_BYTES);
        let _ = write!(out, " client={} peer={}", self.client_ip, self.peer);
        word(&mut out, "credential", self.credential.as_deref(), NAME_BYTES);
        word(&mut out, "account", self.account.as_deref(), NAME_BYTES);
        word(&mut out, "tenant", self.tenant.as_deref(), NAME_BYTES);
        word(&mut out, "listener", known(&self.listener), NAME_BYTES);
        word(&mut out, "protocol", Some(self.protocol), NAME_BYTES);
        word(&mut out, "api", known(&self.api), NAME_BYTES);
        word(&mut out, "route", known(&self.route), NAME_BYTES);
        word(&mut out, "upstream", self.upstream.as_deref(), NAME_BYTES);
        if let Some(micros) = self.upstream_us {
            let _ = write!(out, " upstream_time={}", Millis(micros));
        }
        let _ = write!(out, " in={} out={}", self.bytes_in, self.bytes_out);
        word(&mut out, "agent", self.user_agent.as_deref(), NAME_BYTES);
        word(&mut out, "id", Some(&self.request_id), NAME_BYTES);
        out
    }

    fn status_colour(&self) -> &'static str {
        match self.status {
            100..400 => "\x1b[32m",
            400..500 => "\x1b[33m",
            _ => "\x1b[31m",
        }
    }
}

/// A JSON object in the making: its opening brace or a comma comes with each field.
struct Object(String);

impl Object {
    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push('"');
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    fn bare(&mut self, name: &str, value: fmt::Arguments<'_>) {
        self.name(name);
        let _ = self.0.write_fmt(value);
    }

    fn text(&mut self, name: &str, value: &str, limit: usize) {
        self.name(name);
        self.0.push('"');
        escape(&mut self.0, value, limit);
        self.0.push('"');
    }

    fn long(&mut self, name: &str, value: Option<&str>, limit: usize) {
        match value {
            Some(value) => self.text(name, value, limit),
            None => self.bare(name, format_args!("null")),
        }
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        self.long(name, value, NAME_BYTES);
    }
}

/// Appends at most `limit` bytes of `text`, escaped as in a JSON string (RFC 8259, section 7) and beyond it: C1 controls
/// drive terminals, and direction and line marks make a line read as what it is not.
fn escape(out: &mut String, text: &str, limit: usize) {
    let shown = text.get(..text.floor_char_boundary(limit)).unwrap_or(text);
    if shown.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        out.push_str(shown);
    } else {
        shown.chars().for_each(|character| escape_one(out, character));
    }
    if shown.len() < text.len() {
        out.push('…');
    }
}

fn escape_one(out: &mut String, character: char) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => code(out, character),
        other if other.is_control() => code(out, other),
        other => out.push(other),
    }
}

fn code(out: &mut String, character: char) {
    let _ = write!(out, "\\u{:04x}", u32::from(character));
}

fn word(out: &mut String, name: &str, value: Option<&str>, limit: usize) {
    let Some(value) = value else { return };
    let quote = if value.is_empty() || value.contains([' ', '"', '=']) { "\"" } else { "" };
    let _ = write!(out, " {name}={quote}");
    escape(out, value, limit);
    out.push_str(quote);
}

fn known(name: &str) -> Option<&str> {
    (!name.is_empty()).then_some(name)
}

struct Millis(u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}ms", self.0 / 1000, self.0 % 1000)
    }
}

/// RFC 3339 with milliseconds. Remembers the text of the last second: a busy thread formats the date once for many lines.
struct Moment(Timestamp);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        thread_local! {
            static LAST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
        }
        LAST.with_borrow_mut(|(second, text)| {
            if *second != self.0.seconds() {
                *second = self.0.seconds();
                *text = self.0.rfc3339();
            }
            write!(f, "{}.{:03}Z", text.trim_end_matches('Z'), self.0.0 % 1000)
        })
    }
}

const NAME_BYTES: usize = 256;
const PATH_BYTES: usize = 2048;
const DETAIL_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::samples::refused;
    use proptest::prelude::*;
    use serde_json::Value;

    fn forwarded() -> Record {
        Record {
            verdict: Verdict::Forwarded,
            stage: None,
            reason: None,
            detail: None,
            account: Some("42".to_owned()),
            tenant: Some("acme".to_owned()),
            status: 200,
            duration_us: 12_345,
            upstream: Some("http://10.0.0.2:8000".into()),
            upstream_us: Some(12_000),
            ..refused("r-1")
        }
    }

    #[test]
    fn a_refused_request_is_this_json_line() {
        let expected = concat!(
            r#"{"time":"2024-03-16T10:00:00.250Z","request_id":"r-1","verdict":"refused","stage":"authenticate","#,
            r#""reason":"key_revoked","detail":"the key key-abc was revoked","listener":"public","api":"jobs","#,
            r#""route":"jobs-list","protocol":"HTTP/1.1","method":"GET","host":"api.example.com","path":"/v1/jobs","client_ip":"203.0.113.9","#,
            r#""peer":"[::1]:51000","credential":"api_key:key-abc","account":null,"tenant":null,"status":401,"#,
            r#""duration_us":81,"upstream":null,"upstream_us":null,"bytes_in":0,"bytes_out":52,"user_agent":"curl/8.5"}"#,
        );
        assert_eq!(refused("r-1").json(), expected);
    }

    #[test]
    fn served_and_refused_requests_have_the_same_keys() {
        let keys = |line: String| {
            let fields: serde_json::Map<String, Value> = serde_json::from_str(&line).unwrap();
            fields.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(keys(forwarded().json()), keys(refused("r-1").json()));
    }

    #[test]
    fn an_unmatched_request_has_null_for_api_and_route() {
        let record = Record { api: "".into(), route: "".into(), ..refused("r-1") };
        assert!(record.json().contains(r#""api":null,"route":null,"#), "{}", record.json());
    }

    #[test]
    fn lines_for_people_say_the_same() {
        assert_eq!(
            refused("r-1").text(Colour::Plain),
            "2024-03-16T10:00:00.250Z 401 refused GET api.example.com/v1/jobs 0.081ms authenticate/key_revoked \
             detail=\"the key key-abc was revoked\" client=203.0.113.9 peer=[::1]:51000 credential=api_key:key-abc \
             listener=public protocol=HTTP/1.1 api=jobs route=jobs-list in=0 out=52 agent=curl/8.5 id=r-1"
        );
        assert_eq!(
            forwarded().text(Colour::Ansi),
            "2024-03-16T10:00:00.250Z \x1b[32m200 forwarded\x1b[0m GET api.example.com/v1/jobs 12.345ms \
             client=203.0.113.9 peer=[::1]:51000 credential=api_key:key-abc account=42 tenant=acme listener=public \
             protocol=HTTP/1.1 api=jobs route=jobs-list upstream=http://10.0.0.2:8000 upstream_time=12.000ms in=0 out=52 agent=curl/8.5 id=r-1"
        );
    }

    #[test]
    fn newlines_terminal_codes_quotes_and_direction_marks_stay_inside_their_field() {
        let record = Record {
            path: "/a\n{\"time\":1}\r\t\\".to_owned(),
            user_agent: Some(Record::agent(b"\x1b[2J\xff\"\x7f")),
            account: Some("\u{9b}31m\u{202e}\u{2028}\0é😀".to_owned()),
            ..refused("r-1")
        };
        let line = record.json();
        for expected in [
            r#""path":"/a\n{\"time\":1}\r\t\\","#,
            r#""user_agent":"\u001b[2J"#,
            "\u{fffd}\\\"\\u007f\"}",
            r#""account":"\u009b31m\u202e\u2028\u0000é😀","#,
        ] {
            assert!(line.contains(expected), "{expected} is not in {line}");
        }
        assert!(!record.text(Colour::Plain).chars().any(char::is_control), "{}", record.text(Colour::Plain));
    }

    #[test]
    fn long_fields_are_cut_at_a_character() {
        let record =
            Record { path: format!("/{}", "é".repeat(5000)), user_agent: Some(Record::agent(&[b'a'; 9000])), ..refused("r-1") };
        let line: Value = serde_json::from_str(&record.json()).unwrap();
        assert_eq!(line["path"], format!("/{}…", "é".repeat(1023)));
        assert_eq!(line["user_agent"], "a".repeat(256));
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_one_line_of_valid_json_that_reads_back(text in any::<String>(), raw in any::<Vec<u8>>()) {
            let agent = Record::agent(&raw);
            let record = Record { account: Some(text.clone()), host: text.clone(), user_agent: Some(agent.clone()), ..refused("r-1") };
            let line = record.json();
            prop_assert!(!line.chars().any(char::is_control));
            let read: Value = serde_json::from_str(&line).unwrap();
            let cut = |whole: &str| match whole.len() > 256 {
                true => format!("{}…", whole.split_at(whole.floor_char_boundary(256)).0),
                false => whole.to_owned(),
            };
            prop_assert_eq!(read["host"].as_str(), Some(&*cut(&text)));
            prop_assert_eq!(read["account"].as_str(), Some(&*cut(&text)));
            prop_assert_eq!(read["user_agent"].as_str(), Some(&*cut(&agent)));
        }
    }
}
