//! Bodies: chunks that are none, framing that is kept, and answers that come before the body has been read.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::support::{Framing, Script, Talk, Upstream};
use crate::wire::{Outcome, Said, open_to_all, own_statuses, send_all};

/// Where the message before it is sound, this is a request like any other; else it is none.
const TAIL: &str = "GET /tail HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// What is sent as a chunked body, and holds `evil` after its fault.
const BROKEN: &[&str] = &[
    // C5: sizes and extensions.
    "5 ;a\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "5\t\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "5_0\r\nhello\r\n0\r\n\r\n",
    "5,\r\nhello\r\n0\r\n\r\n",
    "\r\nhello\r\n0\r\n\r\n",
    ";a\r\nhello\r\n0\r\n\r\n",
    "5;a\nhello\r\n0\r\n\r\n",
    "5;a\rb\r\nhello\r\n0\r\n\r\n",
    "5;a\0\r\nhello\r\n0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\rhello\r\n0\r\n\r\n",
    "5\r\r\nhello\r\n0\r\n\r\n",
    // C5: ends of chunks.
    "5\r\nhelloevil\r\n0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r0\r\n\r\n",
    "5\r\nhello\r\n\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\n\r\n",
    "5\r\nhello\r\n0\r\n\n",
    "5\r\nhello\r\n0\r\nX-A : a\r\n\r\n",
    "5\r\nhello\r\n0\r\nX-A: a\nX-B: b\r\n\r\n",
    "5\r\nhello\r\n0\r\n X-A: a\r\n\r\n",
    // C6: sizes that overflow.
    "f0000000000000003\r\nabc\r\n0\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "00000000000000000005\r\nhello\r\n0\r\n\r\n",
];

fn chunked(body: &str) -> Said {
    let head = "POST /in HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    Said::at_once(format!("{head}{body}{TAIL}").as_bytes())
}

/// C5 C6: a body that is no row of chunks is a 400; the upstream sees it break off before the fault, and what follows is no
/// request.
#[test]
fn chunks_with_two_readings_break_the_body_off() {
    let upstream = Upstream::start();
    let gateway = open_to_all(&upstream.url());
    let large = [
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(16 << 10)),
        format!("5\r\nhello\r\n0\r\n{}\r\n", "X-A: aaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(2340)),
        format!("5\r\nhello\r\n0\r\nX-A: {}\r\n\r\n", "a".repeat(64 << 10)),
    ];
    let bodies: Vec<&str> = BROKEN.iter().copied().chain(large.iter().map(String::as_str)).collect();
    let all: Vec<Said> = bodies.iter().map(|body| chunked(body)).collect();
    let mut wrong = Vec::new();
    let before = gateway.resident_kib();
    for _ in 0..3 {
        for (body, Outcome { statuses, forwarded, cut }) in bodies.iter().zip(send_all(&gateway, &upstream, &all)) {
            let broken_off = |seen: &String| {
                let (_, body) = seen.split_once("\r\n\r\n").unwrap();
                body.is_empty() || body == "5\r\nhello\r\n"
            };
            let right = statuses == [400] && forwarded.is_empty() && cut.iter().all(broken_off);
            if !right {
                wrong.push(format!("{body:.60?}: {statuses:?}, {} forwarded, {cut:?}", forwarded.len()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    let after = gateway.resident_kib();
    assert!(after < before + 16 * 1024, "{before} KiB grew to {after} KiB");
}

/// C13 B7: a body arrives with the framing it was sent with, whatever the method; trailers do not arrive.
#[test]
fn every_method_keeps_the_framing_of_its_body() {
    let upstream = Upstream::start();
    let gateway = open_to_all(&upstream.url());
    let framings = [
        ("", "", Framing::None, ""),
        ("Content-Length: 0\r\n", "", Framing::Length(0), ""),
        ("Content-Length: 5\r\n", "hello", Framing::Length(5), "hello"),
        ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n", Framing::Chunked, ""),
        ("Transfer-Encoding: chunked\r\n", "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-A: a\r\n\r\n", Framing::Chunked, "hello"),
    ];
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "PUT", "PATCH"] {
        for (field, sent, framing, body) in framings {
            // RFC 9110, section 8.6: a method that expects a body says that there is none.
            let expects = matches!(method, "POST" | "PUT" | "PATCH") && framing == Framing::None;
            let framing = if expects { Framing::Length(0) } else { framing };
            upstream.forget();
            let request = format!("{method} /in HTTP/1.1\r\nHost: a\r\n{field}\r\n{sent}{TAIL}");
            let statuses = Talk::to(gateway.address).statuses(request);
            let seen = upstream.messages();
            assert_eq!((statuses, seen.len()), (vec![200, 200], 2), "{method} {field:?}");
            let first = &seen[0];
            assert_eq!(first.start, format!("{method} /in HTTP/1.1"));
            assert_eq!(
                (first.framing, first.body.as_slice(), &first.trailers),
                (framing, body.as_bytes(), &vec![]),
                "{method} {field:?}"
            );
        }
    }
}

/// C12: the body of a refused request, which nobody reads, is never taken for a request; it is passed over, or the
/// connection ends.
#[test]
fn the_body_of_a_refused_request_is_no_request() {
    let upstream = Upstream::start();
    let gateway = open_to_all(&upstream.url());
    let evil = "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = |body: &str| format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let chunks = |body: &str| format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let large = evil.repeat((10 << 20) / evil.len());
    for (what, framed, statuses) in [
        ("a small body", length(evil), [401, 200].as_slice()),
        ("no HTTP", length("\0\n\r\n : \x7f\r\n\r\n"), &[401, 200]),
        ("a small chunk", chunks(evil), &[401, 200]),
        ("a chunk of no HTTP", chunks("\0\n\r\n : \x7f\r\n\r\n"), &[401, 200]),
        ("10 MiB", length(&large), &[401]),
        ("10 MiB in a chunk", chunks(&large), &[401]),
    ] {
        upstream.forget();
        // Nobody has said who may do this.
        let said = format!("DELETE /out HTTP/1.1\r\nHost: a\r\n{framed}{TAIL}");
        assert_eq!(Talk::to(gateway.address).statuses(said), statuses, "{what}");
        let seen: Vec<String> = upstream.messages().iter().map(|request| request.start.clone()).collect();
        assert_eq!(seen, vec!["GET /tail HTTP/1.1"; statuses.len() - 1], "{what}");
    }
}

/// C11: a client that expects 100 Continue and sends its body at once is served; the field ends here, and another
/// expectation is a 417 after which the connection is sound.
#[test]
fn expectations_end_at_the_gateway() {
    let upstream = Upstream::start();
    let gateway = open_to_all(&upstream.url());
    let post = |expectation: &str| {
        format!("POST /in HTTP/1.1\r\nHost: a\r\nExpect: {expectation}\r\nContent-Length: 5\r\n\r\nhello{TAIL}")
    };
    for (expectation, statuses) in [("100-continue", [100, 200, 200].as_slice()), ("100-Continue", &[100, 200, 200])] {
        upstream.forget();
        let heard = Talk::to(gateway.address).statuses(post(expectation));
        let heard: Vec<u16> = if heard.first() == Some(&200) { [&[100], heard.as_slice()].concat() } else { heard };
        assert_eq!(heard, statuses, "{expectation}");
        let seen = upstream.messages();
        assert_eq!((seen.len(), seen[0].body.as_slice(), seen[0].values("expect")), (2, b"hello".as_slice(), vec![]));
    }
    for expectation in ["200-ok", "100-continue, x", ""] {
        upstream.forget();
        assert_eq!(Talk::to(gateway.address).statuses(post(expectation)), [417, 200], "{expectation}");
        assert_eq!(upstream.messages().iter().map(|request| request.start.as_str()).collect::<Vec<_>>(), ["GET /tail HTTP/1.1"]);
    }
}

/// C11: an upstream that answers before it has read the body takes no other request on that connection: it would read it
/// as the rest of the body.
#[test]
fn an_answer_before_the_body_is_read_harms_no_other_request() {
    let (seen, see) = sync_channel(16);
    let script = Script::start(move |mut played| {
        let Some(head) = played.head() else { return };
        let target = head.split(' ').nth(1).unwrap().to_owned();
        played.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        seen.send((target, played.rest())).unwrap();
    });
    let gateway = open_to_all(&script.url());
    for round in 0..5 {
        // Half of the body, and the client waits: the answer comes first.
        let half =
            format!("POST /early HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n{}", "x".repeat(50));
        let statuses = Talk::to(gateway.address).statuses(half);
        assert_eq!(statuses.iter().filter(|status| **status != 100).collect::<Vec<_>>(), [&200], "round {round}");
        assert_eq!(Talk::to(gateway.address).statuses("GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), [200]);
        let mut both: Vec<(String, Option<String>)> =
            (0..2).map(|_| see.recv_timeout(Duration::from_secs(15)).unwrap()).collect();
        both.sort();
        let rest = both[0].1.clone().unwrap();
        assert_eq!((both[0].0.as_str(), "x".repeat(50).starts_with(&rest)), ("/early", true), "{rest}");
        assert_eq!(both[1], ("/next".to_owned(), Some(String::new())));
    }
}

/// C16: what is another protocol, or an older one, is refused or closed, and the gateway lives.
#[test]
fn other_protocols_are_no_requests() {
    let upstream = Upstream::start();
    let gateway = open_to_all(&upstream.url());
    let hello: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x9a\x00\xff\r\n\r\n";
    for (what, bytes) in [
        ("HTTP/0.9", b"GET /in\r\n".as_slice()),
        ("HTTP/0.9 without an end of line", b"GET /in"),
        ("HTTP/0.9 and more", b"GET /in\r\nHost: a\r\n\r\n"),
        ("HTTP/2 with prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
        ("HTTP/2.0 as a word", b"GET /in HTTP/2.0\r\nHost: a\r\n\r\n"),
        ("TLS", hello),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("SMTP", b"EHLO a\r\n"),
        ("a PROXY header", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET /in HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("nothing but line ends", b"\r\n\r\n\r\n\r\n"),
        ("NULs", &[0; 64]),
    ] {
        let statuses = own_statuses(Talk::to(gateway.address), bytes);
        assert!(matches!(statuses[..], [] | [400]), "{what}: {statuses:?}");
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(Talk::to(gateway.address).statuses(TAIL), [200]);
    assert!(!gateway.everything_written().contains("panicked"));
}
