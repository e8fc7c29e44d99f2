//! The gateway from outside: the real binary, real sockets, a raw upstream that records every byte it is sent.
#![cfg(test)]

mod support;

mod access;
mod contract;
mod credentials;
mod explain;
mod heads;
mod headers;
mod issuing;
mod kill_nine;
mod lifecycle;
mod lifetimes;
mod limit_edges;
mod limits;
mod overlay;
mod paths;
mod store_faults;
mod targets;
mod upstream_faults;
