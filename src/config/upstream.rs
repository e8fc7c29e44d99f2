//! `[[upstream]]`: the servers of an API.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::decode::{section, words};
use crate::config::report::{Located, Place, Report};
use crate::config::value::{Scheme, UpstreamUrl, is_host_name, refuse_zero};

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
        /// How `https` servers are believed.
        tls: UpstreamTls = UpstreamTls::default(),
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
        if report.is_sound(self.place, "servers") {
            self.check_tls(report);
        }
    }

    /// What is wrong with the files is found by whoever reads them.
    fn check_tls(&self, report: &mut Report) {
        let tls = &self.tls;
        if !self.has_tls() && tls.place != Place::default() {
            let why = "`tls` is for servers that are spoken to by TLS";
            report.error_with_help(tls.place, why, "expected a server such as \"https://nodes.internal\"");
        }
        match (&tls.cert_file, &tls.key_file) {
            (Some(file), None) => report.error(file.place, "`cert_file` wants a `key_file`"),
            (None, Some(file)) => report.error(file.place, "`key_file` wants a `cert_file`"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        if let Some(name) = tls.server_name.as_ref().filter(|name| !is_host_name(&name.value)) {
            report.refuse(name.place, format!("`{}` is no host name", name.value), "expected e.g. \"nodes.internal\"");
        }
    }

    /// Whether a server is spoken to by TLS.
    pub fn has_tls(&self) -> bool {
        self.servers.iter().any(|server| server.scheme == Scheme::Https)
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

section! {
    /// `tls` of an upstream.
    pub struct UpstreamTls: Default {
        /// Certificates (PEM) that the servers are trusted by, instead of the system's.
        ca_file: Option<Located<PathBuf>> = None,
        /// The certificate (PEM) that the gateway shows to a server which asks for one, then those between it and its authority.
        cert_file: Option<Located<PathBuf>> = None,
        /// Its private key (PEM).
        key_file: Option<Located<PathBuf>> = None,
        /// The name that the servers' certificates have, where it is not the host of their URL.
        server_name: Option<Located<String>> = None,
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
