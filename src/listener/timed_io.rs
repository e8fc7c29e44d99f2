//! A client's socket, and what its connection is waiting for. The socket only notes what happens; the task that owns
//! the connection asks [`Watch::expired`] after every turn and gives up when the client has had its time.
//!
//! hyper's own `header_read_timeout` starts when it begins to *wait* for a request, so that it is an idle timeout too
//! and cannot tell a client that says nothing from one that says its head a byte at a time. It also polls the socket
//! at other times than it waits (it does not read again after an answer when an earlier read has found nothing), so
//! that a timer inside `poll_read` would not always be set. Hence the timer sits outside hyper.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead as _, ReadBuf};

use crate::config::ListenerTimeouts;
use crate::listener::transport::Transport;
use crate::patience::Deadline;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No byte of a next request has come.
    #[default]
    Idle,
    /// Some of a request's head has come.
    Head,
    /// A request is being served; its bodies have timeouts of their own.
    InFlight,
    /// We have closed our half and wait for the client to close its own.
    Closing,
}

/// What the socket, the service and the connection's task know of one connection.
#[derive(Clone, Default)]
pub struct Turn(Rc<State>);

#[derive(Default)]
struct State {
    phase: Cell<Phase>,
    /// The client does not take what is written.
    blocked: Cell<bool>,
    /// Counts changes and bytes taken, so that each gives the client its time anew.
    generation: Cell<u64>,
}

impl Turn {
    pub fn phase(&self) -> Phase {
        self.0.phase.get()
    }

    pub fn enter(&self, phase: Phase) {
        if self.0.phase.replace(phase) != phase {
            self.renew();
        }
    }

    /// Bytes of a request that is read ahead while another is served do not count: that request then gets the idle time
    /// until its next byte, which is no more than its client had anyway.
    fn bytes_came(&self) {
        if self.phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// The client took something, or the socket failed.
    fn took(&self) {
        if self.0.blocked.replace(false) {
            self.renew();
        }
    }

    fn took_nothing(&self) {
        if !self.0.blocked.replace(true) {
            self.renew();
        }
    }

    fn renew(&self) {
        self.0.generation.set(self.0.generation.get().wrapping_add(1));
    }

    /// How long the client may stay as it is.
    fn patience(&self, timeouts: &ListenerTimeouts) -> Option<Duration> {
        match self.phase() {
            Phase::Closing => Some(LINGER),
            Phase::Idle | Phase::Head | Phase::InFlight if self.0.blocked.get() => Some(timeouts.body_progress),
            Phase::Idle => Some(timeouts.idle),
            Phase::Head => Some(timeouts.header),
            Phase::InFlight => None,
        }
    }
}

/// The clock of one connection.
pub struct Watch {
    turn: Turn,
    seen: Option<u64>,
    deadline: Deadline,
}

impl Watch {
    pub fn new(turn: Turn) -> Self {
        Self { turn, seen: None, deadline: Deadline::default() }
    }

    /// Whether the client has had its time. To be asked whenever the connection has been polled and is pending.
    pub fn expired(&mut self, timeouts: &ListenerTimeouts, cx: &mut Context<'_>) -> bool {
        let generation = self.turn.0.generation.get();
        if self.seen != Some(generation) {
            self.seen = Some(generation);
            match self.turn.patience(timeouts) {
                Some(patience) => self.deadline.start(patience),
                None => self.deadline.stop(),
            }
        }
        self.deadline.poll(cx).is_ready()
    }
}

/// The socket as the guard, and hyper behind it, see it.
pub struct TimedIo {
    socket: TokioIo<Transport>,
    turn: Turn,
}

impl TimedIo {
    pub fn new(socket: Transport, turn: Turn) -> Self {
        Self { socket: TokioIo::new(socket), turn }
    }

    /// Takes and forgets what the client still sends, until it closes. A socket that is closed with unread bytes is
    /// reset, and the reset can destroy an answer that the client has not read yet: a 401 or 413 to an upload.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(self.socket.inner_mut()).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // Whether the client has closed or is gone, there is nothing left to wait for.
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }

    fn note_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(_) => self.turn.took(),
            Poll::Pending => self.turn.took_nothing(),
        }
        written
    }
}

impl Read for TimedIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if let Poll::Ready(Ok(())) = &polled {
            // The end of the stream counts too: hyper closes on it at once.
            self.turn.bytes_came();
        }
        polled
    }
}

impl Write for TimedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.note_write(written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bytes);
        self.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        // TLS takes what is written and keeps what the socket does not take.
        match &flushed {
            Poll::Ready(_) => self.turn.took(),
            Poll::Pending => self.turn.took_nothing(),
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.turn.phase() != Phase::Closing {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            self.turn.enter(Phase::Closing);
        }
        self.poll_discard(cx)
    }
}

/// How long a client may take to close its half after we have closed ours.
const LINGER: Duration = Duration::from_secs(2);
