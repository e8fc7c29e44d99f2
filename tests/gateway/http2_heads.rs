//! Heads and bodies by HTTP/2 that no request by HTTP/1.1 could be made of: reset or refused, and never passed on.

use crate::http2::gateway;
use crate::support::http2::{CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PROTOCOL_ERROR, asks, block, frame};
use crate::support::{Gateway, Upstream, until};

/// How the gateway ends one request: `reset`, or the reason in the log.
fn said(gateway: &Gateway, fields: &[(&str, &str)]) -> String {
    let before = gateway.log().len();
    let mut client = Frames::connect(gateway.address);
    client.ask(1, fields);
    let error = client.end_of(1);
    client.settle();
    match error {
        Some(PROTOCOL_ERROR) => "reset".to_owned(),
        Some(other) => format!("error {other}"),
        None => until("the log line", || {
            let log = gateway.log();
            (log.len() > before).then(|| log.last().unwrap()["reason"].as_str().unwrap_or("served").to_owned())
        }),
    }
}

fn with<'a>(fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&asks("GET", "/in")[..], fields].concat()
}

/// D7, B10: what would be two lines, another framing or another connection's matter by HTTP/1.1.
#[test]
fn fields_that_http1_would_read_otherwise_are_never_passed_on() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    for (name, value) in [
        ("x-a", "b\r\nx-auth-user: admin"),
        ("x-a", "b\nx"),
        ("x-a", "b\rx"),
        ("x-a", "b\0x"),
        ("x-a\r\nx-b", "c"),
        ("x-a: b\r\nx-c", "d"),
        ("x a", "b"),
        ("x-a\0", "b"),
        ("x:a", "b"),
        ("", "b"),
        ("X-Upper", "b"),
        ("Host", "b"),
    ] {
        let mut client = Frames::connect(gateway.address);
        client.ask(1, &with(&[(name, value)]));
        assert_ne!(client.end_of(1), None, "{name:?}: {value:?}");
    }
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("connection", "x-auth-user"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("content-length", "5"),
        ("content-length", "+0"),
        ("content-length", "0x0"),
        (":unknown", "x"),
        (":status", "200"),
        (":protocol", "websocket"),
        (":path", "/in/b"),
    ] {
        let found = said_or_gone(&gateway, &with(&[(name, value)]));
        assert_eq!(found, "reset", "{name}: {value}");
    }
    assert_eq!(said(&gateway, &with(&[("content-length", "")])), "framing_ambiguous");
    for (value, reason) in [(" b", "head_malformed"), ("b\t", "head_malformed"), ("b c", "served")] {
        assert_eq!(said(&gateway, &with(&[("x-a", value)])), reason, "{value:?}");
    }
    assert_eq!(upstream.count(), 1);
}

/// The same, where the end of the connection is as good.
fn said_or_gone(gateway: &Gateway, fields: &[(&str, &str)]) -> String {
    let mut client = Frames::connect(gateway.address);
    client.ask(1, fields);
    if client.end_of(1) == Some(PROTOCOL_ERROR) { "reset".to_owned() } else { "answered".to_owned() }
}

/// D8, A8: one authority, one path, one scheme, all before the fields.
#[test]
fn pseudo_fields_are_said_once_and_agree_with_host() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    let asks_with = |pseudo: &[(&'static str, &'static str)]| said(&gateway, pseudo);
    let (method, scheme, authority, path) = ((":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/in"));
    for (fields, expected) in [
        (&[method, scheme, authority, path][..], "served"),
        (&[method, scheme, path, ("host", "a.test")], "served"),
        (&[method, scheme, authority, path, ("host", "A.test")], "served"),
        (&[method, scheme, (":authority", "A.Test."), path], "served"),
        (&[method, scheme, authority, path, ("host", "b.test")], "host_malformed"),
        (&[method, scheme, authority, path, ("host", "a.test"), ("host", "a.test")], "host_missing"),
        (&[method, scheme, path], "host_missing"),
        (&[method, scheme, path, ("host", "a.test"), ("host", "b.test")], "host_missing"),
        (&[method, scheme, (":authority", "admin@a.test"), path], "host_malformed"),
        (&[method, scheme, (":authority", "b.test"), path], "host_unknown"),
        (&[method, (":scheme", "ftp"), authority, path], "head_malformed"),
        (&[method, authority, path], "reset"),
        (&[method, scheme, authority], "reset"),
        (&[scheme, authority, path], "reset"),
        (&[method, scheme, authority, path, path], "reset"),
        (&[method, method, scheme, authority, path], "reset"),
        (&[method, scheme, authority, authority, path], "reset"),
        (&[method, scheme, authority, ("x-a", "b"), path], "reset"),
        (&[method, (":scheme", "http://x"), authority, path], "reset"),
        (&[method, scheme, (":authority", "a.test/x"), path], "reset"),
        (&[method, scheme, (":authority", ""), path], "reset"),
    ] {
        assert_eq!(asks_with(fields), expected, "{fields:?}");
    }
    assert_eq!(upstream.count(), 4);
}

/// A4, A7: a path is a path, and all of it is judged.
#[test]
fn a_target_that_is_no_path_is_never_passed_on() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    let path = |path: &'static str| said(&gateway, &asks("GET", path));
    assert_eq!(path("/in?x"), "served");
    for (target, expected) in [
        ("in", "reset"),
        ("", "reset"),
        ("*", "head_malformed"),
        ("?x", "head_malformed"),
        ("/in#/closed", "reset"),
        ("/closed#/in", "reset"),
        ("/in?a#b", "reset"),
        ("#", "reset"),
        ("http://a.test/in", "reset"),
        ("/in /closed", "reset"),
        ("/in\r\nx: y", "reset"),
        ("/in\u{e9}", "head_malformed"),
        ("/in?\u{e9}", "head_malformed"),
        ("//a.test/in", "path_ambiguous"),
        ("/in/../closed", "path_ambiguous"),
        ("/in/..%2fclosed", "path_ambiguous"),
    ] {
        assert_eq!(path(target), expected, "{target:?}");
    }
    assert_eq!(said(&gateway, &asks("OPTIONS", "*")), "path_ambiguous");
    assert_eq!(upstream.count(), 1);
}

/// B14, D4: fields are counted, crumbs of cookies too, and bytes.
#[test]
fn a_head_above_the_limits_is_a_431() {
    let upstream = Upstream::start();
    let gateway = gateway("limits = { headers = 20, header_bytes = \"8KiB\" }", &upstream);
    let many = |name: &'static str, count: usize| with(&vec![(name, "v"); count]);
    // The host is one of them.
    assert_eq!(said(&gateway, &many("cookie", 19)), "served");
    assert_eq!(said(&gateway, &many("x-a", 19)), "served");
    assert_eq!(said(&gateway, &many("cookie", 21)), "too_many_headers");
    assert_eq!(said(&gateway, &many("x-a", 36)), "too_many_headers");
    assert_eq!(said(&gateway, &many("x-a", 37)), "reset");
    let long = "v".repeat(8200);
    assert_eq!(said(&gateway, &with(&[("x-a", &long)])), "head_too_large");
    let mut client = Frames::connect(gateway.address);
    let longer = "v".repeat(16_000);
    client.ask(1, &with(&[("x-a", &longer)]));
    assert_eq!(client.end_of(1), None, "h2's own 431");
    assert_eq!(upstream.count(), 2);
}

/// D9, D11: a body that is not as long as was said is no body, and the upstream's connection is not used again.
#[test]
fn a_body_of_another_length_than_said_is_never_completed() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    let post = [&asks("POST", "/in")[..], &[("content-length", "5")]].concat();
    for (pieces, whole) in [
        (&[(0, &b"12345"[..]), (END_STREAM, &b""[..])][..], true),
        (&[(END_STREAM, b"12345")], true),
        (&[(END_STREAM, b"123456")], false),
        (&[(0, b"123"), (END_STREAM, b"456")], false),
        (&[(END_STREAM, b"1234")], false),
        (&[(0, b"1234"), (END_STREAM, b"")], false),
        (&[(END_STREAM, b"")], false),
    ] {
        upstream.forget();
        let mut client = Frames::connect(gateway.address);
        client.begin(1, &post);
        for (flags, data) in pieces {
            client.send(&frame(DATA, *flags, 1, data));
        }
        let error = client.end_of(1);
        assert_eq!((error.is_none(), upstream.count()), (whole, usize::from(whole)), "{pieces:?}: {error:?}");
        // The next request finds no connection with half a request on it.
        client.ask(3, &asks("GET", "/in"));
        assert_eq!(client.end_of(3), None, "{pieces:?}");
    }
    let mut bare = Frames::connect(gateway.address);
    bare.ask(1, &post);
    assert_eq!(bare.end_of(1), Some(PROTOCOL_ERROR));
}

/// D10: trailers hold no pseudo fields.
#[test]
fn trailers_with_pseudo_fields_reset_their_stream() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    for trailer in [(":path", "/closed"), ("connection", "close"), ("transfer-encoding", "chunked"), ("X-Upper", "x")] {
        upstream.forget();
        let mut client = Frames::connect(gateway.address);
        client.begin(1, &asks("POST", "/in"));
        client.send(&frame(DATA, 0, 1, b"hello"));
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[trailer])));
        assert_ne!(client.end_of(1), None, "{trailer:?}");
        assert_eq!(upstream.count(), 0, "{trailer:?}");
    }
}

/// A head may come in pieces, and a piece may be empty.
#[test]
fn a_head_in_pieces_is_one_head() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    let bytes = block(&asks("GET", "/in"));
    let (one, two) = bytes.split_at(7);
    let mut client = Frames::connect(gateway.address);
    client.send(&frame(HEADERS, END_STREAM, 1, one));
    client.send(&frame(CONTINUATION, 0, 1, b""));
    client.send(&frame(CONTINUATION, END_HEADERS, 1, two));
    assert_eq!((client.end_of(1), upstream.count()), (None, 1));
}
