//! The upstreams of APIs with what their TLS needs, read before anything is served.

use std::sync::Arc;

use anyhow::anyhow;

use crate::config::report::Report;
use crate::config::{Config, Upstream};
use crate::outbound::ServerTls;
use crate::pipeline::Fleet;

/// Reports every file of an upstream's `tls` that cannot be used.
pub fn check(config: &Config, report: &mut Report) {
    for upstream in config.upstreams.iter().filter(|upstream| upstream.has_tls()) {
        if let Err(why) = ServerTls::new(&upstream.tls) {
            report.error(report.at(upstream.place, "tls"), why);
        }
    }
}

/// Makes ready to speak to the servers of an upstream.
///
/// # Errors
/// Names the upstream and the file that cannot be used.
pub fn open(config: Upstream) -> anyhow::Result<Arc<Fleet>> {
    let tls = config.has_tls().then(|| ServerTls::new(&config.tls)).transpose();
    let tls = tls.map_err(|why| anyhow!("the upstream `{}` has no TLS: {why}", config.name.value))?;
    Ok(Fleet::new(config, tls))
}
