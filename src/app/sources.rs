//! The keys of other issuers while configs come and go: those of the config in effect are kept fresh, the others are let go.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::app::build::Generation;
use crate::token::KeySource;

pub struct Sources {
    control: Handle,
    stop: watch::Receiver<bool>,
    kept: Vec<(Arc<KeySource>, AbortHandle)>,
}

impl Sources {
    pub fn new(control: Handle, stop: watch::Receiver<bool>) -> Self {
        Self { control, stop, kept: Vec::new() }
    }

    /// Keeps the keys of this generation fresh, and no others.
    pub fn keep(&mut self, generation: &Generation) {
        let wanted = generation.key_sources();
        self.kept.retain(|(source, task)| {
            let is_wanted = wanted.iter().any(|wanted| Arc::ptr_eq(wanted, source));
            if !is_wanted {
                task.abort();
            }
            is_wanted
        });
        for source in wanted.into_iter().filter(|source| source.is_remote()) {
            if !self.knows(&source) {
                let task = self.control.spawn(source.clone().run(self.stop.clone()));
                self.kept.push((source, task.abort_handle()));
            }
        }
    }

    /// Fetches the keys that a generation needs and nobody has fetched yet.
    ///
    /// # Errors
    /// When an issuer does not give its keys: its tokens would be refused as soon as the generation were in effect.
    pub async fn fetch_new(&self, generation: &Generation) -> anyhow::Result<()> {
        let new = generation.key_sources().into_iter().filter(|source| source.is_remote() && !self.knows(source));
        let mut fetches = JoinSet::new();
        for source in new {
            let late = || Err(format!("they did not come within {FETCH:?}"));
            fetches.spawn(async move { timeout(FETCH, source.refresh_now()).await.unwrap_or_else(|_| late()) });
        }
        for fetched in fetches.join_all().await {
            fetched.map_err(|why| anyhow!("the keys of a new issuer cannot be fetched: {why}"))?;
        }
        Ok(())
    }

    fn knows(&self, source: &Arc<KeySource>) -> bool {
        self.kept.iter().any(|(kept, _)| Arc::ptr_eq(kept, source))
    }
}

const FETCH: Duration = Duration::from_secs(8);
