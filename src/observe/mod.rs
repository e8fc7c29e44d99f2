//! What operators see: the access log, metrics, audit events and health.

mod access_log;
mod audit;
mod colour;
mod diagnostics;
mod health;
mod histogram;
mod lines;
mod metrics;
mod record;
mod refusals;
#[cfg(test)]
pub mod samples;
mod shard;

pub use access_log::AccessLog;
pub use audit::{AuditAction, AuditEvent};
pub use colour::Colour;
pub use diagnostics::Diagnostics;
pub use health::Health;
pub use histogram::Histogram;
pub use metrics::{Metrics, RouteMetrics};
pub use record::{Record, Verdict};
pub use refusals::RecentRefusals;
pub use shard::Sharded;
