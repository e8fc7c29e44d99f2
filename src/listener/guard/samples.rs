//! For tests: streams of requests, most of them nearly sound.

use proptest::prelude::{Just, Strategy, any, prop};
use proptest::sample::{Index, select};
use proptest::{prop_oneof, strategy::BoxedStrategy};

use crate::listener::guard::oracle::SENTINEL;

/// What hyper by itself takes for one request or more.
pub const SETTLED_BY_HYPER: &[&str] = &[
    "GET /public#/admin HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\n\n",
    "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\n",
    "\n\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 ;a\r\nx\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;\0\r\nx\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000001\r\nx\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\nY: b\r\n\r\n",
];

/// Up to four requests, one after the other, with up to three changes to their bytes.
pub fn stream() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop_oneof![
        3 => prop::collection::vec(change(), 0..1),
        4 => prop::collection::vec(change(), 1..4),
    ];
    (prop::collection::vec(message(), 1..5), changes).prop_map(|(messages, changes)| {
        let mut bytes = messages.concat();
        changes.into_iter().for_each(|change| change.make(&mut bytes));
        bytes
    })
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let sound = (line(), prop::collection::vec(field(), 0..4), any::<Index>(), body());
    sound.prop_map(|(line, mut fields, at, (framing, body))| {
        fields.insert(at.index(fields.len() + 1), framing);
        [line.as_bytes(), b"Host: a.test\r\n", fields.concat().as_bytes(), b"\r\n", &body].concat()
    })
}

fn line() -> impl Strategy<Value = String> {
    let plain = |texts: &'static [&'static str]| select(texts).prop_map(str::to_owned);
    let origin = plain(&["/", "/a/b?c=d&e", "//a", "/%2e%2e/a", "/a?\\^`{|}", "/a\"{}|\\^"]);
    let methods = plain(&["GET", "POST", "HEAD", "DELETE", "M-SEARCH", "get", "!#$%&'*+-.^_`|~"]);
    let usual = (methods, origin).prop_map(|(method, target)| format!("{method} {target}"));
    let unusual = plain(&[
        "GET http://a.test/a?b",
        "GET HTTPS://a.test",
        "OPTIONS *",
        "CONNECT a.test:443",
        "GET *",
        "GET a.test",
        "GET /a#b",
        "GET /a<",
        "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ]);
    let version = prop_oneof![12 => Just("1.1"), 1 => Just("1.0"), 1 => Just("2.0")];
    let before = prop_oneof![12 => Just(""), 1 => Just("\r\n"), 1 => Just("\n")];
    (before, prop_oneof![9 => usual, 3 => unusual], version)
        .prop_map(|(before, line, version)| format!("{before}{line} HTTP/{version}\r\n"))
}

fn field() -> impl Strategy<Value = String> {
    let sound =
        select(&["X-A: a", "x-a:b\t", "X-B:", "Cookie: a=\"b\"; c=\u{e9}", "Connection: close", "Expect: 100-continue"][..]);
    let more = select(&["Upgrade: h2c", "Connection: keep-alive", "TE: trailers", "Content_Length: 5", "Trailer: x"][..]);
    let odd = select(
        &[
            "X-A : a",
            "X-A: a\r\n b",
            "X-A: a\nX-B: b",
            ": a",
            "no colon",
            "Host: b.test",
            "Content-Length: 0",
            "Content-Length: 5",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: gzip, chunked",
        ][..],
    );
    prop_oneof![6 => sound, 3 => more, 1 => odd].prop_map(|line| format!("{line}\r\n"))
}

/// The field that frames a body, and the body.
fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let data = || prop_oneof![prop::collection::vec(any::<u8>(), 0..20), Just(SENTINEL.to_vec())];
    let length = data().prop_map(|data| (format!("Content-Length: {}\r\n", data.len()), data));
    let chunks = (prop::collection::vec((chunk_line(), data()), 0..4), chunk_line(), trailers());
    let chunked = chunks.prop_map(|(chunks, (zeros, extension), trailers)| {
        let mut body = Vec::new();
        for ((zeros, extension), data) in chunks.into_iter().filter(|(_, data)| !data.is_empty()) {
            body.extend_from_slice(format!("{zeros}{:x}{extension}\r\n", data.len()).as_bytes());
            body.extend_from_slice(&data);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("{zeros}0{extension}\r\n{trailers}\r\n").as_bytes());
        ("Transfer-Encoding: chunked\r\n".to_owned(), body)
    });
    prop_oneof![2 => Just((String::new(), Vec::new())), 2 => length, 5 => chunked]
}

fn chunk_line() -> impl Strategy<Value = (&'static str, &'static str)> {
    let zeros = prop_oneof![8 => Just(""), 1 => Just("00"), 1 => select(&["+", "0x", " ", "_", "\r\n", "000000000000000"][..])];
    let extension = prop_oneof![6 => Just(""), 2 => select(&[";a", ";a=\"b c\"", ";"][..]), 1 => select(&[" ", " ;a", ";a\n", "\t", ";\r"][..])];
    (zeros, extension)
}

fn trailers() -> impl Strategy<Value = String> {
    let line =
        prop_oneof![4 => Just("X-T: t\r\n"), 1 => select(&["X-T:\r\n", "X-T : t\r\n", " t\r\n", "t\r\n", "X: a\nY: b\r\n"][..])];
    prop_oneof![3 => Just(String::new()), 2 => prop::collection::vec(line, 1..3).prop_map(|lines| lines.concat())]
}

/// One change to some bytes.
#[derive(Clone, Debug)]
enum Change {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index),
    Double(Index, usize),
    Cut(Index),
}

impl Change {
    fn make(self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let size = bytes.len();
        match self {
            Self::Replace(at, byte) => bytes[at.index(size)] = byte,
            Self::Insert(at, more) => {
                let at = at.index(size);
                bytes.splice(at..at, more);
            }
            Self::Remove(at) => drop(bytes.remove(at.index(size))),
            Self::Double(at, length) => {
                let at = at.index(size);
                let piece = bytes[at..(at + length).min(size)].to_vec();
                bytes.splice(at..at, piece);
            }
            Self::Cut(at) => bytes.truncate(at.index(size)),
        }
    }
}

fn change() -> BoxedStrategy<Change> {
    let byte = prop_oneof![4 => select(b"\r\n\0 \t:;#,05a/?\x0b\x7f\x80\xff".to_vec()), 1 => any::<u8>()];
    let text = select(&["\r\n", "\r\n\r\n", "\n\n", "0\r\n\r\n", "Host: b\r\n", " HTTP/1.1", "\r\n ", "GET / HTTP/1.1\r\n"][..]);
    prop_oneof![
        (any::<Index>(), byte).prop_map(|(at, byte)| Change::Replace(at, byte)),
        (any::<Index>(), text).prop_map(|(at, text)| Change::Insert(at, text.as_bytes().to_vec())),
        any::<Index>().prop_map(Change::Remove),
        (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Change::Double(at, length)),
        any::<Index>().prop_map(Change::Cut),
    ]
    .boxed()
}
