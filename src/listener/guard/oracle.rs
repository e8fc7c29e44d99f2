//! What must hold of the guard for any bytes: whatever passes, hyper reads as the same requests with the same bodies,
//! however it is cut; of what is refused, hyper sees nothing but the stand-in. For property tests and fuzz targets.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "it reads what the guard has passed, and stops where that cannot be read; no part of the program"
)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;

use crate::body::Body;
use crate::config;
use crate::listener::Settings;
use crate::listener::guard::stream::{Follower, Rest};
use crate::listener::guard::{Guard, HeadLimits, Refusals};

pub const LIMITS: HeadLimits = HeadLimits { fields: 12, head_bytes: 8 << 10, uri_bytes: 64 };

/// A request that nobody can take for anything else.
pub const SENTINEL: &[u8] = b"GET /sentinel HTTP/1.1\r\nhost: a\r\n\r\n";

/// Sends the bytes in pieces of these sizes, over and over. How the guard ended, and how many requests hyper saw.
///
/// # Panics
/// When hyper reads something else than was judged.
pub fn hyper_reads_what_was_judged(bytes: &[u8], sizes: &[usize]) -> (Rest, usize) {
    let (expected, rest) = expected(bytes);
    let mut seen = behind_the_guard(bytes, sizes);
    for seen in seen.iter_mut().filter(|seen| matches!(seen.body, BodySeen::Refused(_))) {
        // What is readable of a refused head depends on how much of it has come.
        seen.method.clear();
        seen.fields.clear();
    }
    assert_eq!(seen, expected, "{} in {sizes:?}", bytes.escape_ascii());
    (rest, seen.len())
}

/// A client whose bytes come in given pieces, and who then waits.
pub struct Feed(pub VecDeque<Vec<u8>>);

impl Feed {
    pub fn new(bytes: &[u8], sizes: &[usize]) -> Self {
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
pub struct Seen {
    method: String,
    target: String,
    /// Names in lower case, sorted; values of one name in their order.
    fields: Vec<(String, Vec<u8>)>,
    pub body: BodySeen,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodySeen {
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
pub fn behind_the_guard(bytes: &[u8], sizes: &[usize]) -> Vec<Seen> {
    let settings = Settings::new(&config::Listener::default(), 1, Duration::ZERO);
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

pub async fn collect(mut incoming: Incoming) -> BodySeen {
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
    let goes_on = || by_the_book(&[&bytes[..verdict.sound], SENTINEL].concat()).len() > all.len();
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
