//! Follows the frames that a client sends, and ends the connection of one that sends what asks for nothing, or cancels
//! what it asks for: h2 is then shown a flood that it knows, so that the client is told `ENHANCE_YOUR_CALM`.
//!
//! Header blocks are held back until they are whole, and looked through. One that h2 would read otherwise than it was sent
//! goes on as one that is malformed: its stream is reset, and the others go on.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use tokio::time::Instant;

use crate::listener::http2::block::{Block, without_padding};
use crate::listener::http2::hpack::Table;
use crate::listener::timed_io::Turn;

/// A socket whose frames are followed.
pub struct FrameGuard<I> {
    io: I,
    turn: Turn,
    limits: BlockLimits,
    frames: Frames,
    budget: Budget,
    block: Block,
    table: Table,
    /// The last stream that a request has opened.
    last_stream: u32,
    /// Judged, and still to be handed on.
    ready: Vec<u8>,
    /// Nothing that comes is looked at any more.
    is_over: bool,
}

/// The most that one header block may be.
#[derive(Clone, Copy, Debug)]
pub struct BlockLimits {
    /// On the wire, frames and all.
    pub bytes: usize,
    /// Above it a head is not even unpacked for a refusal.
    pub fields: usize,
}

impl<I> FrameGuard<I> {
    pub fn new(io: I, turn: Turn, limits: BlockLimits) -> Self {
        Self {
            io,
            turn,
            limits,
            frames: Frames::default(),
            budget: Budget { owed: 0, since: Instant::now() },
            block: Block::default(),
            table: Table::default(),
            last_stream: 0,
            ready: Vec::new(),
            is_over: false,
        }
    }

    /// Judges what has come, frame by frame.
    fn take(&mut self, news: &[u8], cursor: &mut ReadBufCursor<'_>) {
        let mut rest = news;
        while !rest.is_empty() && !self.is_over {
            let followed = self.frames.follow(rest);
            let (bytes, after) = rest.split_at_checked(followed.count).unwrap_or((rest, &[]));
            rest = after;
            match followed.head {
                Some(head) => self.take_head(head, cursor),
                None if followed.is_head => {}
                None if self.block.count > 0 => self.block.frames.extend_from_slice(bytes),
                None => self.hand_on(bytes, cursor),
            }
            if followed.is_end && self.block.count > 0 && !self.is_over {
                self.end_block_frame(cursor);
            }
        }
        self.turn.hold_block(self.frames.block);
    }

    fn take_head(&mut self, head: FrameHead, cursor: &mut ReadBufCursor<'_>) {
        if !head.has_its_size() {
            return self.end(oversized());
        }
        if (head.asks_for_nothing() && !self.budget.pay()) || self.turn.cancels_too_much() {
            return self.end(flood());
        }
        if head.kind == HEADERS && self.block.count == 0 {
            self.block = Block { flags: head.flags, stream: head.stream, ..std::mem::take(&mut self.block) };
        } else if head.kind != CONTINUATION || self.block.count == 0 {
            // Where a block is open this is an error, which h2 knows.
            let held = std::mem::take(&mut self.block).frames;
            self.hand_on(&held, cursor);
            return self.hand_on(&self.frames.head.clone(), cursor);
        }
        let block = &mut self.block;
        block.count += 1;
        block.frames.extend_from_slice(&self.frames.head);
        block.payload = block.frames.len();
        if block.frames.len().saturating_add(head.length) > self.limits.bytes || block.count > MOST_PIECES {
            self.end(flood());
        }
    }

    fn end_block_frame(&mut self, cursor: &mut ReadBufCursor<'_>) {
        let head = self.frames.last();
        let block = &mut self.block;
        let payload = block.frames.get(block.payload..).unwrap_or_default();
        let fragment = if head.kind == HEADERS { without_padding(payload, head.flags) } else { payload };
        block.fragments.extend_from_slice(fragment);
        if head.flags & END_HEADERS == 0 {
            return;
        }
        let block = std::mem::take(&mut self.block);
        let is_request = block.stream > self.last_stream;
        self.last_stream = self.last_stream.max(block.stream);
        let is_flawed = self
            .table
            .look_through(&block.fragments)
            .is_some_and(|found| found.has_fragment || (!is_request && found.has_pseudo) || found.fields > self.limits.fields);
        let frames = if is_flawed { block.malformed() } else { block.frames };
        self.hand_on(&frames, cursor);
    }

    fn hand_on(&mut self, bytes: &[u8], cursor: &mut ReadBufCursor<'_>) {
        match self.ready.is_empty() && bytes.len() <= cursor.remaining() {
            true => cursor.put_slice(bytes),
            false => self.ready.extend_from_slice(bytes),
        }
    }

    /// Shows h2 what makes it end the connection, after what was judged before.
    fn end(&mut self, last: Vec<u8>) {
        self.is_over = true;
        self.block = Block::default();
        self.ready.extend(last);
    }
}

impl<I: Read + Unpin> Read for FrameGuard<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut cursor: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let room = cursor.remaining();
        let guard = &mut *self;
        loop {
            let count = guard.ready.len().min(cursor.remaining());
            cursor.put_slice(guard.ready.get(..count).unwrap_or_default());
            guard.ready.drain(..count);
            if guard.ready.is_empty() {
                guard.ready = Vec::new();
            }
            // Nothing handed on would be the end of the stream.
            if cursor.remaining() < room {
                return Poll::Ready(Ok(()));
            }
            if guard.is_over {
                return Poll::Pending;
            }
            let ended = ready!(SCRATCH.with_borrow_mut(|scratch| {
                let length = room.min(scratch.len());
                let mut buffer = ReadBuf::new(scratch.get_mut(..length).unwrap_or_default());
                ready!(Pin::new(&mut guard.io).poll_read(cx, buffer.unfilled()))?;
                guard.take(buffer.filled(), &mut cursor);
                Poll::Ready(io::Result::Ok(buffer.filled().is_empty()))
            }))?;
            if ended {
                return Poll::Ready(Ok(()));
            }
        }
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

/// What the bytes are that were followed.
struct Followed {
    count: usize,
    /// They belong to the head of a frame; `head`, if it is complete now.
    is_head: bool,
    head: Option<FrameHead>,
    /// A frame ends with them.
    is_end: bool,
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
    stream: u32,
}

impl FrameHead {
    /// Whether no request and no body comes with it. What we answer pays for it: whoever reads much updates its windows.
    fn asks_for_nothing(self) -> bool {
        !matches!((self.kind, self.length), (HEADERS | CONTINUATION, _) | (DATA, 1..))
    }

    /// Whether the frame is as long as its kind wants (RFC 9113, sections 4.2 and 6): h2 has another error for it.
    fn has_its_size(self) -> bool {
        match (self.kind, self.length) {
            (_, length) if length > LARGEST => false,
            (PRIORITY, length) => length == 5,
            (RST_STREAM | WINDOW_UPDATE, length) => length == 4,
            (SETTINGS, length) if self.stream == 0 => {
                if self.flags & ACK == 0 {
                    length % 6 == 0
                } else {
                    length == 0
                }
            }
            (PING, length) => length == 8,
            (GOAWAY, length) => length >= 8,
            _ => true,
        }
    }
}

impl Frames {
    /// Takes bytes up to the end of a head or of a payload.
    fn follow(&mut self, bytes: &[u8]) -> Followed {
        if self.left > 0 {
            let count = self.left.min(bytes.len());
            self.left -= count;
            // The preface is no frame.
            let is_end = self.left == 0 && self.head != [0; HEAD];
            if is_end {
                self.end_frame();
            }
            return Followed { count, is_head: false, head: None, is_end };
        }
        let wanted = self.head.get_mut(self.have..).unwrap_or_default();
        let count = wanted.len().min(bytes.len());
        wanted.iter_mut().zip(bytes).for_each(|(byte, news)| *byte = *news);
        self.have += count;
        if self.have < HEAD {
            return Followed { count, is_head: true, head: None, is_end: false };
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
        Followed { count, is_head: true, head: Some(head), is_end: self.left == 0 }
    }

    fn last(&self) -> FrameHead {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        FrameHead { kind, flags, length, stream: u32::from_be_bytes(stream) & 0x7fff_ffff }
    }

    /// A frame that belongs to no block ends the preface, which is complete with it.
    fn end_frame(&mut self) {
        let head = self.last();
        if !matches!(head.kind, HEADERS | CONTINUATION) || head.flags & END_HEADERS != 0 {
            self.block = None;
        }
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
    std::iter::once(frame(HEADERS)).chain(std::iter::repeat_n(frame(CONTINUATION), MOST_PIECES)).flatten().collect()
}

/// The head of a frame that is larger than any may be.
fn oversized() -> Vec<u8> {
    vec![0xff, 0xff, 0xff, PING, 0, 0, 0, 0, 0]
}

/// What a client begins with (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const HEAD: usize = 9;
const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
const MOST_OWED: usize = 10_000;
/// Frames each second.
const FORGIVEN: usize = 100;
/// More than the answer to a PING has.
const BYTES_FOR_ONE: usize = 32;
/// Frames of a header block. h2 takes as many as hold its largest header list and a quarter more: 82 of a mebibyte.
const MOST_PIECES: usize = 128;
/// The largest frame that we take, as the protocol has it at first.
pub const LARGEST: usize = 16_384;
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
                let followed = frames.follow(rest);
                heads.extend(followed.head.map(|head| (head.kind, head.length)));
                rest = &rest[followed.count..];
            }
            blocks.push(frames.block);
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
