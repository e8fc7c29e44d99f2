//! One request on its way through the stages: what was asked, what is known so far, and what goes into the log.

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, Uri, header};

use crate::clock::Now;
use crate::contract::Operation;
use crate::identity::{CredentialKind, Principal};
use crate::pipeline::routing::NormalPath;
use crate::rejection::{Denial, Stage};

/// What a listener knows of a request beside its head.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub now: Now,
    pub listener: Arc<str>,
    /// Decided once, by the listener, from the connection and trusted proxies alone.
    pub client: IpAddr,
    /// The other end of the connection.
    pub peer: IpAddr,
    pub peer_is_trusted: bool,
}

/// One request.
#[derive(Debug)]
pub struct Exchange {
    pub now: Now,
    pub request_id: String,
    pub client: IpAddr,
    pub peer: IpAddr,
    pub peer_is_trusted: bool,
    pub listener: Arc<str>,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub notes: Notes,
}

/// What the stages found out, for the log line and for `explain`.
#[derive(Debug, Default)]
pub struct Notes {
    pub host: Option<String>,
    pub path: Option<NormalPath>,
    pub api: Option<Arc<str>>,
    pub route: Option<Arc<str>>,
    pub operation: Option<Operation>,
    pub kind: Option<CredentialKind>,
    pub principal: Option<Arc<Principal>>,
    pub tenant: Option<String>,
    pub upstream: Option<Arc<str>>,
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
            client: arrival.client,
            peer: arrival.peer,
            peer_is_trusted: arrival.peer_is_trusted,
            listener: arrival.listener,
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

    /// The only value of a header that must not stand there twice.
    ///
    /// # Errors
    /// [`Denial::DuplicateHeader`].
    pub fn single_header(&self, name: &header::HeaderName, shown: &'static str) -> Result<Option<&[u8]>, Denial> {
        let mut values = self.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => Ok(Some(value.as_bytes())),
            (Some(_), Some(_)) => Err(Denial::DuplicateHeader { name: shown }),
        }
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
