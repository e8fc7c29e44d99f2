//! The end of a wait.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A time by which something is to happen. Cheap to start and to stop for every request: the runtime's timer is only touched when it has
/// fired too early, or would fire too late.
#[derive(Default)]
pub struct Deadline {
    limit: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    pub fn start(&mut self, patience: Duration) {
        self.start_from(Instant::now(), patience);
    }

    pub fn start_from(&mut self, start: Instant, patience: Duration) {
        self.limit = start.checked_add(patience);
    }

    pub fn stop(&mut self) {
        self.limit = None;
    }

    pub fn is_running(&self) -> bool {
        self.limit.is_some()
    }

    /// Ready once the time is up; never while it is stopped.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(limit)));
        if timer.deadline() > limit {
            timer.as_mut().reset(limit);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= limit {
                return Poll::Ready(());
            }
            timer.as_mut().reset(limit);
        }
    }
}
