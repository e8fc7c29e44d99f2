//! What is counted of a body while it goes by.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;

use tokio::time::Instant;

/// Counts a body while it goes by.
#[derive(Clone, Default)]
pub struct Meter(Rc<Gauge>);

#[derive(Default)]
struct Gauge {
    bytes: Cell<u64>,
    ended: Cell<bool>,
    /// The reader wants more and the sender has not sent it yet.
    waiting: Cell<bool>,
    moved: Cell<Option<Instant>>,
}

impl Meter {
    pub fn bytes(&self) -> u64 {
        self.0.bytes.get()
    }

    /// Whether all of it has gone by.
    pub fn has_ended(&self) -> bool {
        self.0.ended.get()
    }

    /// Since when whoever reads the body has taken nothing. `None` while it is the sender who is waited for.
    pub fn reader_quiet_since(&self) -> Option<Instant> {
        if self.0.waiting.get() { None } else { self.0.moved.get() }
    }

    /// From now on it is known when something moved last: somebody reads it meanwhile.
    pub fn tell_time(&self) {
        if self.0.moved.get().is_none() {
            self.0.moved.set(Some(Instant::now()));
        }
    }

    /// Notes what became of a look for more.
    pub fn note<T>(&self, polled: &Poll<T>) {
        self.0.waiting.set(polled.is_pending());
    }

    /// So many bytes went by.
    pub fn count(&self, bytes: usize) {
        self.0.bytes.set(self.0.bytes.get().saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)));
        // Only a meter that somebody reads meanwhile tells the time.
        self.0.moved.set(self.0.moved.get().map(|_| Instant::now()));
    }

    pub fn end(&self) {
        self.0.ended.set(true);
    }
}
