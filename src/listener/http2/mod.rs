//! HTTP/2 (RFC 9113): hyper behind a guard that follows the frames. What h2 lets pass and a request by HTTP/1.1 could not
//! hold is refused here, so that the stages see one kind of request.
//!
//! h2 bounds what is decoded, the resets that it causes or that come before a request is taken, empty DATA and
//! CONTINUATION frames. Ours are the frames that ask for nothing, requests that are cancelled once they are taken, and
//! clients that take their answers too slowly.

mod hpack;
mod block;
mod frames;
mod head;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::Method;
use hyper::rt::Executor;
use hyper::server::conn::http2::{Builder, Connection};
use hyper::service::service_fn;
use tokio::task::spawn_local;

use crate::config::Listener;
use crate::listener::Handler;
use crate::listener::answer::{Answering, Taken};
use crate::listener::connection::Course;
use crate::listener::guard::HeadLimits;
use crate::listener::timed_io::TimedIo;
use crate::patience::Deadline;

pub use frames::PREFACE;

use frames::{BlockLimits, FrameGuard};

/// How HTTP/2 is spoken on a listener.
#[derive(Clone, Debug)]
pub struct Http2 {
    streams: u32,
    list_bytes: u32,
    blocks: BlockLimits,
    /// How long a client may take for a piece of an answer.
    progress: Duration,
}

impl Http2 {
    pub fn new(config: &Listener) -> Self {
        let HeadLimits { fields, head_bytes, .. } = HeadLimits::from(config);
        // A field counts 32 bytes more here than on the wire of HTTP/1.1 (RFC 9113, section 6.5.2). h2 answers what is
        // above itself, without log line and in nobody's shape: hence the slack, in which the pipeline answers.
        let list = head_bytes.saturating_add(fields.saturating_mul(32)).saturating_add(SLACK);
        let blocks = BlockLimits {
            bytes: usize::try_from(list).unwrap_or(usize::MAX).saturating_add(ROOM_FOR_FRAMES),
            fields: usize::try_from(fields).unwrap_or(usize::MAX).saturating_mul(2),
        };
        Self {
            blocks,
            streams: u32::try_from(config.limits.h2_streams).unwrap_or(u32::MAX),
            list_bytes: u32::try_from(list).unwrap_or(u32::MAX),
            progress: config.timeouts.body_progress,
        }
    }

    fn builder(&self, spawner: Spawner) -> Builder<Spawner> {
        let mut http = Builder::new(spawner);
        http.max_concurrent_streams(self.streams)
            .max_header_list_size(self.list_bytes)
            .max_local_error_reset_streams(MOST_ERRORS)
            .max_pending_accept_reset_streams(MOST_RESETS_UNTAKEN)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .adaptive_window(false)
            .auto_date_header(true);
        http
    }
}

/// Serves a connection on which a client speaks HTTP/2.
pub async fn serve<H: Handler>(io: TimedIo, answering: Answering<H>, course: Course) {
    let settings = course.settings.clone();
    let Some(rules) = &settings.http2 else { return };
    answering.turn.multiplex(rules.streams);
    let spawner = Spawner { next: Rc::default(), progress: rules.progress };
    let next = spawner.next.clone();
    let turn = answering.turn.clone();
    let limits = settings.heads;
    let service = service_fn(move |mut request| {
        let fault = head::settle(&mut request, &limits);
        let taken = Taken::default();
        *next.borrow_mut() = taken.clone();
        let is_head = *request.method() == Method::HEAD;
        let answer = answering.clone().answer(request, fault, taken);
        Box::pin(async move { answer.await.map(|response| if is_head { head::only(response) } else { response }) })
    });
    let http = pin!(rules.builder(spawner).serve_connection(FrameGuard::new(io, turn, rules.blocks), service));
    course.drive(http, Connection::graceful_shutdown).await;
}

/// Starts the task of each stream; all end with the connection. hyper hands over a stream's task right after it has asked
/// the service for its answer, so that `next` is that of the same request.
#[derive(Clone)]
struct Spawner {
    next: Rc<RefCell<Taken>>,
    progress: Duration,
}

impl<F: Future + 'static> Executor<F> for Spawner {
    fn execute(&self, stream: F) {
        let taken = self.next.take();
        let progress = self.progress;
        spawn_local(async move {
            let mut stream = pin!(stream);
            let mut deadline = Deadline::default();
            // A client that keeps its window shut holds an upstream's connection. Dropped, the stream is reset.
            poll_fn(|cx| {
                if stream.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                match taken.waiting_since() {
                    Some(since) => deadline.start_from(since, progress),
                    None => deadline.stop(),
                }
                deadline.poll(cx)
            })
            .await;
        });
    }
}

/// Of header fields, above what the listener allows.
const SLACK: u64 = 4 << 10;
/// Streams that we have to reset because of what the client sends.
const MOST_ERRORS: usize = 128;
/// Streams that the client resets before we have seen the request.
const MOST_RESETS_UNTAKEN: usize = 20;
/// Heads and padding of the frames of one header block.
const ROOM_FOR_FRAMES: usize = 16 << 10;
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What is kept of one stream's answer that its client has not taken.
const SEND_BUFFER: usize = 64 << 10;
