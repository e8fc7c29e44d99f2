//! Clients of HTTP/2 that make much work of few bytes, and clients that do not take what they have asked for.

use std::time::Duration;

use crate::http2::{api, gateway};
use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, asks, block, frame,
};
use crate::support::{Gateway, Reply, Upstream, pause_for, until};

const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// Sends it again and again, up to so many times, until the connection ends; with which error it did.
fn flood(client: &mut Frames, times: usize, bytes: impl Fn(usize) -> Vec<u8>) -> Option<u32> {
    for start in (0..times).step_by(100) {
        let batch: Vec<u8> = (start..start + 100).flat_map(&bytes).collect();
        if !client.try_send(&batch) {
            break;
        }
    }
    client.goaway()
}

fn stream(index: usize) -> u32 {
    u32::try_from(2 * index + 1).unwrap()
}

/// D1: requests that are cancelled before they are taken.
#[test]
fn rapid_resets_end_the_connection() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    upstream.reply(Reply::Silence);
    let mut client = Frames::connect(gateway.address);
    let head = block(&asks("GET", "/in"));
    let error = flood(&mut client, 20_000, |index| {
        let open = frame(HEADERS, END_HEADERS | END_STREAM, stream(index), &head);
        [open, frame(RST_STREAM, 0, stream(index), &CANCEL)].concat()
    });
    assert_eq!(error, Some(ENHANCE_YOUR_CALM));
    assert!(upstream.count() <= 100, "{} requests", upstream.count());
    upstream.reply(Reply::Ok);
    assert_eq!(gateway.get("/in", &[]).status, 200);
}

/// D1: the same at a pace at which each is taken. Whoever lets as many come to their end may cancel the others.
#[test]
fn requests_that_are_cancelled_once_taken_end_the_connection() {
    let upstream = Upstream::start();
    let gateway = gateway("limits = { h2_streams = 30 }", &upstream);
    let mut fair = Frames::connect(gateway.address);
    for index in 0..80 {
        fair.ask(stream(2 * index), &asks("GET", "/in"));
        assert_eq!(fair.end_of(stream(2 * index)), None);
        fair.ask(stream(2 * index + 1), &asks("GET", "/in"));
        fair.send(&frame(RST_STREAM, 0, stream(2 * index + 1), &CANCEL));
        fair.settle();
    }
    upstream.forget();
    upstream.reply(Reply::Silence);
    let mut client = Frames::connect(gateway.address);
    for index in 0..31 {
        client.ask(stream(index), &asks("GET", "/in"));
        until("the request", || (upstream.count() > index).then_some(()));
        client.send(&frame(RST_STREAM, 0, stream(index), &CANCEL));
        if index < 30 {
            client.settle();
        }
    }
    // The stream's task has to see it first.
    pause_for(Duration::from_millis(100));
    client.try_send(&frame(PING, 0, 0, &[0; 8]));
    assert_eq!(client.goaway(), Some(ENHANCE_YOUR_CALM));
    assert!(upstream.count() <= 32, "{} requests", upstream.count());
}

/// D2: streams that the client makes us reset.
#[test]
fn resets_that_the_client_brings_about_end_the_connection() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    upstream.reply(Reply::Silence);
    let head = block(&asks("GET", "/in"));
    let malformed = block(&[&asks("GET", "/in")[..], &[("connection", "close")]].concat());
    let mut client = Frames::connect(gateway.address);
    let error = flood(&mut client, 1000, |index| frame(HEADERS, END_HEADERS | END_STREAM, stream(index), &malformed));
    assert_eq!((error, upstream.count()), (Some(ENHANCE_YOUR_CALM), 0));
    for trick in [frame(WINDOW_UPDATE, 0, 0, &[0; 4]), frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])] {
        upstream.forget();
        let mut client = Frames::connect(gateway.address);
        let error = flood(&mut client, 5000, |index| {
            let mut trick = trick.clone();
            trick[5..9].copy_from_slice(&stream(index).to_be_bytes());
            [frame(HEADERS, END_HEADERS | END_STREAM, stream(index), &head), trick].concat()
        });
        assert!(error.is_some_and(|error| error != 0), "{error:?}");
        assert!(upstream.count() <= 250, "{} requests", upstream.count());
    }
}

/// D3: a head without end.
#[test]
fn continuations_without_end_end_the_connection() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    let mut client = Frames::connect(gateway.address);
    client.send(&frame(HEADERS, END_STREAM, 1, &block(&asks("GET", "/in"))));
    let before = gateway.resident_kib();
    let field = block(&[("x-a", "v")]);
    assert_eq!(flood(&mut client, 5000, |_| frame(CONTINUATION, 0, 1, &field)), Some(ENHANCE_YOUR_CALM));
    assert!(gateway.resident_kib() < before + 4096);
    assert_eq!(upstream.count(), 0);
}

/// D5, D6: frames that ask for nothing.
#[test]
fn frames_that_ask_for_nothing_end_the_connection() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    for (name, bytes) in [
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", frame(0x42, 0, 0, &[])),
    ] {
        let mut client = Frames::connect(gateway.address);
        let error = flood_and_read(&mut client, &bytes);
        assert_eq!(error, Some(ENHANCE_YOUR_CALM), "{name}");
    }
    upstream.reply(Reply::Silence);
    let mut client = Frames::connect(gateway.address);
    client.begin(1, &asks("POST", "/in"));
    assert_eq!(flood_and_read(&mut client, &frame(DATA, 0, 1, &[])), Some(ENHANCE_YOUR_CALM), "DATA");
    assert!(gateway.resident_kib() < 200 << 10);
}

/// 100,000 of them, from a client that takes the answers meanwhile.
fn flood_and_read(client: &mut Frames, bytes: &[u8]) -> Option<u32> {
    let mut writer = client.writer();
    let batch = bytes.repeat(100);
    let sender = std::thread::spawn(move || (0..1000).all(|_| std::io::Write::write_all(&mut writer, &batch).is_ok()));
    let error = client.goaway();
    let _ = sender.join();
    error
}

/// D4: thousands of fields by a byte each, on all streams, of a client that takes no answer.
#[test]
fn heads_that_grow_when_they_are_unpacked_stay_small() {
    let upstream = Upstream::start();
    let gateway = gateway("timeouts = { body_progress = \"700ms\", idle = \"20s\" }", &upstream);
    assert_eq!(gateway.get("/in", &[]).status, 200);
    let before = gateway.resident_kib();
    let mut client = Frames::connect_with(gateway.address, &[(4, 0)]);
    // One entry of the table, then a byte for each time it is meant (RFC 7541, sections 6.1 and 6.2.1).
    let mut first = block(&asks("GET", "/in"));
    first.extend_from_slice(b"\x40\x01a\x01b");
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &first));
    // Above the limit by a little they are refused in the API's shape; by much, their streams are reset.
    for (index, fields) in (1..100).map(|index| (index, 190)).chain((100..200).map(|index| (index, 1000))) {
        let mut bomb = block(&asks("GET", "/in"));
        bomb.resize(bomb.len() + fields, 0xbe);
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream(index), &bomb));
    }
    client.settle();
    let grown = gateway.resident_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB");
    until("the end of every request", || (gateway.metric("gateward_requests_in_flight") == 0.0).then_some(()));
    assert!(upstream.count() <= 2, "{}", upstream.count());
}

/// D13: who opens no window, or a byte at a time, holds no upstream.
#[test]
fn answers_that_are_not_taken_free_the_upstream() {
    let upstream = Upstream::start();
    let gateway = gateway("timeouts = { body_progress = \"600ms\", idle = \"20s\" }", &upstream);
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    upstream.reply(Reply::Bytes([head.as_bytes(), &vec![b'x'; 1_000_000]].concat()));
    let mut client = Frames::connect_with(gateway.address, &[(4, 1)]);
    for index in 0..50 {
        client.ask(stream(index), &asks("GET", "/in"));
    }
    let mut reset = 0;
    while reset < 50 {
        let next = client.next().unwrap();
        reset += usize::from(next.kind == RST_STREAM);
        client.send(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
    }
    upstream.wait_until_left();
    client.settle();
}

/// The connection of another is not held up while one is flooded.
#[test]
fn others_are_served_beside_a_flood() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_with("http2 = true", &api(&upstream));
    let mut client = Frames::connect(gateway.address);
    let mut other = Frames::connect(gateway.address);
    for index in 0..20 {
        client.try_send(&frame(PING, 0, 0, &[0; 8]).repeat(100));
        other.ask(stream(index), &asks("GET", "/in"));
        assert_eq!(other.end_of(stream(index)), None);
    }
    client.settle();
}
