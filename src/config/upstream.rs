//! `[[upstream]]`: the servers of an API.

use std::time::Duration;

use crate::config::decode::section;
use crate::config::report::Located;
use crate::config::value::UpstreamUrl;

section! {
    /// `[[upstream]]`
    pub struct Upstream {
        /// The name that an `[[api]]` refers to.
        name: Located<String>,
        /// One or more servers, taken in turn; a base path is put before every forwarded path.
        servers: Vec<UpstreamUrl>,
        timeouts: UpstreamTimeouts = UpstreamTimeouts::default(),
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
