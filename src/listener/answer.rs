//! One request and its answer, whatever the protocol: a panic becomes an answer, and what the connection's clock has to
//! know is noted.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::body::{Body, BodyError};
use crate::listener::guard::Fault;
use crate::listener::timed_io::{Serving, Turn};
use crate::listener::{ConnectionInfo, Drain, Handler};

/// What the requests of one connection share.
pub struct Answering<H> {
    pub info: ConnectionInfo,
    pub handler: Rc<H>,
    pub drain: Rc<Drain>,
    pub turn: Turn,
}

impl<H> Clone for Answering<H> {
    fn clone(&self) -> Self {
        Self { info: self.info.clone(), handler: self.handler.clone(), drain: self.drain.clone(), turn: self.turn.clone() }
    }
}

impl<H: Handler> Answering<H> {
    /// Answers one request. Never fails: what cannot be answered becomes a 500.
    pub async fn answer(
        self,
        request: Request<Incoming>,
        fault: Option<Fault>,
        taken: Taken,
    ) -> Result<Response<Outgoing>, Infallible> {
        let serving = self.turn.serve();
        let version = request.version();
        let mut call = pin!(self.handler.call(request, self.info, fault));
        // A handler that has panicked is not polled again, and what it shares with others is behind its own locks.
        let mut response = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(_) => Poll::Ready(panicked()),
        })
        .await;
        if self.drain.begun.get() && version != Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|body| Outgoing { body, serving, taken }))
    }
}

fn panicked() -> Response<Body> {
    // The panic hook has logged where. The pipeline contains its stages and answers in the API's shape: this is for what
    // panics outside them.
    let mut response = Response::new(Body::full("internal error\n"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Since when the client has been given a piece of an answer that it has not taken. `None` while it is the answer that
/// is waited for.
#[derive(Clone, Default)]
pub struct Taken(Rc<Cell<Option<Instant>>>);

impl Taken {
    pub fn waiting_since(&self) -> Option<Instant> {
        self.0.get()
    }
}

/// An answer's body. hyper drops it when it needs no more of it: then the client's next turn begins.
pub struct Outgoing {
    body: Body,
    serving: Serving,
    taken: Taken,
}

impl Outgoing {
    /// The same answer without its body.
    pub fn emptied(mut self) -> Self {
        self.body = Body::empty();
        self
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.taken.0.set(polled.is_ready().then(Instant::now));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.serving.finish();
        }
    }
}
