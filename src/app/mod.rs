//! The composition root: builds everything in order, runs it, stops it in reverse. Knows every module and decides nothing
//! about a request.

pub mod build;
pub mod certificates;
pub mod changes;
pub mod issuers;
pub mod load;
mod reload;
pub mod sample;
pub mod serve;
mod service_manager;
pub mod signals;
pub mod signing;
mod sockets;
mod sources;
mod takeover;
mod watch;
mod worker;
