//! stub
use crate::clock::Timestamp;
use crate::config::JwsAlgorithm;
use crate::outbound::Client;
use crate::token::KeySet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
pub struct KeySource;
pub struct Keys {
    pub set: KeySet,
    pub generation: u64,
    pub fetched_at: Timestamp,
}
pub struct NoKeys {
    pub detail: String,
}
pub enum Miss {
    Pending,
    Unknown,
}
pub enum Place {
    Discover { issuer: String },
    Url(String),
}
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct KeyStatus {
    pub issuer: String,
    pub source: String,
    pub fetched_at: Option<String>,
    pub next_refresh: Option<String>,
    pub error: Option<String>,
    pub generation: u64,
    pub keys: Vec<ShownKey>,
    pub skipped: Vec<String>,
}
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ShownKey {
    pub kid: String,
    pub algorithms: Vec<String>,
}
impl KeySource {
    pub fn fetched(
        issuer: &str,
        place: Place,
        client: Client,
        algorithms: Vec<JwsAlgorithm>,
        refresh: Duration,
        stale: Duration,
    ) -> Arc<Self> {
        Arc::new(Self)
    }
    pub fn fixed(issuer: &str, set: KeySet) -> Arc<Self> {
        Arc::new(Self)
    }
    pub fn current(&self, now: Timestamp) -> Result<Arc<Keys>, NoKeys> {
        Err(NoKeys { detail: String::new() })
    }
    pub fn miss(&self, kid: &str, now: Timestamp) -> Miss {
        Miss::Unknown
    }
    pub async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {}
    pub async fn refresh_now(&self) -> Result<(), String> {
        Ok(())
    }
    pub fn status(&self, now: Timestamp) -> KeyStatus {
        todo!()
    }
}
