//! `[[upstream]]`: the servers of an API.

use std::time::Duration;

use crate::config::decode::section;
use crate::config::report::{Located, Report};
use crate::config::value::{UpstreamUrl, refuse_zero};

section! {
    /// `[[upstream]]`
    pub struct Upstream {
        /// The name that an `[[api]]` refers to.
        name: Located<String>,
        /// One or more servers, taken in turn; a base path is put before every forwarded path.
        servers: Vec<UpstreamUrl>,
        /// How long a server may take.
        timeouts: UpstreamTimeouts = UpstreamTimeouts::default(),
    }
}

impl Upstream {
    /// Reports what is wrong within the section.
    pub fn check(&self, report: &mut Report) {
        if self.servers.is_empty() {
            let help = "expected at least one such as `servers = [\"http://127.0.0.1:9000\"]`";
            report.error_with_help(report.at(self.place, "servers"), "the upstream has no server", help);
        }
        let UpstreamTimeouts { connect, response, idle, place } = self.timeouts;
        refuse_zero(place, &[("connect", connect), ("response", response), ("idle", idle)], report);
    }
}

section! {
    /// `timeouts` of an upstream.
    pub struct UpstreamTimeouts: Default {
        /// For a connection to stand.
        connect: Duration = Duration::from_secs(2),
        /// From the end of the request to the head of the answer.
        response: Duration = Duration::from_secs(30),
        /// A kept connection without a request; also an answer's body of which nothing comes.
        idle: Duration = Duration::from_secs(60),
    }
}
