//! The signals that the process listens to.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From now on these signals no longer end the process by themselves. Must be called inside a runtime.
    ///
    /// # Errors
    /// When the system does not let them be waited for.
    pub fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be waited for")?;
        let interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be waited for")?;
        Ok(Self { terminate, interrupt })
    }

    /// Waits for one of them.
    pub async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// SIGHUP: the config is to be read again.
pub struct ReloadSignal(Signal);

impl ReloadSignal {
    /// From now on it no longer ends the process. Must be called inside a runtime.
    ///
    /// # Errors
    /// When the system does not let it be waited for.
    pub fn listen() -> anyhow::Result<Self> {
        Ok(Self(signal(SignalKind::hangup()).context("SIGHUP cannot be waited for")?))
    }

    pub async fn comes(&mut self) {
        let _ = self.0.recv().await;
    }
}
