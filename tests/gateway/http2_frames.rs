//! Frames as others have recorded them: the well-formed are understood, the malformed end the connection with their error.

use crate::http2::gateway;
use crate::support::http2::{Frames, asks, block, frame};
use crate::support::{Gateway, Upstream, vectors};

const MALFORMED: [&str; 22] = [
    "data-frame-padding",
    "data-frame-size",
    "data-frame-stream",
    "goaway-frame-size",
    "goaway-frame-stream",
    "headers-frame-padding",
    "headers-frame-stream",
    "ping-frame-size",
    "ping-frame-stream",
    "priority-frame-size",
    "priority-frame-stream",
    "push_promise-frame-padding",
    "push_promise-frame-promised_stream-odd",
    "push_promise-frame-promised_stream-zero",
    "push_promise-frame-stream",
    "rst_stream-frame-size",
    "rst_stream-frame-stream",
    "settings-frame-ack-size",
    "settings-frame-size",
    "settings-frame-stream",
    "window_update-frame-increment",
    "window_update-frame-size",
];

fn bytes_of(vector: &serde_json::Value) -> Vec<u8> {
    let wire = vector["wire"].as_str().unwrap();
    let digits: Vec<u32> = wire.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// The error with which one frame ends its stream or its connection. Streams 1 and 2, where the frames are meant for one,
/// are there as far as a client can open them.
fn ended_by(gateway: &Gateway, bytes: &[u8]) -> Option<u32> {
    let mut client = Frames::connect(gateway.address);
    client.begin(1, &asks("POST", "/in"));
    client.settle();
    client.send(bytes);
    client.send(&frame(6, 0, 0, b"after it"));
    let frames = client.until(|frame| frame.error().is_some() || frame.payload == b"after it");
    frames.last().unwrap().error()
}

/// D12, D14: h2 knows one error for most of what is wrong with a frame; a size that is wrong may be one of two (RFC 9113,
/// section 4.2 asks for FRAME_SIZE_ERROR, and none of them is understood).
#[test]
fn malformed_frames_end_with_an_error() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    let mut checked = 0;
    for name in MALFORMED {
        let Some(vector) = vectors(&format!("h2-frames/error/{name}.json")) else { return };
        let expected: Vec<u32> =
            vector["error"].as_array().unwrap().iter().map(|code| u32::try_from(code.as_u64().unwrap()).unwrap()).collect();
        let found = ended_by(&gateway, &bytes_of(&vector));
        assert!(found.is_some_and(|found| expected.contains(&found)), "{name}: {found:?}, expected {expected:?}");
        checked += 1;
    }
    assert_eq!((checked, upstream.count()), (22, 0));
}

#[test]
fn well_formed_frames_that_mean_nothing_here_are_passed_over() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    for name in ["ping", "settings", "priority"] {
        let Some(vector) = vectors(&format!("h2-frames/{name}/normal.json")) else { return };
        let mut client = Frames::connect(gateway.address);
        client.send(&bytes_of(&vector));
        client.send(&frame(1, 5, 11, &block(&asks("GET", "/in"))));
        assert_eq!(client.end_of(11), None, "{name}");
    }
    assert_eq!(upstream.count(), 3);
}
