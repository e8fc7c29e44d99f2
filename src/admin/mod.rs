//! The operators' listener: is it alive, is it ready, how much, and why not. On an address of its own, on the control
//! plane's runtime; never carries traffic and never shows a secret.

mod endpoints;
mod guard;
mod socket;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::observe::{Health, Metrics, RecentRefusals};
use crate::token::KeySource;

#[cfg(test)]
use endpoints::ENDPOINTS;

/// From the description of a request to the steps that it would take; the error says what is wrong with the
/// description. Given by whoever builds the pipeline, which this module does not know.
pub type ExplainFn = Arc<dyn Fn(Value) -> Pin<Box<dyn Future<Output = Result<Value, String>> + Send>> + Send + Sync>;

/// Has the config read anew: what changed, or why it was not taken over.
pub type ReloadFn = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Value, NotReloaded>> + Send>> + Send + Sync>;

/// Why a config was not taken over. The one before it goes on.
#[derive(Clone, Debug)]
pub struct NotReloaded {
    /// What kind of reason it is, for programs.
    pub code: &'static str,
    pub message: String,
    /// Every mistake with its place, or the keys that want a restart.
    pub details: Value,
}

/// What the endpoints read.
#[derive(Clone)]
pub struct AdminState {
    pub health: Health,
    pub metrics: Metrics,
    pub refusals: RecentRefusals,
    pub explain: ExplainFn,
    /// The keys of other issuers, of the config in effect.
    pub keys: Arc<dyn Fn() -> Vec<Arc<KeySource>> + Send + Sync>,
    pub reload: ReloadFn,
}

/// Serves until `shutdown` holds true or its sender is gone; answers in the making then have two seconds.
///
/// # Errors
/// When the socket cannot be used.
pub async fn serve(listener: std::net::TcpListener, state: AdminState, shutdown: watch::Receiver<bool>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    let listener = socket::Brief::new(tokio::net::TcpListener::from_std(listener)?);
    let router = endpoints::router(endpoints::Admin { state, bound });
    let cut = stopped(shutdown.clone());
    let server = axum::serve(listener, router).with_graceful_shutdown(stopped(shutdown));
    tokio::select! {
        result = server => result,
        () = async { cut.await; sleep(DRAIN).await } => Ok(()),
    }
}

async fn stopped(mut shutdown: watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

const DRAIN: Duration = Duration::from_secs(2);
