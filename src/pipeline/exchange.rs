//! One request on its way through the stages: what was asked, what is known so far, and what goes into the log.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Uri, header};

use crate::clock::Now;
use crate::contract::{Cors, Operation};
use crate::identity::{CredentialKind, Principal};
use crate::listener::{ClientAddress, Fault, Handshake, Peer};
use crate::observe::RouteMetrics;
use crate::pipeline::path::NormalPath;
use crate::rejection::{Denial, Stage};

/// What a listener knows of a request beside its head.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub now: Now,
    pub listener: Arc<str>,
    pub serves: Serves,
    /// Decided once, by the listener, from the connection and trusted proxies alone.
    pub client: ClientAddress,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// What TLS has established of the connection. `None` in clear text.
    pub tls: Option<Arc<Handshake>>,
    /// Why the head is refused, if it is.
    pub fault: Option<Fault>,
}

/// What becomes of the requests of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// They are answered.
    Requests,
    /// They ask whether another request may pass.
    Decisions,
}

/// How a proxy asked, as far as its answer depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub way: Way,
    /// It takes no other refusal than 401 and 403.
    pub is_narrow: bool,
    /// Headers that say nothing of this caller are wanted too.
    pub wants_all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Headers told of the request.
    Headers,
    /// The request itself did, after a prefix.
    Path,
}

/// One request.
pub struct Exchange {
    pub now: Now,
    pub request_id: String,
    pub client: IpAddr,
    pub peer: SocketAddr,
    pub tls: Option<Arc<Handshake>>,
    pub trust: Peer,
    /// A trusted proxy named something that is no address: `client` is then that proxy.
    pub client_is_unclear: bool,
    pub listener: Arc<str>,
    pub serves: Serves,
    /// Set once the request is the one that was asked about.
    pub asked: Option<Asked>,
    /// The listener has refused the head; method and headers are what could be read of it.
    pub fault: Option<Fault>,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub notes: Notes,
}

/// What the stages found out, for the log line and for `explain`.
#[derive(Default)]
pub struct Notes {
    pub host: Option<String>,
    pub path: Option<NormalPath>,
    /// What the upstream is asked for instead.
    pub forwarded_path: Option<NormalPath>,
    /// The index of the API, and its name.
    pub api: Option<usize>,
    pub api_name: Option<Arc<str>>,
    pub route: Option<Arc<str>>,
    pub metrics: Option<Arc<RouteMetrics>>,
    pub operation: Option<Operation>,
    pub kind: Option<CredentialKind>,
    pub principal: Option<Arc<Principal>>,
    pub tenant: Option<String>,
    /// What the route says of pages of other origins, and the origin of this one.
    pub cors: Option<Arc<Cors>>,
    pub origin: Option<HeaderValue>,
    pub upstream: Option<Arc<str>>,
    /// From the request's last byte given to the upstream's head taken.
    pub upstream_us: Option<u64>,
    /// Only while a request is explained.
    steps: Option<Vec<Step>>,
}

/// One line of an explanation.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Step {
    pub stage: &'static str,
    pub outcome: String,
}

impl Exchange {
    pub fn new(parts: Parts, arrival: Arrival, request_id: String) -> Self {
        Self {
            now: arrival.now,
            request_id,
            client: arrival.client.ip,
            peer: arrival.peer,
            tls: arrival.tls,
            trust: arrival.client.peer,
            client_is_unclear: arrival.client.malformed,
            listener: arrival.listener,
            serves: arrival.serves,
            asked: None,
            fault: arrival.fault,
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            notes: Notes::default(),
        }
    }

    /// Turns the recording of steps on.
    pub fn explained(mut self) -> Self {
        self.notes.steps = Some(Vec::new());
        self
    }

    /// Records a step; the text is only made while a request is explained.
    pub fn note(&mut self, stage: Stage, outcome: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.notes.steps {
            steps.push(Step { stage: stage.as_str(), outcome: outcome() });
        }
    }

    pub fn steps(&mut self) -> Vec<Step> {
        self.notes.steps.take().unwrap_or_default()
    }

    /// The host that the request is for: lower case, without port and trailing dot. An absolute target must name the
    /// same host as the header (RFC 9112, section 3.2.2 would let the target win; two programs could then differ).
    ///
    /// # Errors
    /// [`Denial::HostMissing`] and [`Denial::HostMalformed`].
    pub fn read_host(&self) -> Result<String, Denial> {
        let mut values = self.headers.get_all(header::HOST).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(Denial::HostMissing) };
        let text = value.to_str().map_err(|_| Denial::HostMalformed)?;
        if self.uri.authority().is_none()
            && let Some(host) = plain_host(text)
        {
            return Ok(host.to_owned());
        }
        let authority: Authority = text.parse().map_err(|_| Denial::HostMalformed)?;
        if let Some(target) = self.uri.authority()
            && !target.as_str().eq_ignore_ascii_case(text)
        {
            return Err(Denial::HostMalformed);
        }
        let host = authority.host();
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
        if text.contains('@') || host.is_empty() || !host.bytes().all(plain) {
            return Err(Denial::HostMalformed);
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_empty() { Err(Denial::HostMalformed) } else { Ok(host.to_ascii_lowercase()) }
    }
}

/// The host of a field that is a name in small letters, or an address, and a port at most: nearly all are.
fn plain_host(text: &str) -> Option<&str> {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    let sound = (1..=MOST_DIGITS).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    (sound && !host.is_empty() && !host.ends_with('.') && host.bytes().all(name)).then_some(host)
}

/// Of a port.
const MOST_DIGITS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What is read at first sight is what the whole reading finds.
        #[test]
        fn a_plain_host_is_the_host_of_the_authority(text in "[a-z0-9._:@\\[\\]A-Z-]{0,14}(:[0-9]{0,6})?") {
            if let Some(host) = plain_host(&text) {
                let authority: Authority = text.parse().unwrap();
                prop_assert_eq!(authority.host(), host);
                prop_assert_eq!(host.to_ascii_lowercase(), host);
            }
        }
    }

    #[test]
    fn ordinary_hosts_are_read_at_first_sight() {
        let read = ["api.example.com", "api.example.com:8443", "10.0.0.1", "[::1]:80", "API.example.com", "a@b", "a.", "a:", ""];
        let expected = [Some("api.example.com"), Some("api.example.com"), Some("10.0.0.1"), None, None, None, None, None, None];
        assert_eq!(read.map(plain_host), expected);
    }
}
