//! Follows the frames that a client sends, and ends the connection of one that sends what asks for nothing, or cancels
//! what it asks for: hyper is then shown a flood that h2 knows, so that the client is told `ENHANCE_YOUR_CALM`.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use tokio::time::Instant;

use crate::listener::timed_io::Turn;

/// A socket whose frames are followed.
pub struct FrameGuard<I> {
    io: I,
    turn: Turn,
    frames: Frames,
    budget: Budget,
    /// What is still to be shown before nothing more is.
    farewell: Option<Vec<u8>>,
}

impl<I> FrameGuard<I> {
    pub fn new(io: I, turn: Turn) -> Self {
        let budget = Budget { owed: 0, since: Instant::now() };
        Self { io, turn, frames: Frames::default(), budget, farewell: None }
    }

    /// Hands on what has come, up to the frame that is one too many.
    fn take(&mut self, news: &[u8], cursor: &mut ReadBufCursor<'_>) {
        let mut rest = news;
        while !rest.is_empty() {
            let (count, head) = self.frames.follow(rest);
            if head.is_some_and(|head| head.asks_for_nothing() && !self.budget.pay()) || self.turn.cancels_too_much() {
                self.farewell = Some(flood());
                break;
            }
            rest = rest.get(count..).unwrap_or_default();
        }
        let passed = news.len() - rest.len();
        // The nine bytes of a frame's head may have come in two reads: h2 then waits for the rest of a frame that never
        // comes, and the client is closed on without a word.
        cursor.put_slice(news.get(..passed).unwrap_or_default());
        self.turn.hold_block(self.frames.block());
    }
}

impl<I: Read + Unpin> Read for FrameGuard<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut cursor: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let room = cursor.remaining();
        if self.farewell.is_none() {
            let io = &mut *self;
            ready!(SCRATCH.with_borrow_mut(|scratch| {
                let length = room.min(scratch.len());
                let mut buffer = ReadBuf::new(scratch.get_mut(..length).unwrap_or_default());
                ready!(Pin::new(&mut io.io).poll_read(cx, buffer.unfilled()))?;
                io.take(buffer.filled(), &mut cursor);
                Poll::Ready(io::Result::Ok(()))
            }))?;
        }
        let Some(flood) = &mut self.farewell else { return Poll::Ready(Ok(())) };
        let count = flood.len().min(cursor.remaining());
        cursor.put_slice(flood.get(..count).unwrap_or_default());
        flood.drain(..count);
        // Nothing handed on would be the end of the stream.
        if cursor.remaining() < room { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl<I: Write + Unpin> Write for FrameGuard<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.budget.earn(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bytes))?;
        self.budget.earn(written);
        Poll::Ready(Ok(written))
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

/// Where in the stream of frames a connection stands.
struct Frames {
    head: [u8; HEAD],
    /// So many bytes of the head are there.
    have: usize,
    /// So many bytes of the preface, or of the payload, are still to come.
    left: usize,
    /// The number of the header block that has begun and not ended; the preface is the first.
    block: Option<u64>,
    blocks: u64,
}

impl Default for Frames {
    fn default() -> Self {
        Self { head: [0; HEAD], have: 0, left: PREFACE.len(), block: Some(0), blocks: 0 }
    }
}

#[derive(Clone, Copy)]
struct FrameHead {
    kind: u8,
    flags: u8,
    length: usize,
}

impl FrameHead {
    /// Whether no request and no body comes with it. What we answer pays for it: whoever reads much updates its windows.
    fn asks_for_nothing(self) -> bool {
        !matches!((self.kind, self.length), (HEADERS | CONTINUATION, _) | (DATA, 1..))
    }

    fn is_of_block(self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION)
    }
}

impl Frames {
    /// Takes bytes up to the end of a head or of a payload: how many, and the head if one is complete now.
    fn follow(&mut self, bytes: &[u8]) -> (usize, Option<FrameHead>) {
        if self.left > 0 {
            let count = self.left.min(bytes.len());
            self.left -= count;
            if self.left == 0 {
                self.end_frame();
            }
            return (count, None);
        }
        let wanted = self.head.get_mut(self.have..).unwrap_or_default();
        let count = wanted.len().min(bytes.len());
        wanted.iter_mut().zip(bytes).for_each(|(byte, news)| *byte = *news);
        self.have += count;
        if self.have < HEAD {
            return (count, None);
        }
        self.have = 0;
        let head = self.last();
        self.left = head.length;
        if head.kind == HEADERS {
            self.blocks = self.blocks.wrapping_add(1);
            self.block = Some(self.blocks);
        }
        if self.left == 0 {
            self.end_frame();
        }
        (count, Some(head))
    }

    fn last(&self) -> FrameHead {
        let [a, b, c, kind, flags, ..] = self.head;
        FrameHead { kind, flags, length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c) }
    }

    /// The preface ends with the frame that follows it.
    fn end_frame(&mut self) {
        let head = self.last();
        let whole = if head.is_of_block() { head.flags & END_HEADERS != 0 } else { self.head != [0; HEAD] };
        if whole {
            self.block = None;
        }
    }

    fn block(&self) -> Option<u64> {
        self.block
    }
}

/// How many frames that ask for nothing a client may still send.
struct Budget {
    owed: usize,
    since: Instant,
}

impl Budget {
    /// Counts one. Says no when there were too many. The clock is only read when it matters.
    fn pay(&mut self) -> bool {
        self.owed += 1;
        if self.owed > MOST_OWED {
            let seconds = usize::try_from(self.since.elapsed().as_secs()).unwrap_or(usize::MAX);
            self.since += Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX));
            self.owed = self.owed.saturating_sub(seconds.saturating_mul(FORGIVEN));
        }
        self.owed <= MOST_OWED
    }

    fn earn(&mut self, bytes: usize) {
        self.owed = self.owed.saturating_sub(bytes / BYTES_FOR_ONE);
    }
}

/// A header block that does not end, in more pieces than h2 takes.
fn flood() -> Vec<u8> {
    let frame = |kind: u8| [0, 0, 0, kind, 0, 0x7f, 0xff, 0xff, 0xff];
    std::iter::once(frame(HEADERS)).chain(std::iter::repeat_n(frame(CONTINUATION), MORE_THAN_H2_TAKES)).flatten().collect()
}

/// What a client begins with (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const MOST_OWED: usize = 10_000;
/// Frames each second.
const FORGIVEN: usize = 100;
/// More than the answer to a PING has.
const BYTES_FOR_ONE: usize = 32;
/// h2 takes as many as hold its largest header list and a quarter more: 82 of a mebibyte.
const MORE_THAN_H2_TAKES: usize = 128;
/// hyper's buffer holds no more at first.
const SCRATCH_BYTES: usize = 16 << 10;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [.., a, b, c] = u32::try_from(payload).unwrap().to_be_bytes();
        [&[a, b, c, kind, flags, 0, 0, 0, 1][..], &vec![0xff; payload]].concat()
    }

    /// Kinds and lengths of the frames, and the block that is open after each piece.
    fn followed(pieces: &[&[u8]]) -> (Vec<(u8, usize)>, Vec<Option<u64>>) {
        let (mut frames, mut heads, mut blocks) = (Frames::default(), Vec::new(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (count, head) = frames.follow(rest);
                heads.extend(head.map(|head| (head.kind, head.length)));
                rest = &rest[count..];
            }
            blocks.push(frames.block());
        }
        (heads, blocks)
    }

    #[test]
    fn frames_are_followed_in_any_pieces() {
        let all = [PREFACE, &frame(4, 0, 0), &frame(1, 0, 300), &frame(9, 4, 0), &frame(0, 1, 70_000), &frame(6, 0, 8)].concat();
        let heads = vec![(4, 0), (1, 300), (9, 0), (0, 70_000), (6, 8)];
        assert_eq!(followed(&[&all]).0, heads);
        for size in [1, 7, 9, 10, 4096] {
            let pieces: Vec<&[u8]> = all.chunks(size).collect();
            let (found, blocks) = followed(&pieces);
            assert_eq!((found, blocks.last()), (heads.clone(), Some(&None)), "{size}");
        }
    }

    #[test]
    fn a_block_is_open_from_its_head_to_its_end() {
        let (settings, headers, end) = (frame(4, 0, 6), frame(1, 0, 10), frame(9, 4, 10));
        let pieces = [&PREFACE[..10], &PREFACE[10..], &settings, &headers[..9], &headers[9..], &end[..12], &end[12..], &headers];
        let open = [Some(0), Some(0), None, Some(1), Some(1), Some(1), None, Some(2)];
        assert_eq!(followed(&pieces).1, open);
    }

    #[test]
    fn what_is_answered_and_time_pay_for_frames_that_ask_for_nothing() {
        let mut budget = Budget { owed: 0, since: Instant::now() };
        assert_eq!((0..=MOST_OWED).filter(|_| budget.pay()).count(), MOST_OWED);
        budget.earn(BYTES_FOR_ONE * 5);
        assert_eq!((0..10).filter(|_| budget.pay()).count(), 4);
        let mut old = Budget { owed: MOST_OWED, since: Instant::now().checked_sub(Duration::from_secs(2)).unwrap() };
        assert_eq!((0..=2 * FORGIVEN).filter(|_| old.pay()).count(), 2 * FORGIVEN);
    }
}
