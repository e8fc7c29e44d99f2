//! What the black-box tests are made of.

mod authority;
mod broken_disk;
mod client;
mod fault_proxy;
mod gateway;
pub mod http2;
mod issuing;
mod load;
mod lock;
mod nodes;
mod piped;
mod program;
mod provider;
mod script;
pub mod strict;
mod talk;
mod tls_upstream;
mod upstream;
#[path = "../../../src/vectors.rs"]
mod vectors;

pub use authority::{Authority, Caller, Issued};
pub use broken_disk::BrokenDisk;
pub use client::{Answer, Client};
pub use fault_proxy::{Fault, FaultProxy};
pub use gateway::Gateway;
pub use issuing::{Issuing, State, Told};
pub use load::Load;
pub use lock::{Lock, soundness};
pub use nodes::Nodes;
pub use piped::Piped;
pub use program::Program;
pub use provider::{Provider, Telling};
pub use script::{Played, Script};
pub use strict::{Framing, Message};
pub use talk::{Talk, client_of, in_parallel, index_of};
pub use tls_upstream::TlsUpstream;
pub use upstream::{Reply, Upstream, pause_for};
pub use vectors::vectors;

use std::time::{Duration, Instant};

/// Polls until `seen` answers something; the whole wait is bounded.
#[expect(clippy::disallowed_methods, reason = "a test waits for a condition, with an end")]
pub fn until<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = seen() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{what} did not come");
        // waits for: the condition that the caller names
        std::thread::sleep(Duration::from_millis(5));
    }
}
