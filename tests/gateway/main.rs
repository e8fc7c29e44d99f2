//! The gateway from outside: the real binary, real sockets, a raw upstream that records every byte it is sent.
#![cfg(test)]

mod support;

mod access;
mod contract;
mod credentials;
mod explain;
mod faults_kill;
mod faults_life;
mod faults_store;
mod faults_upstream;
mod headers;
mod issuing;
mod kill_nine;
mod lifecycle;
mod limits;
mod paths;
mod store_faults;
mod upstream_faults;
