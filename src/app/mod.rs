//! The composition root: builds everything in order, runs it, stops it in reverse. Knows every module and decides nothing
//! about a request.

pub mod build;
pub mod certificates;
pub mod issuers;
pub mod load;
pub mod sample;
pub mod serve;
pub mod signals;
pub mod signing;
pub mod upstreams;
