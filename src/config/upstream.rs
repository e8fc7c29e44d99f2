//! `[[upstream]]`: the servers of an API.

use std::time::Duration;

use crate::config::decode::{section, words};
use crate::config::report::{Located, Report};
use crate::config::value::{UpstreamUrl, refuse_zero};

section! {
    /// `[[upstream]]`
    pub struct Upstream {
        /// The name that an `[[api]]` refers to.
        name: Located<String>,
        /// One or more servers; a base path is put before every forwarded path.
        servers: Vec<UpstreamUrl>,
        /// Which of several servers a request goes to.
        balance: Balance = Balance::LeastRequests,
        /// How long a server may take.
        timeouts: UpstreamTimeouts = UpstreamTimeouts::default(),
        /// What the servers together are asked to do at once.
        limits: UpstreamLimits = UpstreamLimits::default(),
        /// When a request is sent to a second server.
        retries: UpstreamRetries = UpstreamRetries::default(),
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
        if self.limits.requests == Some(0) {
            report.error(report.at(self.limits.place, "requests"), "`requests` is zero: no request would ever be forwarded");
        }
        if self.retries.attempts > MOST_ATTEMPTS {
            let why = format!("`attempts` is {}, expected 0 to {MOST_ATTEMPTS}", self.retries.attempts);
            report.error(report.at(self.retries.place, "attempts"), why);
        }
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

words! {
    /// `balance` of an upstream.
    pub enum Balance {
        /// Of two servers, the one that has fewer requests to answer.
        LeastRequests = "least_requests",
        /// One after the other.
        RoundRobin = "round_robin",
    }
}

section! {
    /// `limits` of an upstream.
    pub struct UpstreamLimits: Default {
        /// Requests whose answer has not been read to its end; one more is answered 503 at once. Without it there is no limit.
        requests: Option<u64> = None,
    }
}

section! {
    /// `retries` of an upstream.
    pub struct UpstreamRetries: Default {
        /// How often a request is sent to another server whose new connection ended before an answer began: only one that may be
        /// repeated (RFC 9110, section 9.2.2) and has no body. A connection that cannot be made costs no attempt.
        attempts: u64 = 1,
    }
}

/// More would only hide servers that fail.
const MOST_ATTEMPTS: u64 = 10;
