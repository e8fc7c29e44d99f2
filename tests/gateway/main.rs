//! The gateway from outside: the real binary, real sockets, a raw upstream that records every byte it is sent.
#![cfg(test)]

#[path = "../../src/servers/mod.rs"]
#[expect(dead_code, reason = "the library's own tests use the rest")]
mod servers;
mod support;

mod access;
mod address_vectors;
mod balancing;
mod client_addresses;
mod client_certificates;
mod connections;
mod contract;
mod cors;
mod counters;
mod credentials;
mod crossing;
mod decisions;
mod decisions_asked;
mod edits;
mod explain;
mod faults_disk;
mod faults_failover;
mod faults_kill;
mod faults_life;
mod faults_postgres;
mod faults_redis;
mod faults_store;
mod faults_upstream;
mod fixed_answers;
mod floods;
mod header_vectors;
mod headers;
mod heads;
mod hostile_names;
mod http2;
mod http2_floods;
mod http2_frames;
mod http2_heads;
mod issuer_keys;
mod issuers;
mod issuing;
mod key_import;
mod keys;
mod kill_nine;
mod lifecycle;
mod lifetimes;
mod limit_edges;
mod limits;
mod logins;
mod matches;
mod nodes;
mod overlay;
#[cfg(feature = "inject-panics")]
mod panics;
mod paths;
mod proxy_protocol;
mod races;
mod refused_heads;
mod reloads;
mod rewrites;
mod secrets;
mod shared_counters;
mod shared_limits;
mod store_faults;
mod streams;
mod targets;
mod upgrades;
mod tls;
mod upstream_faults;
mod upstream_tls;
mod wire;
mod wire_faults;
