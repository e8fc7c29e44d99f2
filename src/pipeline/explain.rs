//! Runs a request that nobody sent through the stages, and tells what each of them said. Spends nothing, changes nothing
//! and sends nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use serde_json::{Map, Value, json};

use crate::body::Body;
use crate::clock::Now;
use crate::contract::Target;
use crate::limiter::Spending;
use crate::listener::{ClientAddress, Peer};
use crate::pipeline::exchange::{Arrival, Exchange, Step};
use crate::pipeline::limit::Ledger;
use crate::pipeline::{Judged, Pipeline, inject, respond};
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
    /// The operation, or the upstream.
    pub target: Option<String>,
    /// What the upstream would be told of the caller.
    pub identity: Map<String, Value>,
}

impl Pipeline {
    /// Explains one request.
    ///
    /// # Errors
    /// What is wrong with the question, in words.
    pub fn explain(&self, question: &Question, now: Now) -> Result<Explanation, String> {
        let mut exchange = self.pose(question, now)?.explained();
        let outcome = self.judge(&mut exchange, &mut Ledger::default(), Spending::Peek);
        match outcome {
            Ok(judged) => Ok(Self::granted(&judged, &mut exchange)),
            Err(rejection) => Ok(self.refused(&rejection, &mut exchange)),
        }
    }

    fn pose(&self, question: &Question, now: Now) -> Result<Exchange, String> {
        let method = Method::from_bytes(question.method.as_bytes()).map_err(|_| format!("`{}` is no method", question.method))?;
        let uri: Uri = question.url.parse().map_err(|_| format!("`{}` is no URL", question.url))?;
        let listener = match &question.listener {
            Some(name) => self.doors.iter().find(|door| *door.name == **name).ok_or_else(|| format!("no listener `{name}`"))?,
            None => self.doors.first().ok_or("there is no listener")?,
        };
        let mut request = Request::new(());
        *request.method_mut() = method;
        if let Some(authority) = uri.authority() {
            let host = HeaderValue::from_str(authority.as_str()).map_err(|_| "the URL's host is no header value".to_owned())?;
            request.headers_mut().insert(header::HOST, host);
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() = target.parse().map_err(|_| format!("`{target}` is no request target"))?;
        for (name, value) in &question.headers {
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header name"))?;
            // The value may be a credential: it is not repeated.
            let value = HeaderValue::from_str(value).map_err(|_| format!("the value of {name} is no header value"))?;
            request.headers_mut().append(header, value);
        }
        request.headers_mut().entry(header::HOST).or_insert(HeaderValue::from_static("localhost"));
        let client = question.ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_canonical();
        let arrival = Arrival {
            now,
            listener: listener.name.clone(),
            client: ClientAddress { ip: client, peer: Peer::Untrusted, ignored_header: None, malformed: false },
            peer: SocketAddr::new(client, 0),
        };
        Ok(Exchange::new(request.into_parts().0, arrival, "explained".to_owned()))
    }

    fn granted(judged: &Judged<'_>, exchange: &mut Exchange) -> Explanation {
        let (verdict, target, identity) = match &judged.route.target {
            Target::Local(endpoint) => ("answer", endpoint.operation.as_str().to_owned(), Map::new()),
            Target::Upstream => {
                let used = judged.credential.as_ref().map(|credential| &credential.header);
                let api = &judged.service.api;
                let authorized = inject::apply(api, judged.route, &judged.permit, used, exchange, Body::empty());
                let names = api.identity.headers.iter().map(|(name, _)| name);
                let shown =
                    names.filter_map(|name| Some((name.to_string(), json!(authorized.headers().get(name)?.to_str().ok()?))));
                ("forward", judged.service.upstream.to_string(), shown.collect())
            }
        };
        Explanation {
            verdict: verdict.to_owned(),
            steps: shown(exchange.steps()),
            stage: None,
            reason: None,
            detail: None,
            status: None,
            body: None,
            target: Some(target),
            identity,
        }
    }

    fn refused(&self, rejection: &Rejection, exchange: &mut Exchange) -> Explanation {
        let api = self.api_for_errors(exchange);
        let (status, body) = respond::text(rejection, api, &self.fallback, exchange);
        exchange.note(rejection.stage(), || format!("refused: {rejection}"));
        Explanation {
            verdict: if matches!(rejection, Rejection::Denied(_)) { "refuse" } else { "fail" }.to_owned(),
            steps: shown(exchange.steps()),
            stage: Some(rejection.stage().as_str().to_owned()),
            reason: Some(rejection.code().to_owned()),
            detail: Some(rejection.to_string()),
            status: Some(status),
            body: Some(body),
            target: None,
            identity: Map::new(),
        }
    }
}

fn shown(steps: Vec<Step>) -> Vec<(String, String)> {
    steps.into_iter().map(|step| (step.stage.to_owned(), step.outcome)).collect()
}
