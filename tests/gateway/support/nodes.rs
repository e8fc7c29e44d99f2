//! Several gateways that share a store, its encryption key and their counters, each on addresses of its own.

use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{Gateway, pause_for};

pub struct Nodes {
    pub gateways: Vec<Gateway>,
    /// Holds the encryption key, and the store where it is a file.
    pub folder: TempDir,
}

impl Nodes {
    /// So many gateways on one SQLite file, started at once. `config` is everything below `[store]`.
    pub fn on_file(count: usize, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/gateward.db", folder.path().display());
        Self::start(count, &url, config, folder)
    }

    /// The same on a database of a server.
    pub fn on_server(count: usize, url: &str, config: &str) -> Self {
        Self::start(count, url, config, tempfile::tempdir().unwrap())
    }

    fn start(count: usize, url: &str, config: &str, folder: TempDir) -> Self {
        let key = folder.path().join("gateward.key");
        let config = format!("[store]\nurl = \"{url}\"\nencryption_key_file = \"{}\"\n\n{config}", key.display());
        let mut nodes = Self { gateways: (0..count).map(|_| Gateway::prepare("", &config)).collect(), folder };
        nodes.gateways.iter_mut().for_each(Gateway::spawn);
        nodes.gateways.iter_mut().for_each(Gateway::wait_until_ready);
        nodes
    }

    /// Waits until `holds` is true of every node, asking all of them at the same time: how long the last one took.
    #[expect(clippy::disallowed_methods, reason = "how fast news spreads is what a test wants to know")]
    pub fn all(&self, what: &str, holds: impl Fn(&Gateway) -> bool + Sync) -> Duration {
        let start = Instant::now();
        thread::scope(|scope| {
            for (index, gateway) in self.gateways.iter().enumerate() {
                let holds = &holds;
                scope.spawn(move || {
                    while !holds(gateway) {
                        assert!(start.elapsed() < Duration::from_secs(20), "node {index}: {what} did not come");
                        pause_for(Duration::from_millis(10));
                    }
                });
            }
        });
        start.elapsed()
    }
}
