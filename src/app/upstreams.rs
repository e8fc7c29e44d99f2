//! The TLS of all upstreams: read before anything is served.

use anyhow::{Context as _, anyhow};

use crate::app::load::Ready;
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

/// The upstream of each API, in their order, with how its servers are spoken to by TLS.
///
/// # Errors
/// Names the upstream and the file that cannot be used.
pub fn of_apis(ready: &Ready) -> anyhow::Result<Vec<(Upstream, Option<ServerTls>)>> {
    let open = |section| {
        let upstream = ready.config.upstream_of(section).context("an API has no upstream")?;
        let tls = upstream.has_tls().then(|| ServerTls::new(&upstream.tls)).transpose();
        let tls = tls.map_err(|why| anyhow!("the upstream `{}` has no TLS: {why}", upstream.name.value))?;
        Ok((upstream, tls))
    };
    ready.config.apis.iter().map(open).collect()
}
