//! One client's connection from accept to close: finds out which HTTP the client speaks, drives hyper, gives up on
//! clients that keep it waiting, and ends gently at shutdown.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::listener::answer::Answering;
use crate::listener::arrive::{Arrived, Protocol, arrive};
use crate::listener::timed_io::{TimedIo, Turn, Watch};
use crate::listener::transport::Transport;
use crate::listener::{Drain, Handler, Settings, http1, http2};

/// Serves one connection to its end.
pub async fn carry<H: Handler>(socket: TcpStream, peer: SocketAddr, settings: Rc<Settings>, handler: Rc<H>, drain: Rc<Drain>) {
    let Some(Arrived { transport, info, protocol }) = arrive(socket, peer, &settings).await else { return };
    let turn = Turn::default();
    let may_begin_with_http2 = settings.http2.is_some() && matches!(transport, Transport::Plain(_));
    let course = Course { watch: Watch::new(turn.clone()), turn: turn.clone(), settings, drain: drain.clone() };
    let io = TimedIo::new(transport, turn.clone());
    let answering = Answering { info, handler, drain, turn };
    match protocol {
        Protocol::Http1 if may_begin_with_http2 => Box::pin(either(io, answering, course)).await,
        Protocol::Http1 => http1::serve(io, answering, course).await,
        // hyper keeps some kilobytes for each; boxed, a connection takes only those of the one that it is.
        Protocol::Http2 => Box::pin(http2::serve(io, answering, course)).await,
    }
}

/// Serves a client that may begin with HTTP/2 (RFC 9113, section 3.3: prior knowledge).
async fn either<H: Handler>(mut io: TimedIo, answering: Answering<H>, mut course: Course) {
    match course.protocol(&mut io).await {
        Some(Protocol::Http1) => Box::pin(http1::serve(io, answering, course)).await,
        Some(Protocol::Http2) => Box::pin(http2::serve(io, answering, course)).await,
        None => {}
    }
}

/// The clock and the shutdown of one connection.
pub struct Course {
    watch: Watch,
    turn: Turn,
    pub settings: Rc<Settings>,
    drain: Rc<Drain>,
}

impl Course {
    /// What the client speaks, by its first bytes. `None` when it has had its time or is gone.
    async fn protocol(&mut self, io: &mut TimedIo) -> Option<Protocol> {
        let mut draining = pin!(self.drain.wake.notified());
        poll_fn(|cx| {
            if let Poll::Ready(protocol) = io.poll_protocol(cx) {
                return Poll::Ready(protocol.ok());
            }
            if self.watch.expired(&self.settings.timeouts, cx) {
                return Poll::Ready(None);
            }
            let _ = draining.as_mut().poll(cx);
            if self.drain.begun.get() { Poll::Ready(Some(Protocol::Http1)) } else { Poll::Pending }
        })
        .await
    }

    /// Drives a connection to its end. `leave` tells hyper to take no more requests.
    pub async fn drive<C>(mut self, mut http: Pin<&mut C>, mut leave: impl FnMut(Pin<&mut C>))
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let drain = self.drain.clone();
        let mut draining = pin!(drain.wake.notified());
        let mut registered = false;
        let ended = poll_fn(|cx| {
            match self.turn_over(http.as_mut(), cx) {
                Ended::Yes => return Poll::Ready(Ended::Yes),
                // A client of HTTP/2 may be about to send a request; told to go, it knows that it was not taken.
                Ended::Expired if self.turn.is_told_to_go() => return Poll::Ready(Ended::Expired),
                Ended::Expired => return Poll::Ready(Ended::Yes),
                Ended::No => {}
            }
            // Polled once to leave this task's waker there; later turns only look at the flag, which costs nothing.
            if !registered {
                registered = true;
                let _ = draining.as_mut().poll(cx);
            }
            if drain.begun.get() { Poll::Ready(Ended::No) } else { Poll::Pending }
        });
        let ended = ended.await;
        if ended == Ended::Yes {
            return;
        }
        // A client may be about to use an idle connection: closing it now would fail its request. Whoever comes in the
        // time of grace is served and told to go; then idle connections close. HTTP/2 has a word for it that races with
        // nothing (RFC 9113, section 6.8).
        if ended == Ended::No && !self.turn.is_multiplexed() {
            let mut grace = pin!(sleep(GRACE.min(self.settings.drain_timeout / 10)));
            let ended = poll_fn(|cx| match self.turn_over(http.as_mut(), cx) {
                Ended::Yes | Ended::Expired => Poll::Ready(Ended::Yes),
                Ended::No => grace.as_mut().poll(cx).map(|()| Ended::No),
            });
            if ended.await == Ended::Yes {
                return;
            }
        }
        leave(http.as_mut());
        self.turn.leave();
        poll_fn(|cx| if self.turn_over(http.as_mut(), cx) == Ended::No { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    /// The connection's own errors are the client's: it sent no HTTP, or went away. Nobody here can be told.
    fn turn_over<C>(&mut self, http: Pin<&mut C>, cx: &mut Context<'_>) -> Ended
    where
        C: Future<Output = hyper::Result<()>>,
    {
        if http.poll(cx).is_ready() {
            return Ended::Yes;
        }
        if self.watch.expired(&self.settings.timeouts, cx) { Ended::Expired } else { Ended::No }
    }
}

#[derive(PartialEq, Eq)]
enum Ended {
    Yes,
    /// The client has had its time.
    Expired,
    No,
}

/// The most that idle connections are kept after a drain has begun.
const GRACE: Duration = Duration::from_secs(1);
