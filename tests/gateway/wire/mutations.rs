//! Spellings of Transfer-Encoding that one parser takes for the field and another does not, beside a Content-Length: the
//! two readings differ by a request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::{Framing, Upstream, vectors};
use crate::wire::{Outcome, Said, open_to_all, send_all};

/// Fields of other names: they are no Transfer-Encoding, and Content-Length is the one framing; a name that some servers
/// read as Transfer-Encoding is not forwarded. All others are refused.
const OTHER_FIELDS: &[&str] = &["underjoin1", "contentEnc"];

const TAIL: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A message whose length and whose chunks end in different places.
struct Shape {
    what: &'static str,
    length: usize,
    body: String,
    /// The target of the request that follows, and all answers, for a reader of lengths.
    second: &'static str,
    statuses: &'static [u16],
}

fn shapes() -> [Shape; 2] {
    let in_length = format!("0\r\n\r\n{TAIL}");
    let size = format!("{:x}\r\n", TAIL.len());
    let in_chunk = format!("{size}{TAIL}\r\n0\r\n\r\n");
    [
        Shape {
            what: "the length covers the tail",
            length: in_length.len(),
            body: in_length,
            second: "/next",
            statuses: &[200, 200],
        },
        // What is left of the chunks is no request.
        Shape {
            what: "a chunk covers the tail",
            length: size.len(),
            body: in_chunk,
            second: "/smuggled",
            statuses: &[200, 200, 400],
        },
    ]
}

impl Shape {
    /// As another field leaves it: a message framed by its Content-Length, and then the next.
    fn is_read_by_length(&self, outcome: &Outcome) -> bool {
        outcome.statuses == self.statuses
            && targets(outcome) == ["POST /in HTTP/1.1".to_owned(), format!("GET {} HTTP/1.1", self.second)]
            && outcome.forwarded[0].framing == Framing::Length(self.length)
            && outcome.forwarded[0].body == self.body.as_bytes()[..self.length]
            && framing_fields(outcome) == ["content-length"]
    }
}

fn targets(outcome: &Outcome) -> Vec<&str> {
    outcome.forwarded.iter().map(|request| request.start.as_str()).collect()
}

/// The names of fields that a server might take for framing, whatever it makes of a `_`.
fn framing_fields(outcome: &Outcome) -> Vec<&str> {
    let letters = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let is_framing = |name: &&str| matches!(letters(name).as_str(), "contentlength" | "transferencoding");
    outcome.forwarded[0].fields.iter().map(|(name, _)| name.as_str()).filter(is_framing).collect()
}

/// C10: a line that may be a Transfer-Encoding beside a Content-Length is refused, or it is another field.
#[test]
fn no_spelling_of_transfer_encoding_smuggles_a_request() {
    let Some(vectors) = vectors("smuggler-te/te_mutations.json") else { return };
    let rows: Vec<(&str, Vec<u8>)> = vectors["mutations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), STANDARD.decode(row["te_header_b64"].as_str().unwrap()).unwrap()))
        .collect();
    let upstream = Upstream::start();
    let gateway = open_to_all(&upstream.url());
    let mut wrong = Vec::new();
    for shape in shapes() {
        let stated = format!("Content-Length: {}", shape.length);
        for first in ["the length", "the mutation"] {
            let request = |line: &[u8]| {
                let fields = if first == "the length" { [stated.as_bytes(), line] } else { [line, stated.as_bytes()] };
                let head = [b"POST /in HTTP/1.1\r\nHost: a", fields[0], fields[1], b"\r\n"].join(b"\r\n".as_slice());
                Said::at_once(&[&head, shape.body.as_bytes(), NEXT.as_bytes()].concat())
            };
            let all: Vec<Said> = rows.iter().map(|(_, line)| request(line)).collect();
            for ((name, line), outcome) in rows.iter().zip(send_all(&gateway, &upstream, &all)) {
                let right = if OTHER_FIELDS.contains(name) {
                    shape.is_read_by_length(&outcome)
                } else {
                    outcome == Outcome { statuses: vec![400], ..Outcome::default() }
                };
                if !right {
                    let line = String::from_utf8_lossy(line);
                    wrong.push(format!("{name} {line:?}, {}, {first} first: {outcome:?}", shape.what));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
