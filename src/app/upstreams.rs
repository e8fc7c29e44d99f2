//! The upstreams of APIs with what their TLS needs, read before anything is served.

use std::sync::Arc;

use anyhow::anyhow;

use crate::config::report::Report;
use crate::config::{Config, Upstream};
use crate::outbound::ServerTls;

/// Reports every file of an upstream's `tls` that cannot be used.
pub fn check(config: &Config, report: &mut Report) {
    for upstream in config.upstreams.iter().filter(|upstream| upstream.has_tls()) {
        if let Err(why) = ServerTls::new(&upstream.tls) {
            report.error(report.at(upstream.place, "tls"), why);
        }
    }
}

/// The servers of APIs, and how they are spoken to. What is the same in two generations is the very same, and keeps its
/// connections.
pub struct Reached {
    pub config: Upstream,
    pub tls: Option<ServerTls>,
}

impl Reached {
    /// # Errors
    /// Names the upstream and the file that cannot be used.
    pub fn open(config: Upstream) -> anyhow::Result<Arc<Self>> {
        let tls = config.has_tls().then(|| ServerTls::new(&config.tls)).transpose();
        let tls = tls.map_err(|why| anyhow!("the upstream `{}` has no TLS: {why}", config.name.value))?;
        Ok(Arc::new(Self { config, tls }))
    }
}
