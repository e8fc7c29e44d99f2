//! What operators see: the access log, metrics, audit events and health.

mod audit;

pub use audit::{AuditAction, AuditEvent};
