//! Runs a request that nobody sent through the stages, and tells what each of them said. Spends nothing, changes nothing
//! and sends nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use serde_json::{Map, Value, json};

use crate::clock::Now;
use crate::contract::Api;
use crate::listener::{ClientAddress, Peer};
use crate::pipeline::exchange::{Arrival, Exchange, Serves};
use crate::pipeline::inject::Authorized;
use crate::rejection::Rejection;

/// The request that is asked about.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    pub method: String,
    /// Absolute (`http://host/path`) or a path; then `Host` comes from the headers, or is `localhost`.
    pub url: String,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The client's address; by default 127.0.0.1.
    #[serde(default)]
    pub ip: Option<IpAddr>,
    /// The listener that it would come in by; by default the first.
    #[serde(default)]
    pub listener: Option<String>,
}

/// What became of it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Explanation {
    /// `forward`, `answer`, `refuse` or `fail`.
    pub verdict: String,
    pub steps: Vec<(String, String)>,
    /// Stage, code and words of a rejection.
    pub stage: Option<String>,
    pub reason: Option<String>,
    pub detail: Option<String>,
    /// What the client would be told.
    pub status: Option<u16>,
    pub body: Option<String>,
    /// The operation, the upstream, or what the config file answers.
    pub target: Option<String>,
    /// What the upstream would be told of the caller.
    pub identity: Map<String, Value>,
}

impl Question {
    /// The request as a listener would hand it on. `listeners` are the names that there are.
    ///
    /// # Errors
    /// What is wrong with the question, in words; never with the value of a header or a query, which may be a credential.
    pub fn pose<'a>(&self, mut listeners: impl Iterator<Item = &'a Arc<str>>, now: Now) -> Result<Exchange, String> {
        let listener = match &self.listener {
            Some(name) => listeners.find(|known| ***known == **name).ok_or_else(|| format!("no listener `{name}`"))?,
            None => listeners.next().ok_or("there is no listener")?,
        };
        let client = self.ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_canonical();
        let arrival = Arrival {
            now,
            listener: listener.clone(),
            serves: Serves::Requests,
            client: ClientAddress { ip: client, peer: Peer::Untrusted, ignored_header: None, malformed: false },
            peer: SocketAddr::new(client, 0),
            tls: None,
            fault: None,
        };
        Ok(Exchange::new(self.head()?, arrival, "explained".to_owned()))
    }

    fn head(&self) -> Result<Parts, String> {
        let uri: Uri = self.url.parse().map_err(|_| "the URL cannot be read".to_owned())?;
        let mut request = Request::new(());
        *request.method_mut() =
            Method::from_bytes(self.method.as_bytes()).map_err(|_| format!("`{}` is no method", self.method))?;
        if let Some(authority) = uri.authority() {
            let host = HeaderValue::from_str(authority.as_str()).map_err(|_| "the URL's host is no header value".to_owned())?;
            request.headers_mut().insert(header::HOST, host);
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() = target.parse().map_err(|_| "the URL's path and query cannot be read".to_owned())?;
        for (name, value) in &self.headers {
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header name"))?;
            let value = HeaderValue::from_str(value).map_err(|_| format!("the value of {name} is no header value"))?;
            request.headers_mut().append(header, value);
        }
        request.headers_mut().entry(header::HOST).or_insert(HeaderValue::from_static("localhost"));
        Ok(request.into_parts().0)
    }
}

impl Explanation {
    fn new(verdict: &str, exchange: &mut Exchange) -> Self {
        let steps = exchange.steps().into_iter().map(|step| (step.stage.to_owned(), step.outcome)).collect();
        Self {
            verdict: verdict.to_owned(),
            steps,
            stage: None,
            reason: None,
            detail: None,
            status: None,
            body: None,
            target: None,
            identity: Map::new(),
        }
    }

    /// `by` names what answers.
    pub fn of_answer(by: String, exchange: &mut Exchange) -> Self {
        Self { target: Some(by), ..Self::new("answer", exchange) }
    }

    pub fn of_upstream(upstream: &str, api: &Api, authorized: &Authorized, exchange: &mut Exchange) -> Self {
        let names = api.identity.headers.iter().map(|(name, _)| name);
        let shown = names.filter_map(|name| Some((name.to_string(), json!(authorized.headers().get(name)?.to_str().ok()?))));
        Self { target: Some(upstream.to_owned()), identity: shown.collect(), ..Self::new("forward", exchange) }
    }

    pub fn of_rejection(rejection: &Rejection, status: u16, body: String, exchange: &mut Exchange) -> Self {
        exchange.note(rejection.stage(), || format!("refused: {rejection}"));
        let verdict = if matches!(rejection, Rejection::Denied(_)) { "refuse" } else { "fail" };
        Self {
            stage: Some(rejection.stage().as_str().to_owned()),
            reason: Some(rejection.code().to_owned()),
            detail: Some(rejection.to_string()),
            status: Some(status),
            body: Some(body),
            ..Self::new(verdict, exchange)
        }
    }
}
