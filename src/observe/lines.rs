//! A queue of lines in front of a sink that may be slow, full or gone.
//!
//! One thread writes; whoever pushes never waits. What the queue cannot take and what the sink refuses is dropped and
//! counted: a log that nobody reads must not stop traffic. Knows nothing of what the lines say.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::clock;

/// A cheap clone; the writer thread ends after [`Lines::close`], or when the last clone is gone.
#[derive(Clone)]
pub struct Lines {
    sender: SyncSender<Message>,
    state: Arc<State>,
}

enum Message {
    Line(String),
    End,
}

#[derive(Default)]
struct State {
    closed: AtomicBool,
    dropped: AtomicU64,
    finished: Mutex<bool>,
    on_finish: Condvar,
}

struct Sink {
    out: Box<dyn Write + Send>,
    /// The last byte that the sink took was not the end of a line.
    torn: bool,
}

impl Lines {
    /// Starts the writer thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(thread_name: &str, sink: Box<dyn Write + Send>) -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(CAPACITY);
        let state = Arc::new(State::default());
        let written = Arc::clone(&state);
        thread::Builder::new().name(thread_name.to_owned()).spawn(move || {
            drain(&receiver, Sink { out: sink, torn: false }, &written);
            *written.finished.lock().unwrap_or_else(PoisonError::into_inner) = true;
            written.on_finish.notify_all();
        })?;
        Ok(Self { sender, state })
    }

    /// Queues a line, given without its end. Never waits.
    pub fn push(&self, line: String) {
        let taken = !self.state.closed.load(Ordering::Relaxed) && self.sender.try_send(Message::Line(line)).is_ok();
        if !taken {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that never reached the sink, since the start.
    pub fn dropped(&self) -> u64 {
        self.state.dropped.load(Ordering::Relaxed)
    }

    /// Takes no more lines and waits until those that are queued are written, but no longer than `within`. False when
    /// the sink did not take them in time.
    pub fn close(&self, within: Duration) -> bool {
        self.state.closed.store(true, Ordering::Relaxed);
        let deadline = clock::now().tick.plus(within);
        while let Err(TrySendError::Full(_)) = self.sender.try_send(Message::End) {
            if clock::now().tick >= deadline {
                return false;
            }
            pause(RETRY);
        }
        let left = Duration::from_micros(deadline.since(clock::now().tick));
        let finished = self.state.finished.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.state.on_finish.wait_timeout_while(finished, left, |finished| !*finished);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Sink {
    /// Writes whole lines. Returns how many of them the sink did not take.
    fn write(&mut self, batch: &str) -> u64 {
        // The half line that an error left behind ends here, so that it spoils no other.
        if self.torn && !self.take(b"\n").is_empty() {
            return line_ends(batch.as_bytes());
        }
        let refused = line_ends(self.take(batch.as_bytes()));
        let _ = self.out.flush();
        refused
    }

    /// Writes until all is taken or the sink fails. Returns what is left.
    fn take<'a>(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return rest,
                Ok(count) => {
                    let (taken, left) = rest.split_at_checked(count).unwrap_or((rest, &[]));
                    self.torn = !taken.ends_with(b"\n");
                    rest = left;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody who shares the terminal or the pipe made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => pause(RETRY),
                Err(_) => return rest,
            }
        }
        rest
    }
}

fn drain(receiver: &Receiver<Message>, mut sink: Sink, state: &State) {
    let mut batch = String::new();
    let mut ended = false;
    while !ended && let Ok(first) = receiver.recv() {
        // Under load this gathers many lines into one write, and spares those who push the wake-up of this thread.
        pause(GATHER);
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    batch.push_str(&line);
                    batch.push('\n');
                }
                Message::End => ended = true,
            }
            next = if batch.len() < BATCH_BYTES { receiver.try_recv().ok() } else { None };
        }
        state.dropped.fetch_add(sink.write(&batch), Ordering::Relaxed);
        batch.clear();
    }
}

#[expect(clippy::disallowed_methods, reason = "stops the writer's own thread, which carries no connection, or who closes")]
fn pause(duration: Duration) {
    thread::sleep(duration);
}

fn line_ends(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

/// Lines that wait at most.
const CAPACITY: usize = 8192;
const BATCH_BYTES: usize = 256 << 10;
const GATHER: Duration = Duration::from_millis(1);
const RETRY: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::samples::Kept;

    const LONG: Duration = Duration::from_secs(30);

    /// A full pipe: says that a write has begun, then blocks until the test drops its end.
    struct Blocked {
        begun: SyncSender<()>,
        release: Receiver<()>,
    }

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.begun.try_send(());
            let _ = self.release.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Answers each write as the script says; takes everything once the script has ended.
    struct Scripted(std::vec::IntoIter<io::Result<usize>>, Kept);

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.0.next().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
            self.1.write(&bytes[..count])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn scripted(script: Vec<io::Result<usize>>) -> (Sink, Kept) {
        let kept = Kept::default();
        (Sink { out: Box::new(Scripted(script.into_iter(), kept.clone())), torn: false }, kept)
    }

    #[test]
    fn close_writes_all_that_was_queued_in_order() {
        let kept = Kept::default();
        let lines = Lines::start("test", Box::new(kept.clone())).unwrap();
        for number in 0..3000 {
            lines.push(number.to_string());
        }
        assert!(lines.close(LONG));
        assert_eq!(kept.text(), (0..3000).map(|number| format!("{number}\n")).collect::<String>());
        assert_eq!(lines.dropped(), 0);
        lines.push("late".to_owned());
        assert_eq!(lines.dropped(), 1);
        assert!(lines.close(LONG), "closing twice is no error");
    }

    #[test]
    fn a_blocked_sink_blocks_nobody_and_drops_are_counted() {
        let (begun, writing) = mpsc::sync_channel(8);
        let (release, released) = mpsc::sync_channel(8);
        let lines = Lines::start("test", Box::new(Blocked { begun, release: released })).unwrap();
        lines.push("first".to_owned());
        writing.recv().unwrap();
        for _ in 0..CAPACITY {
            lines.push("queued".to_owned());
        }
        assert_eq!(lines.dropped(), 0);
        for _ in 0..10 {
            lines.push("too many".to_owned());
        }
        assert_eq!(lines.dropped(), 10);
        assert!(!lines.close(Duration::from_millis(20)), "a blocked sink does not hold up the end either");
        drop(release);
        assert!(lines.close(LONG));
        assert_eq!(lines.dropped(), 10);
    }

    #[test]
    fn lines_for_a_closed_pipe_are_counted_as_dropped() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(ErrorKind::BrokenPipe.into())
            }
        }
        let lines = Lines::start("test", Box::new(Gone)).unwrap();
        for _ in 0..3 {
            lines.push("nobody reads this".to_owned());
        }
        assert!(lines.close(LONG));
        assert_eq!(lines.dropped(), 3);
    }

    #[test]
    fn a_line_torn_by_a_full_disk_spoils_no_other() {
        let (mut sink, kept) = scripted(vec![Ok(6), Err(ErrorKind::StorageFull.into())]);
        assert_eq!(sink.write("one\ntwo\nthree\n"), 2);
        assert_eq!(sink.write("four\n"), 0);
        assert_eq!(kept.text(), "one\ntw\nfour\n");
    }

    #[test]
    fn an_interrupted_or_non_blocking_sink_is_tried_again() {
        let (mut sink, kept) =
            scripted(vec![Err(ErrorKind::Interrupted.into()), Ok(2), Err(ErrorKind::WouldBlock.into()), Ok(1)]);
        assert_eq!(sink.write("one\ntwo\n"), 0);
        assert_eq!(kept.text(), "one\ntwo\n");
    }
}
