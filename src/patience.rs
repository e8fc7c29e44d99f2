//! How long somebody is waited for, and how slow he may be.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::rejection::Denial;

/// The end of a wait. Cheap to start and to stop for every request: the runtime's timer is only touched when it has
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

/// The least that must come in each second on average, and how long it may come more slowly. A timeout alone lets a client
/// hold a connection for ever with a byte now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub bytes: u64,
    pub grace: Duration,
}

/// One body under a pace, or under none. Counts the time in which the sender is waited for, not that in which nobody reads.
#[derive(Debug, Default)]
pub struct Pacer {
    pace: Option<Pace>,
    received: u64,
    waited: Duration,
    since: Option<Instant>,
}

impl Pacer {
    pub fn new(pace: Option<Pace>) -> Self {
        Self { pace, ..Self::default() }
    }

    /// Nothing is there, and the reader wants more.
    pub fn wait(&mut self) {
        if self.pace.is_some() {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// So many bytes have come.
    ///
    /// # Errors
    /// [`Denial::BodyTooSlow`].
    pub fn take(&mut self, bytes: usize) -> Result<(), Denial> {
        let Some(pace) = self.pace else { return Ok(()) };
        self.waited = self.waited.saturating_add(self.since.take().map_or(Duration::ZERO, |since| since.elapsed()));
        self.received = self.received.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        let timed = self.waited.saturating_sub(pace.grace).as_millis();
        match u128::from(self.received).saturating_mul(1000) >= timed.saturating_mul(u128::from(pace.bytes)) {
            true => Ok(()),
            false => Err(Denial::BodyTooSlow { bytes: pace.bytes }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte a second is ended soon after the grace; a slow reader uses up nobody's time.
    #[tokio::test(start_paused = true)]
    async fn only_the_time_in_which_the_sender_is_waited_for_counts() {
        let second = Duration::from_secs(1);
        let mut pacer = Pacer::new(Some(Pace { bytes: 10, grace: 3 * second }));
        let mut taken = Vec::new();
        for _ in 0..5 {
            pacer.wait();
            tokio::time::advance(second).await;
            taken.push(pacer.take(1).is_ok());
            // The reader is away meanwhile.
            tokio::time::advance(60 * second).await;
        }
        assert_eq!(taken, [true, true, true, false, false]);
        // What has been made up for is fast enough.
        assert_eq!(pacer.take(100).map_err(|denial| denial.code()), Ok(()));
    }
}
