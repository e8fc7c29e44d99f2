//! The counters on real servers.
