//! The guard against hyper: whatever passes, hyper reads as the same requests with the same bodies, however it is cut;
//! of what is refused, hyper sees nothing but the stand-in.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper::service::service_fn;
use proptest::prelude::{any, prop};
use proptest::test_runner::{Config, TestRunner};
use proptest::{prop_assert_eq, prop_oneof};

use crate::body::Body;
use crate::listener::guard::stream::{Follower, Rest};
use crate::listener::guard::{Guard, HeadLimits, Refusals, samples};
use crate::listener::{Settings, sockets};

const LIMITS: HeadLimits = HeadLimits { fields: 12, head_bytes: 8 << 10, uri_bytes: 64 };

/// A client whose bytes come in given pieces, and who then waits.
struct Feed(VecDeque<Vec<u8>>);

impl Feed {
    fn new(bytes: &[u8], sizes: &[usize]) -> Self {
        let (mut pieces, mut rest) = (VecDeque::new(), bytes);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, others) = rest.split_at((*size).min(rest.len()));
            pieces.push_back(piece.to_vec());
            rest = others;
        }
        Self(pieces)
    }
}

impl Read for Feed {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, mut cursor: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let Some(mut piece) = self.0.pop_front() else { return Poll::Pending };
        let rest = piece.split_off(piece.len().min(cursor.remaining()));
        cursor.put_slice(&piece);
        if !rest.is_empty() {
            self.0.push_front(rest);
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Feed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// One request as a reader of the stream sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    method: String,
    target: String,
    /// Names in lower case, sorted; values of one name in their order.
    fields: Vec<(String, Vec<u8>)>,
    body: BodySeen,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum BodySeen {
    /// Not all of it has come.
    Open,
    Whole(Vec<u8>),
    Broken,
    /// It is no request: the code of the refusal.
    Refused(&'static str),
}

fn fields<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<_> =
        fields.map(|(name, value)| (String::from_utf8(name.to_ascii_lowercase()).unwrap(), value.to_vec())).collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What hyper, set up as for clients, reads behind the guard.
fn behind_the_guard(bytes: &[u8], sizes: &[usize]) -> Vec<Seen> {
    let config = sockets::tests::listener("127.0.0.1:0".parse().unwrap());
    let settings = Settings::new(&config, 1, Duration::ZERO);
    let refusals = Refusals::default();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|mut request: Request<Incoming>| {
        let fault = refusals.claim(&mut request);
        let seen = seen.clone();
        async move {
            let (parts, incoming) = request.into_parts();
            let named = parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
            let (method, target, fields) = (parts.method.to_string(), parts.uri.to_string(), fields(named));
            let body = fault.map_or(BodySeen::Open, |fault| BodySeen::Refused(fault.denial.code()));
            let (refused, at) = (body != BodySeen::Open, seen.borrow().len());
            seen.borrow_mut().push(Seen { method, target, fields, body });
            if !refused {
                let body = collect(incoming).await;
                seen.borrow_mut()[at].body = body;
            }
            let mut response = Response::new(Body::empty());
            // With a success hyper would make a tunnel of a CONNECT.
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            Ok::<_, Infallible>(response)
        }
    });
    let io = Guard::new(Feed::new(bytes, sizes), LIMITS, refusals.clone());
    let mut connection = pin!(settings.http.serve_connection(io, service));
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(flag.clone());
    while connection.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        if !flag.0.swap(false, Ordering::Relaxed) {
            break;
        }
    }
    let seen = seen.borrow();
    seen.clone()
}

async fn collect(mut incoming: Incoming) -> BodySeen {
    let mut bytes = Vec::new();
    loop {
        match std::future::poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
            None => return BodySeen::Whole(bytes),
            Some(Ok(frame)) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(_)) => return BodySeen::Broken,
        }
    }
}

/// The same bytes as a plain reader sees them, who takes for granted that they are sound.
fn by_the_book(mut bytes: &[u8]) -> Vec<Seen> {
    let mut all = Vec::new();
    loop {
        bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
        let Some((head, mut rest)) = split_at_text(bytes, b"\r\n\r\n") else { return all };
        let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let line = String::from_utf8(lines.next().unwrap().to_vec()).unwrap();
        let [method, target, version] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let fields = fields(lines.map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').unwrap();
            (&line[..colon], line[colon + 1..].trim_ascii())
        }));
        let named = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice());
        let number = |value: &[u8]| String::from_utf8_lossy(value).parse::<usize>().unwrap();
        let body = match (named("transfer-encoding"), named("content-length").map(number)) {
            (Some(_), _) => chunked(&mut rest).map_or(BodySeen::Open, BodySeen::Whole),
            (None, length) => match rest.split_at_checked(length.unwrap_or(0)) {
                Some((body, others)) => {
                    rest = others;
                    BodySeen::Whole(body.to_vec())
                }
                None => BodySeen::Open,
            },
        };
        let connection = |option: &str| fields.iter().any(|(name, value)| name == "connection" && lists(value, option));
        let goes_on = !connection("close") && (version == "HTTP/1.1" || connection("keep-alive"));
        let open = body == BodySeen::Open;
        // hyper gives an absolute target without a path one. A path is taken as it stands.
        let path = target.starts_with('/').then(|| target.to_owned());
        let target = path.unwrap_or_else(|| Uri::try_from(target).unwrap().to_string());
        all.push(Seen { method: method.to_owned(), target, fields, body });
        if open || !goes_on {
            return all;
        }
        bytes = rest;
    }
}

/// Whether a list holds an option. hyper does not read a list with bytes outside ASCII.
fn lists(value: &[u8], option: &str) -> bool {
    let text = HeaderValue::from_bytes(value).unwrap();
    text.to_str().is_ok_and(|text| text.split(',').any(|item| item.trim().eq_ignore_ascii_case(option)))
}

fn chunked(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let (line, rest) = split_at_text(bytes, b"\r\n")?;
        let digits = line.split(|byte| *byte == b';').next().unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        *bytes = rest;
        if size == 0 {
            loop {
                let (trailer, rest) = split_at_text(bytes, b"\r\n")?;
                *bytes = rest;
                if trailer.is_empty() {
                    return Some(data);
                }
            }
        }
        let (chunk, rest) = rest.split_at_checked(size)?;
        data.extend_from_slice(chunk);
        *bytes = rest.split_at_checked(2)?.1;
    }
}

fn split_at_text<'a>(bytes: &'a [u8], text: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(text.len()).position(|window| window == text)?;
    Some((&bytes[..at], &bytes[at + text.len()..]))
}

/// What hyper must see of these bytes.
fn expected(bytes: &[u8]) -> (Vec<Seen>, Rest) {
    let verdict = Follower::new(LIMITS).follow(bytes);
    let mut all = by_the_book(&bytes[..verdict.sound]);
    let goes_on = || by_the_book(&[&bytes[..verdict.sound], samples::SENTINEL].concat()).len() > all.len();
    match &verdict.rest {
        Rest::Wait => {}
        Rest::Broken => {
            if let Some(last) = all.last_mut().filter(|last| last.body == BodySeen::Open) {
                last.body = BodySeen::Broken;
            }
        }
        // A request before it may have been the connection's last.
        Rest::Refused(_) if !goes_on() => {}
        Rest::Refused(denial) => all.push(Seen {
            method: String::new(),
            target: "/".to_owned(),
            fields: Vec::new(),
            body: BodySeen::Refused(denial.code()),
        }),
    }
    (all, verdict.rest)
}

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
            let (expected, rest) = expected(&bytes);
            let mut seen = behind_the_guard(&bytes, &sizes);
            for seen in seen.iter_mut().filter(|seen| matches!(seen.body, BodySeen::Refused(_))) {
                // What is readable of a refused head depends on how much of it has come.
                seen.method.clear();
                seen.fields.clear();
            }
            prop_assert_eq!(&seen, &expected, "{} in {:?}", bytes.escape_ascii(), sizes);
            let mut count = ends.get();
            count[match rest {
                Rest::Wait => 0,
                Rest::Refused(_) => 1,
                Rest::Broken => 2,
            }] += 1;
            ends.set(count);
            requests.set(requests.get() + seen.len());
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
