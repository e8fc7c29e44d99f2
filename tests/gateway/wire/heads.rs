//! Heads that proxies have passed on in another meaning than they were sent with.

use crate::support::Upstream;
use crate::wire::{Outcome, Said, open_to_all, send_all};

/// Heads that are refused. `|` stands for CR LF; what may be a body and another request follow.
const REFUSED: &[&str] = &[
    // C1: two framings.
    "POST /in HTTP/1.1|Host: a|Content-Length: 5|Transfer-Encoding: chunked",
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding: chunked|Content-Length: 5",
    "GET /in HTTP/1.1|Host: a|Transfer-Encoding: chunked|Content-Length: 0",
    // C2: a coding that is not exactly `chunked`, once.
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding: identity|Transfer-Encoding: chunked",
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding: chunked|Transfer-Encoding: identity",
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding: chunked|Transfer-Encoding: chunked",
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked",
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding: chunked, identity",
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding: ,chunked",
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding: chunked,",
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding: xchunked",
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding: chunked;q=1",
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding: \"chunked\"",
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding: \x0bchunked",
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding: chunked\x0c",
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding:\u{a0}chunked",
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding:",
    "POST /in HTTP/1.1|Host: a|Transfer-Encoding: identity",
    // C3: a length that is no number, or more than one.
    "POST /in HTTP/1.1|Host: a|Content-Length: +5",
    "POST /in HTTP/1.1|Host: a|Content-Length: 5,5",
    "POST /in HTTP/1.1|Host: a|Content-Length: 5, 6",
    "POST /in HTTP/1.1|Host: a|Content-Length:  5 5",
    "POST /in HTTP/1.1|Host: a|Content-Length: 0x5",
    "POST /in HTTP/1.1|Host: a|Content-Length:",
    "POST /in HTTP/1.1|Host: a|Content-Length: -1",
    "POST /in HTTP/1.1|Host: a|Content-Length: 5_0",
    "POST /in HTTP/1.1|Host: a|Content-Length: 5\x0b",
    "POST /in HTTP/1.1|Host: a|Content-Length: 18446744073709551616",
    "POST /in HTTP/1.1|Host: a|Content-Length: 5|Content-Length: 6",
    // C4: chunks that HTTP/1.0 does not have.
    "POST /in HTTP/1.0|Host: a|Transfer-Encoding: chunked",
    "POST /in HTTP/1.0|Host: a|Connection: keep-alive|Transfer-Encoding: chunked",
    // C7 C8: fields that are none, or more than one.
    "GET /in HTTP/1.1|Host: a|: x",
    "GET /in HTTP/1.1|Host: a|X-A : x",
    "GET /in HTTP/1.1|Host: a|X-A\t: x",
    "GET /in HTTP/1.1|Host: a|Content-Length : 5",
    "GET /in HTTP/1.1|Host: a|X-A: a| b",
    "GET /in HTTP/1.1|Host: a|X-A: a|\tb",
    "GET /in HTTP/1.1|Host: a|X-A:| b",
    "GET /in HTTP/1.1| X-A: a|Host: a",
    "GET /in HTTP/1.1|Host: a|X-\0A: b",
    "GET /in HTTP/1.1|Host: a|X-A: a\0b",
    "GET /in HTTP/1.1|Host: a|X-A: a\rb",
    "GET /in HTTP/1.1|Host: a|X-A: a\nX-B: b",
    "GET /in HTTP/1.1|Host: a|X-A: a\x7fb",
    "GET /in HTTP/1.1|Host: a|X-A: a\x01b",
    "GET /in HTTP/1.1|Host: a|X-\u{e9}: b",
    "GET /in HTTP/1.1|Host: a|X(A): b",
    "GET /in HTTP/1.1|Host: a|no colon",
    "GET /in HTTP/1.1\nHost: a",
    "GET /in HTTP/1.1\rHost: a",
    "GET /in HTTP/1.1|Host: a\n",
    "GET /in HTTP/1.1|Host: a|Host: a",
    "GET /in HTTP/1.1|Host: a|Host: b",
    // C8: request lines.
    "GET  /in HTTP/1.1|Host: a",
    "GET /in  HTTP/1.1|Host: a",
    "GET\t/in HTTP/1.1|Host: a",
    "GET /in\tHTTP/1.1|Host: a",
    " GET /in HTTP/1.1|Host: a",
    "GET /in HTTP/1.1 |Host: a",
    "GET /in HTTP/1.1 x|Host: a",
    "GET /in HTTP/1.10|Host: a",
    "GET /in HTTP/1.2|Host: a",
    "GET /in HTTP/2.0|Host: a",
    "GET /in http/1.1|Host: a",
    "GET /in HTTP/1,1|Host: a",
    "G@T /in HTTP/1.1|Host: a",
    "GET in HTTP/1.1|Host: a",
    "GET /i\0n HTTP/1.1|Host: a",
    "GET /in#a HTTP/1.1|Host: a",
];

/// C1 C2 C3 C4 C7 C8: what can be read in two ways is refused with 400, no byte of it is forwarded, and neither is what
/// follows it on the connection.
#[test]
fn a_head_with_two_readings_is_refused_and_nothing_of_it_is_forwarded() {
    let upstream = Upstream::start();
    let gateway = open_to_all(&upstream.url());
    let tail = "5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let latin = |text: &str| -> Vec<u8> { text.chars().map(|letter| u8::try_from(letter).unwrap()).collect() };
    let bytes = |head: &&str| latin(&format!("{}\r\n\r\n{tail}", head.replace('|', "\r\n")));
    let mut wrong = Vec::new();
    for cut in [Said::at_once, Said::in_pieces] {
        let all: Vec<Said> = REFUSED.iter().map(|head| cut(&bytes(head))).collect();
        for (head, outcome) in REFUSED.iter().zip(send_all(&gateway, &upstream, &all)) {
            if outcome != (Outcome { statuses: vec![400], ..Outcome::default() }) {
                let targets: Vec<&str> = outcome.forwarded.iter().map(|request| request.start.as_str()).collect();
                wrong.push(format!("{head:?}: {:?} {targets:?} {:?}", outcome.statuses, outcome.cut));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
