//! gateward: a reverse-proxy authentication gateway.
//!
//! It stands in front of existing APIs. Every request's credential is checked here, its limits are spent here, and the
//! API behind learns who is calling from headers that only the gateway can write. The endpoints that give tokens out
//! (login, refresh, logout, keys) it answers itself, in the shapes that the API's clients already know. Those shapes are
//! written down in a contract file, one for each API; the program knows features, never a product.
//!
//! # Reading order
//!
//! Three files explain a request: this one, then `pipeline/mod.rs` (its stages, one line each), then `issuer/mod.rs`
//! (what the gateway answers itself). The rest is where the `mod` list below says it is.
//!
//! # The life of a request
//!
//! ```text
//! listener    accepts, takes off TLS, judges raw heads, reads HTTP, keeps the time, decides the client's address
//! pipeline    find route → admit address → extract credential → authenticate → authorize → spend limits
//!               local endpoint   issuer answers
//!               upstream         inject identity → forward
//! observe     one log line and one count, whatever the end was
//! ```
//!
//! A stage that refuses returns a `Rejection`, and the request ends there: the contract writes its body, and no stage
//! logs. The types keep the order: only `authorize` makes a `Permit`, only `inject` makes what `forward` takes.
//!
//! # Invariants
//!
//! 1. The bytes that were judged are the bytes that are forwarded. One function makes a path normal, for routing, limits,
//!    logs and forwarding alike; a path that could be read in two ways is refused.
//! 2. Only `pipeline/inject.rs` writes identity headers, after it has removed every spelling of them that a client could
//!    send (case, `_` for `-`, twice, as a trailer) and after the hop-by-hop headers are gone.
//! 3. Only `listener/client_addr.rs` decides the client's address. Nobody is trusted unless the operator says so.
//! 4. What finds a credential verifies nothing; what verifies one reads no header. Only `pipeline/respond.rs` and `issuer/`
//!    build response bodies.
//! 5. Closed by default. A route without `accept` or `public = true` is a config error, and a config that lets everyone
//!    in or trusts everyone does not start. `outside = "public"` opens what lies outside the contract's prefixes, never a
//!    prefix.
//! 6. A cache key names everything that its value depends on, and a hit compares the whole token. What is cached is a
//!    verified identity, never a decision about a route.
//! 7. A 2xx for something issued, rotated or revoked is sent after the commit. A store that fails is a 503: never a 401
//!    that is not true, never a 200 that is not true.
//! 8. Once warm, the request path waits for no database, no DNS and no identity provider, and for the shared counters at
//!    most as long as configured (20 ms).
//! 9. A request sees one generation of the config, pinned when it starts. A reload happens as a whole or not at all.
//! 10. No API's name stands under `src/`. What a system needs is written in its contract file, with features that any
//!     API may use.
//! 11. Every map, every queue and every body has a cap.
//!
//! # Tenets
//!
//! They settle arguments, the first that applies: refuse when unsure; say why; keep it simple; make it fast.
//!
//! # The map
//!
//! The order of the `mod` lines is the architecture: **a module may use only the modules above it**, and `pipeline/`
//! keeps the same rule between its stages. `tests/architecture.rs` enforces it, and the other rules of the house. If the
//! order seems to force a cycle, the wall is in the wrong place: move the piece up or pass a value.

// Time and chance, each with the one place that may ask for it.
mod clock;
mod random;

// Shared test vectors, for tests here and from outside.
#[cfg(test)]
mod vectors;

// Real servers, for tests here and from outside.
#[cfg(test)]
mod servers;

// Defects on request, for tests.
#[macro_use]
mod inject_panics;

// WHO calls, and WHY NOT.
mod identity;
mod rejection;

// How long somebody is waited for.
mod patience;

// The one body type: streamed, capped, counted.
mod body;

// WHAT WAS ASKED: gateway.toml as typed values.
mod config;

// What operators see: access log, metrics, audit events, health.
mod observe;

// HOW AN API SPEAKS: an [[api]] section and its contract file, compiled.
mod contract;

// Sockets in, requests out. Knows no route.
mod listener;

// HTTP to the outside, bounded, never on the path of a request.
mod outbound;

// The shared fast store: counters of several gateways, and the word that the store has changed.
mod counter;

// Durable state: accounts, sessions, keys, audit.
mod store;

// How many more; Argon2id on a small pool of its own; JWT and opaque keys.
mod limiter;
mod password;
mod token;

// The endpoints that the gateway answers itself, one operation per file.
mod issuer;

// THE PATH OF ONE REQUEST.
mod pipeline;

// Operators' endpoints, on a listener of their own.
mod admin;

// Builds everything in order, stops it in reverse.
mod app;

// What an operator types.
mod cli;

// What must hold for any input, for fuzz targets and property tests. Not in the program.
#[cfg(any(test, feature = "internals"))]
pub mod internals;

pub use cli::run;
