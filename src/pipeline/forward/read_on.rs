//! A connection that is read to its end though nothing more can be written to it.
//!
//! An upstream that has heard enough of a body answers and closes, and what it had not read yet makes that a reset: the
//! next write fails while the answer waits in our socket. hyper gives a connection up when a write fails, so it never
//! learns of it: it goes on reading, which brings the answer, or the same end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub struct ReadOn<S> {
    socket: S,
    /// Nothing can be written any more.
    is_deaf: bool,
}

impl<S> ReadOn<S> {
    pub fn new(socket: S) -> Self {
        Self { socket, is_deaf: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadOn<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadOn<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        if self.is_deaf {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        // No waker is left: the reading side, which is polled in the same turn, is woken by what ended this one.
        match written {
            Poll::Ready(Err(error)) if matches!(error.kind(), BrokenPipe | ConnectionReset) => {
                self.is_deaf = true;
                Poll::Pending
            }
            written @ (Poll::Ready(_) | Poll::Pending) => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
