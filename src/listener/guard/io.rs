//! The guard on a socket: what hyper reads is what was judged.
//!
//! Bytes are read into a buffer that all connections of a worker share, judged there, and copied into hyper's, which can
//! only be filled so. A connection keeps bytes of its own only while a head is incomplete or hyper has no room.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use crate::listener::guard::head::HeadLimits;
use crate::listener::guard::refusal::Refusals;
use crate::listener::guard::stream::{Follower, Rest};

/// A socket whose requests are judged before hyper sees them.
pub struct Guard<I> {
    io: I,
    follower: Follower,
    refusals: Refusals,
    /// What came and was not handed on yet: at most one head and one read.
    held: Vec<u8>,
    /// So many bytes of those may be handed on.
    sound: usize,
    after: After,
}

/// What follows the bytes that may be handed on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// Whatever comes.
    More,
    /// Nothing: the stand-in was the last. The stream does not end either: hyper would take the client for gone, and
    /// drop the answers that are on their way.
    Silence,
    /// An error, which hyper hands to whoever reads the body.
    Error,
}

#[derive(PartialEq, Eq)]
enum Stream {
    Open,
    Ended,
}

impl<I> Guard<I> {
    pub fn new(io: I, limits: HeadLimits, refusals: Refusals) -> Self {
        Self { io, follower: Follower::new(limits), refusals, held: Vec::new(), sound: 0, after: After::More }
    }

    /// Judges what has come, of which hyper has room for all.
    fn take(&mut self, news: &[u8], cursor: &mut ReadBufCursor<'_>) {
        let verdict = if self.held.is_empty() {
            let verdict = self.follower.follow(news);
            let (sound, rest) = news.split_at_checked(verdict.sound).unwrap_or((news, &[]));
            cursor.put_slice(sound);
            self.held.extend_from_slice(rest);
            verdict
        } else {
            self.held.extend_from_slice(news);
            let verdict = self.follower.follow(&self.held);
            self.sound = verdict.sound;
            verdict
        };
        match verdict.rest {
            Rest::Wait => {}
            Rest::Refused(denial) => {
                let refused = self.held.split_off(self.sound);
                self.held.extend_from_slice(&self.refusals.refuse(denial, &refused));
                self.sound = self.held.len();
                self.after = After::Silence;
            }
            Rest::Broken => {
                self.held.truncate(self.sound);
                self.after = After::Error;
            }
        }
    }

    /// Hands on what is sound already.
    fn hand_on(&mut self, cursor: &mut ReadBufCursor<'_>) {
        let count = self.sound.min(cursor.remaining());
        cursor.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.drain(..count);
        self.sound -= count;
        // A connection that waits for its client keeps nothing.
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }
}

impl<I: Read + Unpin> Read for Guard<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut cursor: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let room = cursor.remaining();
        loop {
            if self.sound > 0 {
                self.hand_on(&mut cursor);
            }
            // Nothing handed on would be the end of the stream.
            if cursor.remaining() < room {
                return Poll::Ready(Ok(()));
            }
            match self.after {
                After::More => {}
                After::Silence => return Poll::Pending,
                After::Error => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "broken framing"))),
            }
            let ended = SCRATCH.with_borrow_mut(|scratch| {
                let length = room.min(scratch.len());
                let mut buffer = ReadBuf::new(scratch.get_mut(..length).unwrap_or_default());
                ready!(Pin::new(&mut self.io).poll_read(cx, buffer.unfilled()))?;
                let news = buffer.filled();
                if news.is_empty() {
                    return Poll::Ready(io::Result::Ok(Stream::Ended));
                }
                self.take(news, &mut cursor);
                Poll::Ready(Ok(Stream::Open))
            });
            if ready!(ended)? == Stream::Ended {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<I: Write + Unpin> Write for Guard<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// hyper's reads ask for no more.
const SCRATCH_BYTES: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}
