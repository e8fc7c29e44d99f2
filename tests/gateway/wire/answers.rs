//! Answers of an upstream that can be read in two ways, or not at all: the client gets a 502, or one whole answer, or one
//! that breaks off; and never a byte of another client's.

use std::sync::{Arc, Mutex};

use crate::support::strict::{self, Asked};
use crate::support::{Framing, Message, Script, Talk, client_of, in_parallel, vectors};
use crate::wire::{llhttp, open_to_all};

/// What a client has heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The gateway's own 502.
    BadGateway,
    /// Nothing, or half an answer.
    Cut,
    Whole(u16, String),
}

/// How the upstream goes on after it has sent its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Closes,
    /// And answers the next request, if one comes.
    Waits,
}

struct Case {
    name: String,
    bytes: Vec<u8>,
    then: Then,
    expected: Heard,
    /// Whether the connection may be used again.
    reusable: bool,
}

impl Case {
    /// As the strict reader reads the bytes.
    fn read_strictly(name: &str, bytes: &[u8], then: Then) -> Self {
        let mut rest = bytes;
        let mut answer = strict::answer(rest, Asked::Other);
        while let Ok(Some((interim, length))) = &answer
            && matches!(interim.status(), 100 | 102..=199)
        {
            rest = &rest[*length..];
            answer = strict::answer(rest, Asked::Other);
        }
        let (expected, reusable) = match answer {
            Err(_) => (Heard::BadGateway, false),
            Ok(None) => (Heard::Cut, false),
            Ok(Some((message, _))) if message.framing == Framing::UntilClose && then == Then::Waits => (Heard::Cut, false),
            Ok(Some((message, length))) => (whole(&message), length == rest.len() && message.framing != Framing::UntilClose),
        };
        Self { name: name.to_owned(), bytes: bytes.to_vec(), then, expected, reusable }
    }
}

fn whole(message: &Message) -> Heard {
    Heard::Whole(message.status(), String::from_utf8_lossy(&message.body).into_owned())
}

pub fn heard(answers: &Result<Vec<Message>, String>) -> Heard {
    match answers.as_deref() {
        Ok([answer]) if answer.status() == 502 => Heard::BadGateway,
        Ok([answer]) => whole(answer),
        Ok([]) => Heard::Cut,
        Ok(more) => panic!("{} answers to one request: {more:?}", more.len()),
        Err(what) => {
            assert!(what.starts_with("half an answer: "), "{what}");
            Heard::Cut
        }
    }
}

/// Asks for each case once, many at a time, and for something harmless right after it. What was wrong.
fn play(cases: Vec<Case>) -> Vec<String> {
    let cases = Arc::new(cases);
    let connections: Arc<Mutex<Vec<Vec<usize>>>> = Arc::default();
    let (played_cases, played_connections) = (cases.clone(), connections.clone());
    let script = Script::start(move |mut played| {
        let at = {
            let mut connections = played_connections.lock().unwrap();
            connections.push(Vec::new());
            connections.len() - 1
        };
        while let Some(head) = played.head() {
            let Ok(index) = head.split(['/', ' ']).nth(2).unwrap().parse::<usize>() else {
                played_connections.lock().unwrap()[at].push(HARMLESS);
                played.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine");
                continue;
            };
            played_connections.lock().unwrap()[at].push(index);
            played.say(&played_cases[index].bytes);
            if played_cases[index].then == Then::Closes {
                return;
            }
        }
    });
    let gateway = open_to_all(&script.url());
    let get = |path: &str| format!("GET /{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").into_bytes();
    let found = in_parallel(&cases, |index, _| {
        let talk = Talk::to(gateway.address).from(client_of(index));
        let first = heard(&talk.answers(&get(&index.to_string())));
        (first, heard(&talk.answers(&get("harmless"))))
    });
    let mut wrong = Vec::new();
    for (case, (first, second)) in cases.iter().zip(found) {
        if first != case.expected {
            wrong.push(format!("{}, {:?}: {first:?}, expected {:?}", case.name, case.then, case.expected));
        }
        if second != Heard::Whole(200, "mine".to_owned()) {
            wrong.push(format!("{}, {:?}: the next client heard {second:?}", case.name, case.then));
        }
    }
    for connection in connections.lock().unwrap().iter() {
        let used_again = connection.iter().rev().skip(1).filter(|index| **index != HARMLESS).map(|index| &cases[*index]);
        wrong
            .extend(used_again.filter(|case| !case.reusable).map(|case| format!("{}: its connection was used again", case.name)));
    }
    wrong
}

const HARMLESS: usize = usize::MAX;

/// What the gateway takes though the strict reader does not: the input, what the client hears where the connection closes,
/// and why. Only the gateway reads what an upstream sends, and what it writes has one reading.
const TAKEN: &[(&str, u16, &str, &str)] = &[
    ("HTTP 100 first, then 400", 404, "404: Not Found", EMPTY_LINE),
    ("Response starting with CRLF", 200, "", EMPTY_LINE),
    ("Invalid space after start line / Only LFs present and no body", 200, "", BARE_LF),
    ("Invalid space after start line / Only LFs present and no body (lenient)", 200, "", BARE_LF),
    ("Invalid space after start line / Only LFs present", 200, "BODY\n\\\r\n\r\n", BARE_LF),
    ("Invalid space after start line / Only LFs present (lenient)", 200, "BODY\n\\\r\n\r\n", BARE_LF),
    ("No carriage ret", 200, "these headers are from http://news.ycombinator.com/\r\n\r\n", BARE_LF),
    ("No carriage ret (lenient)", 200, "these headers are from http://news.ycombinator.com/\r\n\r\n", BARE_LF),
    ("No reason phrase", 301, "", "many servers leave out the blank before an empty reason"),
    ("on_message_begin / on_chunk_extension_name", 200, "0123456789", EXTENSION),
    ("on_message_begin / on_chunk_extension_value", 200, "0123456789", EXTENSION),
    ("Chunk extensions", 200, "hello world", EXTENSION),
    ("No extension after semicolon", 200, "aa", EXTENSION),
    ("Chunk extensions quoting", 200, "hello world", EXTENSION),
    ("Unbalanced chunk extensions quoting", 200, "hello world", EXTENSION),
];

const EMPTY_LINE: &str = "an empty line before an answer is passed over";
const BARE_LF: &str = "a line may end in LF alone (RFC 9112, section 2.2)";
const EXTENSION: &str = "chunk extensions are passed over";

/// Heads that are sound, and bodies that are not: by then the head has been forwarded.
const BROKEN_BODIES: &[&str] = &["Trailing space on chunked body", "No semicolon before chunk extensions"];

/// C9 C14: an answer is read as a strict parser reads it, or it is refused, or it breaks off; the next client's is its own.
#[test]
fn an_answer_is_whole_or_refused_or_breaks_off() {
    let Some(vectors) = vectors("llhttp/llhttp_tests.json") else { return };
    let case = |name: &str, bytes: &[u8], then: Then| {
        let strictly = Case::read_strictly(name, bytes, then);
        let ends_itself =
            bytes.windows(7).any(|word| word.eq_ignore_ascii_case(b"chunked") || word.eq_ignore_ascii_case(b"-length"));
        if BROKEN_BODIES.contains(&name) {
            assert_eq!(strictly.expected, Heard::BadGateway, "{name}");
            return Case { expected: Heard::Cut, ..strictly };
        }
        let Some((_, status, body, why)) = TAKEN.iter().find(|(known, ..)| *known == name) else { return strictly };
        assert_eq!(strictly.expected, Heard::BadGateway, "{name} is no difference");
        let whole = Heard::Whole(*status, (*body).to_owned());
        let expected = if then == Then::Waits && !ends_itself { Heard::Cut } else { whole };
        Case { expected, reusable: ends_itself && *why != BARE_LF, ..strictly }
    };
    let rows = llhttp::rows(&vectors, "response");
    let names: Vec<&str> = rows.iter().map(|(name, ..)| name.as_str()).collect();
    let listed = TAKEN.iter().map(|(name, ..)| *name).chain(BROKEN_BODIES.iter().copied());
    assert_eq!(listed.filter(|name| !names.contains(name)).collect::<Vec<_>>(), Vec::<&str>::new());
    let cases = rows.iter().flat_map(|(name, bytes, _)| {
        let bytes = [bytes, b"\r\n\r\n".as_slice()].concat();
        [Then::Closes, Then::Waits].map(|then| case(name, &bytes, then))
    });
    assert_eq!(play(cases.collect()), Vec::<String>::new());
}

/// C14: two framings, none that holds, and more than one answer.
#[test]
fn an_answer_with_two_readings_is_a_502_and_ends_its_connection() {
    let bad = Heard::BadGateway;
    let ok = |body: &str| Heard::Whole(200, body.to_owned());
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1000);
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let rows = [
        (
            "a length and chunks",
            "200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            bad.clone(),
        ),
        (
            "chunks and a length",
            "200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\na\r\n0\r\n\r\n",
            bad.clone(),
        ),
        ("two lengths", "200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", bad.clone()),
        ("one length twice", "200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab", bad.clone()),
        ("a list of lengths", "200 OK\r\nContent-Length: 2, 2\r\n\r\nab", bad.clone()),
        ("a length with a sign", "200 OK\r\nContent-Length: +2\r\n\r\nab", bad.clone()),
        ("a negative length", "200 OK\r\nContent-Length: -2\r\n\r\nab", bad.clone()),
        ("a length above 2^64", "200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nab", bad.clone()),
        ("an empty length", "200 OK\r\nContent-Length:\r\n\r\nab", bad.clone()),
        ("another coding", "200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", bad.clone()),
        (
            "a coding twice",
            "200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            bad.clone(),
        ),
        ("a coding that is none", "200 OK\r\nTransfer-Encoding: identity\r\n\r\nab", bad.clone()),
        ("a 204 with a body", "204 No Content\r\nContent-Length: 2\r\n\r\nab", bad.clone()),
        ("a 204 with chunks", "204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", bad.clone()),
        ("a switch of protocols", "101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", bad.clone()),
        ("a folded line", "200 OK\r\nX-A: a\r\n b\r\nContent-Length: 2\r\n\r\nab", bad.clone()),
        ("a blank before a colon", "200 OK\r\nContent-Length : 2\r\n\r\nab", bad.clone()),
        ("a NUL in a value", "200 OK\r\nX-A: a\0b\r\nContent-Length: 2\r\n\r\nab", bad.clone()),
        ("a lone CR in a value", "200 OK\r\nX-A: a\rb\r\nContent-Length: 2\r\n\r\nab", bad.clone()),
        ("a nameless field", "200 OK\r\n: a\r\nContent-Length: 2\r\n\r\nab", bad.clone()),
        ("a chunk size with a prefix", "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n", Heard::Cut),
        ("a chunk without an end", "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", Heard::Cut),
        (
            "a chunk size above 2^64",
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf0000000000000003\r\na\r\n0\r\n\r\n",
            Heard::Cut,
        ),
        ("a second answer", &format!("200 OK\r\nContent-Length: 2\r\n\r\nab{evil}"), ok("ab")),
        (
            "a second answer after chunks",
            &format!("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n{evil}"),
            ok("ab"),
        ),
        ("a second answer after none", &format!("204 No Content\r\n\r\n{evil}"), Heard::Whole(204, String::new())),
        ("a 304 with a body", "304 Not Modified\r\nContent-Length: 4\r\n\r\nevil", Heard::Whole(304, String::new())),
        ("a thousand interim answers", &format!("{}{evil}", interim.strip_prefix("HTTP/1.1 ").unwrap()), ok("evil")),
    ];
    let cases = rows.iter().flat_map(|(name, answer, expected)| {
        [Then::Closes, Then::Waits].map(|then| Case {
            name: (*name).to_owned(),
            bytes: format!("HTTP/1.1 {answer}").into_bytes(),
            then,
            expected: expected.clone(),
            reusable: name.contains("interim"),
        })
    });
    assert_eq!(play(cases.collect()), Vec::<String>::new());
}
