//! A connection of HTTP/2 to a server: carries as many requests at a time as the server lets it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::rt::{Executor, Read, Write};
use hyper_util::rt::TokioTimer;
use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::body::Body;
use crate::pipeline::forward::dial::MOST_HEADER_BYTES;

pub struct Lane {
    sender: SendRequest<Body>,
    /// Requests that the server takes at a time (SETTINGS_MAX_CONCURRENT_STREAMS).
    most: Box<dyn Fn() -> usize>,
    open: Cell<usize>,
    /// The last time that a request ended.
    used: Cell<Instant>,
}

/// Room for one request.
pub struct Place {
    pub sender: SendRequest<Body>,
    lane: Rc<Lane>,
}

impl Lane {
    /// Greets the server, and lives in a task of its own until it is dropped or the server closes.
    pub async fn open<T: Read + Write + Unpin + 'static>(io: T) -> hyper::Result<Rc<Self>> {
        let mut http = Builder::new(OnThisWorker);
        http.timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_max_send_streams(FIRST_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(MOST_HEADER_BYTES).unwrap_or(u32::MAX));
        let (sender, connection) = http.handshake(io).await?;
        // Asked when it is needed: the task is woken by requests, not by what the server says.
        let connection = Rc::new(RefCell::new(Box::pin(connection)));
        let asked = connection.clone();
        let most = move || asked.try_borrow().map_or(0, |connection| connection.current_max_send_streams());
        spawn_local(async move {
            let end = poll_fn(|cx| connection.borrow_mut().as_mut().poll(cx));
            // Its errors reach the requests that are on it.
            let _ = end.await;
        });
        Ok(Rc::new(Self { sender, most: Box::new(most), open: Cell::new(0), used: Cell::new(Instant::now()) }))
    }

    /// Room for one more request. `None` on a connection that is full or about to end.
    pub fn reserve(self: &Rc<Self>) -> Option<Place> {
        let open = self.open.get();
        if self.is_over() || open >= (self.most)().min(MOST_STREAMS) {
            return None;
        }
        self.open.set(open.saturating_add(1));
        Some(Place { sender: self.sender.clone(), lane: self.clone() })
    }

    pub fn is_over(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether nothing has been on it for so long.
    pub fn is_idle_for(&self, time: Duration) -> bool {
        self.open.get() == 0 && self.used.get().elapsed() > time
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.open.set(self.lane.open.get().saturating_sub(1));
        self.lane.used.set(Instant::now());
    }
}

/// A worker's connections stay on it, and so do their tasks.
#[derive(Clone)]
struct OnThisWorker;

impl<F: Future<Output: 'static> + 'static> Executor<F> for OnThisWorker {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

/// Requests at a time before the server has said how many it takes. Others wait their turn for a connection of their own,
/// by which time it has mostly been said.
const FIRST_STREAMS: usize = 1;
/// The same for a server that sets no limit.
const MOST_STREAMS: usize = 256;
/// How often a connection that carries requests is asked whether it still lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// What may be on its way to a reader that stands still: of one answer, and of all on a connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;
