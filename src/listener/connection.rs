//! One client's connection from accept to close: drives hyper, gives up on clients that keep it waiting, turns a panic
//! into an answer, and ends gently at shutdown.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::body::{Body, BodyError};
use crate::listener::arrive::{Arrived, Protocol, arrive};
use crate::listener::guard::{Fault, Guard, Refusals};
use crate::listener::timed_io::{Phase, TimedIo, Turn, Watch};
use crate::listener::{ConnectionInfo, Drain, Handler, Settings};

/// Serves one connection to its end.
pub async fn carry<H: Handler>(socket: TcpStream, peer: SocketAddr, settings: Rc<Settings>, handler: Rc<H>, drain: Rc<Drain>) {
    // ALPN offers HTTP/1.1 alone.
    let Some(Arrived { transport, info, protocol: Protocol::Http1 }) = arrive(socket, peer, &settings).await else { return };
    let turn = Turn::default();
    let refusals = Refusals::default();
    let service = service_fn(|mut request| {
        let fault = refusals.claim(&mut request);
        // hyper keeps room for this future in each connection from its start. Boxed, its ten kilobytes are taken only while
        // a request is served.
        Box::pin(answer(request, info.clone(), fault, handler.clone(), drain.clone(), turn.clone()))
    });
    let io = Guard::new(TimedIo::new(transport, turn.clone()), settings.heads, refusals.clone());
    let mut http = pin!(settings.http.serve_connection(io, service));
    let mut watch = Watch::new(turn.clone());
    let mut draining = pin!(drain.wake.notified());
    let mut registered = false;
    // The connection's own errors are the client's: it sent no HTTP, or went away. Nobody here can be told.
    let mut turn_over = |http: Pin<&mut dyn Future<Output = hyper::Result<()>>>, cx: &mut Context<'_>| {
        http.poll(cx).is_ready() || watch.expired(&settings.timeouts, cx)
    };
    let ended = poll_fn(|cx| {
        if turn_over(http.as_mut(), cx) {
            return Poll::Ready(Ended::Yes);
        }
        // Polled once to leave this task's waker there; later turns only look at the flag, which costs nothing.
        if !registered {
            registered = true;
            let _ = draining.as_mut().poll(cx);
        }
        if drain.begun.get() { Poll::Ready(Ended::No) } else { Poll::Pending }
    });
    if ended.await == Ended::Yes {
        return;
    }
    // A client may be about to use an idle connection: closing it now would fail its request. Whoever comes in the time
    // of grace is served and told to go; then idle connections close.
    let grace = GRACE.min(settings.drain_timeout / 10);
    let mut grace = pin!(sleep(grace));
    let ended = poll_fn(|cx| {
        if turn_over(http.as_mut(), cx) {
            return Poll::Ready(Ended::Yes);
        }
        grace.as_mut().poll(cx).map(|()| Ended::No)
    });
    if ended.await == Ended::Yes {
        return;
    }
    http.as_mut().graceful_shutdown();
    poll_fn(|cx| if turn_over(http.as_mut(), cx) { Poll::Ready(()) } else { Poll::Pending }).await;
}

#[derive(PartialEq, Eq)]
enum Ended {
    Yes,
    No,
}

/// One request. Never fails: what cannot be answered becomes a 500.
async fn answer<H: Handler>(
    request: Request<Incoming>,
    info: ConnectionInfo,
    fault: Option<Fault>,
    handler: Rc<H>,
    drain: Rc<Drain>,
    turn: Turn,
) -> Result<Response<Outgoing>, Infallible> {
    turn.enter(Phase::InFlight);
    let mut call = pin!(handler.call(request, info, fault));
    // A handler that has panicked is not polled again, and what it shares with others is behind its own locks.
    let mut response = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
        Ok(polled) => polled,
        Err(_) => Poll::Ready(panicked()),
    })
    .await;
    if drain.begun.get() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Outgoing { body, turn }))
}

fn panicked() -> Response<Body> {
    // The panic hook has logged where. The pipeline contains its stages and answers in the API's shape: this is for what
    // panics outside them.
    let mut response = Response::new(Body::full("internal error\n"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// An answer's body. hyper drops it when it needs no more of it: then the client's next turn begins.
struct Outgoing {
    body: Body,
    turn: Turn,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
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
        self.turn.enter(Phase::Idle);
    }
}

/// The most that idle connections are kept after a drain has begun.
const GRACE: Duration = Duration::from_secs(1);
