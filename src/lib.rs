//! gateward: a reverse-proxy authentication gateway.
//!
//! The order of the `mod` lines is the architecture: a module may use only modules listed above it.
#![forbid(unsafe_code)]

mod clock;
mod random;

mod body;
mod config;
mod identity;
mod listener;
mod observe;
mod pipeline;
mod rejection;
