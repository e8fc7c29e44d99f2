//! The guard against hyper, on streams of requests that are nearly sound.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBuf};
use hyper::service::service_fn;
use proptest::prelude::{any, prop};
use proptest::test_runner::{Config, TestRunner};
use proptest::{prop_assert_eq, prop_oneof};

use crate::body::Body;
use crate::listener::guard::oracle::{BodySeen, Feed, LIMITS, behind_the_guard, collect, hyper_reads_what_was_judged};
use crate::listener::guard::stream::{Follower, Rest};
use crate::listener::guard::{Guard, Refusals, samples};
use crate::listener::{Settings, sockets};

#[test]
fn hyper_reads_what_the_guard_has_judged() {
    let ends = Rc::new(Cell::new([0; 3]));
    let requests = Rc::new(Cell::new(0));
    let mut runner = TestRunner::new(Config { cases: 3000, failure_persistence: None, ..Config::default() });
    let sizes = prop_oneof![
        prop::collection::vec(1..40_usize, 1..8),
        prop::collection::vec(1..2_usize, 1..2),
        prop::collection::vec(100_000..100_001_usize, 1..2),
    ];
    runner
        .run(&(samples::stream(), sizes), |(bytes, sizes)| {
            let (rest, seen) = hyper_reads_what_was_judged(&bytes, &sizes);
            let mut count = ends.get();
            count[match rest {
                Rest::Wait => 0,
                Rest::Refused(_) => 1,
                Rest::Broken => 2,
            }] += 1;
            ends.set(count);
            requests.set(requests.get() + seen);
            Ok(())
        })
        .unwrap();
    // A generator that only makes what is refused would show nothing, and so would one that only makes what is sound.
    assert!(ends.get().iter().all(|count| *count > 150), "{:?}", ends.get());
    assert!(requests.get() > 3000, "{}", requests.get());
}

/// What hyper gets is what was judged, byte for byte and in order, whatever its room; then the stand-in alone.
#[test]
fn the_bytes_that_were_judged_are_the_bytes_that_are_handed_on() {
    let mut runner = TestRunner::new(Config { cases: 1000, failure_persistence: None, ..Config::default() });
    let sizes = || prop::collection::vec(1..60_usize, 1..8);
    runner
        .run(&(samples::stream(), sizes(), sizes(), any::<bool>()), |(bytes, sizes, rooms, ends)| {
            let verdict = Follower::new(LIMITS).follow(&bytes);
            let mut feed = Feed::new(&bytes, &sizes);
            if ends {
                feed.0.push_back(Vec::new());
            }
            let mut guard = Guard::new(feed, LIMITS, Refusals::default());
            let mut got = Vec::new();
            let mut rooms = rooms.iter().cycle();
            let end = loop {
                let mut room = vec![0; *rooms.next().unwrap()];
                let mut buffer = ReadBuf::new(&mut room);
                match Pin::new(&mut guard).poll_read(&mut Context::from_waker(Waker::noop()), buffer.unfilled()) {
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => break "end",
                    Poll::Ready(Ok(())) => got.extend_from_slice(buffer.filled()),
                    Poll::Ready(Err(_)) => break "error",
                    Poll::Pending => break "pending",
                }
            };
            let (sound, rest) = got.split_at(verdict.sound.min(got.len()));
            prop_assert_eq!(sound.escape_ascii().to_string(), bytes[..verdict.sound].escape_ascii().to_string());
            let expected = match verdict.rest {
                Rest::Wait if ends => (false, "end"),
                Rest::Wait => (false, "pending"),
                Rest::Refused(_) => (true, "pending"),
                Rest::Broken => (false, "error"),
            };
            prop_assert_eq!((rest.ends_with(b"\r\nconnection: close\r\n\r\n"), end), expected);
            prop_assert_eq!(rest.is_empty(), !expected.0);
            Ok(())
        })
        .unwrap();
}

/// A4 C1 C2 C3 C5 C7: what hyper alone would take, or settle in silence, and the guard refuses.
#[test]
fn what_hyper_settles_in_silence_is_refused() {
    for bytes in samples::SETTLED_BY_HYPER {
        let seen = behind_the_guard(bytes.as_bytes(), &[bytes.len()]);
        let ends: Vec<&BodySeen> = seen.iter().map(|seen| &seen.body).collect();
        assert!(matches!(ends[..], [BodySeen::Refused(_) | BodySeen::Broken]), "{bytes:?}: {seen:?}");
        let alone = hyper_alone(bytes.as_bytes());
        assert!(alone > 0, "hyper refuses this by itself: {bytes:?}");
    }
}

/// How many requests hyper hands on without the guard.
fn hyper_alone(bytes: &[u8]) -> usize {
    let config = sockets::tests::listener("127.0.0.1:0".parse().unwrap());
    let settings = Settings::new(&config, 1, Duration::ZERO);
    let count = Cell::new(0);
    let service = service_fn(|request: Request<Incoming>| {
        count.set(count.get() + 1);
        async move {
            let (parts, incoming) = request.into_parts();
            assert_ne!((parts.method, collect(incoming).await), (Method::TRACE, BodySeen::Open));
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }
    });
    let mut connection = pin!(settings.http.serve_connection(Feed::new(bytes, &[bytes.len()]), service));
    let _ = connection.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    count.get()
}
