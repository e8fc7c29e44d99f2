//! THE PATH OF ONE REQUEST.

pub mod forward;
