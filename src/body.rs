//! The one body type: what a client sends, what an upstream answers and what the gateway says itself. Every streamed
//! body is bounded in time, a client's also in size, and all are counted. Never buffers a stream except in
//! [`Body::collect`], which has a cap.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
pub use hyper::body::Incoming;
use tokio::time::Instant;

use crate::patience::{Deadline, Pace, Pacer};
use crate::rejection::Denial;

/// A body in either direction. Belongs to one thread.
#[derive(Default)]
pub struct Body {
    kind: Kind,
    meter: Option<Meter>,
    farewell: Option<Farewell>,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Stream(Stream),
}

/// Why a body ended before its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BodyError {
    /// The client's doing; the request is to be refused with this reason while that is still possible.
    #[error("the client's body: {0}")]
    Client(Denial),
    /// The upstream's; an answer that has begun can only be cut.
    #[error("the upstream's body: {0}")]
    Upstream(String),
}

/// How a body went, for whoever logs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub bytes: u64,
    pub ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All of it went through.
    Whole,
    /// It failed or was dropped on the way.
    Cut,
}

impl Body {
    pub fn empty() -> Self {
        Self::default()
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self { kind: Kind::Full(bytes), ..Self::default() } }
    }

    /// The body of a request: at most `cap` bytes, and never longer than `progress` without one.
    ///
    /// # Errors
    /// [`Denial::BodyTooLarge`] at once when the declared length is above the cap: a client that waits for
    /// `100 Continue` then never sends it.
    pub fn from_client(incoming: Incoming, cap: Option<u64>, progress: Duration) -> Result<Self, Denial> {
        if let (Some(limit), Some(declared)) = (cap, incoming.size_hint().exact())
            && declared > limit
        {
            return Err(Denial::BodyTooLarge { limit });
        }
        if incoming.is_end_stream() {
            return Ok(Self::empty());
        }
        let cap = cap.map(|limit| Cap { limit, left: limit });
        Ok(Self::stream(incoming, progress, Source::Client { cap }))
    }

    /// Demands that it comes as fast as that.
    #[must_use]
    pub fn paced(mut self, pace: Option<Pace>) -> Self {
        if let Kind::Stream(stream) = &mut self.kind {
            stream.pacer = Pacer::new(pace);
        }
        self
    }

    /// The body of an upstream's answer, which is cut when nothing comes for `idle`. `at_end` runs when all of it has
    /// come, and is dropped unrun when it has not.
    pub fn from_upstream(incoming: Incoming, idle: Duration, at_end: impl FnOnce() + 'static) -> Self {
        Self::stream(incoming, idle, Source::Upstream { at_end: Some(Box::new(at_end)) })
    }

    fn stream(incoming: Incoming, patience: Duration, source: Source) -> Self {
        let stream = Stream { incoming, patience, waiting: Deadline::default(), pacer: Pacer::default(), source };
        Self { kind: Kind::Stream(stream), ..Self::default() }
    }

    /// Reads all of it, for endpoints that the gateway answers itself. Such a body is small, so the time without a byte
    /// is also the time for all of it: a client that sends a byte now and then does not hold the request open.
    ///
    /// # Errors
    /// [`Denial::BodyTooLarge`] above `cap` bytes, [`Denial::BodyTimeout`], [`Denial::BodyBroken`].
    pub async fn collect(mut self, cap: u64) -> Result<Bytes, Denial> {
        let too_large = Denial::BodyTooLarge { limit: cap };
        if self.size_hint().lower() > cap {
            return Err(too_large);
        }
        let mut whole = Deadline::default();
        if let Kind::Stream(stream) = &self.kind {
            whole.start(stream.patience);
        }
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(data) = poll_fn(|cx| self.poll_data(cx, &mut whole)).await? {
            let length = first.len().saturating_add(rest.len()).saturating_add(data.len());
            if u64::try_from(length).unwrap_or(u64::MAX) > cap {
                return Err(too_large);
            }
            // Most bodies come in one piece and need no copy.
            if first.is_empty() && rest.is_empty() {
                first = data;
                continue;
            }
            rest.extend_from_slice(&mem::take(&mut first));
            rest.extend_from_slice(&data);
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    }

    fn poll_data(&mut self, cx: &mut Context<'_>, whole: &mut Deadline) -> Poll<Result<Option<Bytes>, Denial>> {
        match Pin::new(&mut *self).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Ok(Some(frame.into_data().unwrap_or_default()))),
            Poll::Ready(Some(Err(BodyError::Client(denial)))) => Poll::Ready(Err(denial)),
            Poll::Ready(Some(Err(BodyError::Upstream(_)))) => Poll::Ready(Err(Denial::BodyBroken)),
            Poll::Ready(None) => Poll::Ready(Ok(None)),
            Poll::Pending => {
                ready!(whole.poll(cx));
                let seconds = if let Kind::Stream(stream) = &self.kind { stream.patience.as_secs() } else { 0 };
                Poll::Ready(Err(Denial::BodyTimeout { seconds }))
            }
        }
    }

    /// A counter that goes on counting after the body has been handed on.
    pub fn meter(&mut self) -> Meter {
        let meter = self.meter.get_or_insert_default();
        if meter.0.moved.get().is_none() {
            meter.0.moved.set(Some(Instant::now()));
        }
        meter.clone()
    }

    /// Calls `tell` once: when the body has ended, or is dropped before. One caller per body; a later one replaces it.
    #[must_use]
    pub fn when_done(mut self, tell: impl FnOnce(Done) + 'static) -> Self {
        let ended = self.is_end_stream();
        let meter = self.meter.get_or_insert_default().clone();
        meter.0.ended.set(ended || meter.0.ended.get());
        self.farewell = Some(Farewell { meter, tell: Some(Box::new(tell)) });
        self
    }

    /// Keeps count of what `polled` brought.
    fn account(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, BodyError>>>) {
        let ended = self.is_end_stream();
        let Some(meter) = &self.meter else { return };
        let meter = &meter.0;
        meter.waiting.set(polled.is_pending());
        if let Poll::Ready(item @ (None | Some(Ok(_)))) = polled {
            let length = item.as_ref().and_then(|item| item.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
            meter.bytes.set(meter.bytes.get().saturating_add(u64::try_from(length).unwrap_or(u64::MAX)));
            // Only a meter that somebody reads meanwhile tells the time.
            meter.moved.set(meter.moved.get().map(|_| Instant::now()));
            meter.ended.set(ended || item.is_none());
        }
        if meter.ended.get() {
            self.farewell = None;
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = mem::take(bytes);
                self.kind = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Stream(stream) => stream.poll(cx).map(|item| item.map(|data| data.map(Frame::data))),
        };
        self.account(&polled);
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Stream(stream) => stream.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Kind::Stream(stream) => stream.incoming.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the bytes: bodies hold passwords and tokens.
        f.write_str(match &self.kind {
            Kind::Empty => "Body(empty)",
            Kind::Full(_) => "Body(full)",
            Kind::Stream(_) => "Body(stream)",
        })
    }
}

impl BodyError {
    /// What the client is to be told, when the client was at fault.
    pub fn denial(&self) -> Option<&Denial> {
        if let Self::Client(denial) = self { Some(denial) } else { None }
    }
}

/// A body that comes from a connection.
struct Stream {
    incoming: Incoming,
    patience: Duration,
    /// Runs only while the sender is waited for: a reader that is slow does not use up the sender's time.
    waiting: Deadline,
    pacer: Pacer,
    source: Source,
}

enum Source {
    Client { cap: Option<Cap> },
    Upstream { at_end: Option<Box<dyn FnOnce()>> },
}

struct Cap {
    limit: u64,
    left: u64,
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.waiting.stop();
                    // Trailers end here, in both directions: no check has seen them, and whoever merges them into the
                    // header fields (RFC 9110, section 6.5.1) would read a client's identity headers after ours.
                    let Ok(data) = frame.into_data() else { continue };
                    return Poll::Ready(Some(self.admit(data)));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(self.broken(&error)))),
                Poll::Ready(None) => {
                    self.end();
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    if !self.waiting.is_running() {
                        self.waiting.start(self.patience);
                        self.pacer.wait();
                    }
                    ready!(self.waiting.poll(cx));
                    return Poll::Ready(Some(Err(self.too_slow())));
                }
            }
        }
    }

    fn admit(&mut self, data: Bytes) -> Result<Bytes, BodyError> {
        panic_point!(if matches!(self.source, Source::Client { .. }) { "body" } else { "answer" });
        self.pacer.take(data.len()).map_err(BodyError::Client)?;
        if let Source::Client { cap: Some(cap) } = &mut self.source {
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            cap.left = cap.left.checked_sub(length).ok_or(BodyError::Client(Denial::BodyTooLarge { limit: cap.limit }))?;
        }
        // A body of known length is not polled again after its last byte.
        if self.incoming.is_end_stream() {
            self.end();
        }
        Ok(data)
    }

    fn end(&mut self) {
        if let Source::Upstream { at_end } = &mut self.source
            && let Some(at_end) = at_end.take()
        {
            at_end();
        }
    }

    fn broken(&self, error: &hyper::Error) -> BodyError {
        match self.source {
            Source::Client { .. } => BodyError::Client(Denial::BodyBroken),
            Source::Upstream { .. } => BodyError::Upstream(error.to_string()),
        }
    }

    fn too_slow(&self) -> BodyError {
        let seconds = self.patience.as_secs();
        match self.source {
            Source::Client { .. } => BodyError::Client(Denial::BodyTimeout { seconds }),
            Source::Upstream { .. } => BodyError::Upstream(format!("no byte arrived for {seconds} s")),
        }
    }
}

/// Counts a body while it goes by.
#[derive(Clone, Default)]
pub struct Meter(Rc<Gauge>);

#[derive(Default)]
struct Gauge {
    bytes: Cell<u64>,
    ended: Cell<bool>,
    /// The reader wants more and the sender has not sent it yet.
    waiting: Cell<bool>,
    moved: Cell<Option<Instant>>,
}

impl Meter {
    pub fn bytes(&self) -> u64 {
        self.0.bytes.get()
    }

    /// Since when whoever reads the body has taken nothing. `None` while it is the sender who is waited for.
    pub fn reader_quiet_since(&self) -> Option<Instant> {
        if self.0.waiting.get() { None } else { self.0.moved.get() }
    }
}

struct Farewell {
    meter: Meter,
    tell: Option<Box<dyn FnOnce(Done)>>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let ending = if self.meter.0.ended.get() { Ending::Whole } else { Ending::Cut };
        if let Some(tell) = self.tell.take() {
            tell(Done { bytes: self.meter.bytes(), ending });
        }
    }
}
