//! What systemd is told, where it asks: that the gateway is ready, reloads, stops, and is alive. Elsewhere nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::app::worker::Told;

pub fn ready() {
    tell(&[NotifyState::Ready]);
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Followed by [`ready`], however the reload ends.
pub fn reloading() {
    // From version 253 on, systemd ends a service that does not say since when it reloads.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("systemd cannot be told how it stands: {error}");
    }
}

/// Says that the gateway is alive, where systemd wants to hear it (`WatchdogSec=`), as long as every worker answers.
pub async fn stay_alive(workers: Vec<mpsc::Sender<Told>>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    // Half the time leaves room for one answer that is late.
    let pause = limit / 2;
    loop {
        if all_answer(&workers, pause).await {
            tell(&[NotifyState::Watchdog]);
        }
        sleep(pause / 2).await;
    }
}

async fn all_answer(workers: &[mpsc::Sender<Told>], patience: Duration) -> bool {
    let ask = async {
        for worker in workers {
            let (answer, answered) = oneshot::channel();
            if worker.send(Told::Ping(answer)).await.is_err() || answered.await.is_err() {
                return false;
            }
        }
        true
    };
    timeout(patience, ask).await.unwrap_or(false)
}
