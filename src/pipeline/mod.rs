//! THE PATH OF ONE REQUEST. The order of the `mod` lines is the order of the path; [`Pipeline::judge`] and
//! [`Pipeline::handle`] are the page that everything else serves.

mod path;
mod exchange;
mod headers;
#[cfg(test)]
mod fixture;
mod door;
mod routing;
mod admit;
mod cors;
mod credential;
mod authenticate;
mod authorize;
mod rewrite;
mod limit;
mod inject;
mod decide;
mod trailers;
mod forward;
mod respond;
mod service;
mod account;
mod defect;
mod explain;

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, header};
use http_body::Body as _;

use crate::body::{Body, Incoming};
use crate::clock::Now;
use crate::contract::{Api, Cors, Endpoint, Operation, Route, Target};
use crate::issuer::Call;
use crate::limiter::{Counted, Limiter, Spending, Waited};
use crate::observe::Verdict;
use crate::pipeline::account::Account;
use crate::pipeline::authorize::Permit;
use crate::pipeline::credential::Credential;
use crate::pipeline::exchange::{Asked, Exchange};
use crate::pipeline::limit::{Ledger, Limits};
use crate::pipeline::routing::Found;
use crate::rejection::{Denial, Failure, Rejection};

pub use account::Books;
pub use authenticate::{Authenticator, ClaimNames, ColdLimit, ForeignIssuer};
pub use door::Door;
pub use exchange::{Arrival, Serves};
pub use explain::{Explanation, Question};
pub use forward::{Fleet, Reading, Upstream};
pub use path::NormalPath;
pub use respond::Fallback;
pub use routing::{Lookup, Routing};
pub use service::Service;

/// Everything that all workers share.
pub struct Pipeline {
    pub routing: Routing,
    pub services: Vec<Service>,
    pub limiter: Arc<Limiter>,
    pub fallback: Fallback,
    pub doors: Vec<Door>,
    pub books: Arc<Books>,
}

/// One worker: the shared pipeline, and upstream connections of its own.
pub struct Worker {
    pub pipeline: Arc<Pipeline>,
    /// In the order of the services.
    pub upstreams: Vec<Rc<Upstream>>,
    pub response_timeouts: Vec<Duration>,
}

/// A request that may go on; or what a browser is told that asks whether a page may send one, where nothing else is looked at.
type Judgement<'p> = ControlFlow<Arc<Cors>, Judged<'p>>;

/// A request that may go on, and where to.
struct Judged<'p> {
    index: usize,
    service: &'p Service,
    route: &'p Route,
    limits: &'p [Arc<Counted>],
    captures: Vec<(Arc<str>, String)>,
    credential: Option<Credential>,
    permit: Permit,
    max_body: Option<u64>,
}

impl Pipeline {
    /// All stages up to the decision. Changes nothing but counters, and not even those when it only peeks.
    async fn judge(&self, exchange: &mut Exchange, ledger: &mut Ledger, spending: Spending) -> Result<Judgement<'_>, Rejection> {
        self.check_head(exchange)?;
        let cors_of = |found: &Found| self.services.get(found.api)?.api.routes.get(found.route)?.features.cors.clone();
        let (found, preflight) = cors::find(&self.routing, cors_of, exchange)?;
        let (service, route, limits) = self.lane(&found, exchange)?;
        admit::check(route, exchange)?;
        let limits =
            Limits { limiter: &self.limiter, quotas: limits, realm: &service.api.facts.realm, route: &route.name, spending };
        limits.before_identity(exchange, ledger).await?;
        if let Some(cors) = preflight {
            return Ok(ControlFlow::Break(cors));
        }
        let (credential, caller) = match Self::identify(service, route, exchange, spending) {
            Ok(known) => known,
            Err(rejection) => {
                limits.without_identity(exchange, ledger).await?;
                return Err(rejection);
            }
        };
        let permit = authorize::decide(&service.api, route, &found.captures, caller.clone(), exchange)?;
        let (permit, other) =
            rewrite::apply(&self.routing, &service.api, (found.api, found.route), route, &caller, permit, exchange)?;
        let other = other.and_then(|other| Some((service.api.routes.get(other)?, service.lanes.get(other)?)));
        if !spends_by_itself(route) {
            limits.with_identity(exchange, ledger).await?;
        }
        if let Some((other, lane)) = other {
            let limits = Limits { quotas: &lane.limits, route: &other.name, ..limits };
            limits.before_identity(exchange, ledger).await?;
            limits.with_identity(exchange, ledger).await?;
        }
        let bounds = [route.max_body, other.and_then(|(other, _)| other.max_body)];
        let max_body = bounds.into_iter().flatten().min();
        Ok(ControlFlow::Continue(Judged {
            index: found.api,
            service,
            route,
            limits: limits.quotas,
            captures: found.captures,
            credential,
            permit,
            max_body,
        }))
    }

    fn identify(
        service: &Service,
        route: &Route,
        exchange: &mut Exchange,
        spending: Spending,
    ) -> Result<(Option<Credential>, crate::identity::Caller), Rejection> {
        let credential = credential::extract(&service.api, route, exchange)?;
        panic_point!("authenticate");
        let caller = service.authenticator.verify(&service.api, credential.as_ref(), exchange, spending)?;
        Ok((credential, caller))
    }

    /// Runs a request that nobody sent through the stages.
    ///
    /// # Errors
    /// What is wrong with the question, in words.
    pub async fn explain(&self, question: &Question, now: Now) -> Result<Explanation, String> {
        let known = self.doors.iter().map(|door| &door.name);
        let mut exchange = question.pose(known, now)?.explained();
        let judged = match self.judge(&mut exchange, &mut Ledger::default(), Spending::Peek).await {
            Ok(ControlFlow::Continue(judged)) => judged,
            Ok(ControlFlow::Break(_)) => return Ok(Explanation::of_answer("preflight".to_owned(), &mut exchange)),
            Err(rejection) => {
                let (status, body) = respond::text(&rejection, self.api_for_errors(&exchange), &self.fallback, &exchange);
                return Ok(Explanation::of_rejection(&rejection, status, body, &mut exchange));
            }
        };
        let api = &judged.service.api;
        match &judged.route.target {
            Target::Local(endpoint) => return Ok(Explanation::of_answer(endpoint.operation.as_str().to_owned(), &mut exchange)),
            Target::Fixed(fixed) => return Ok(Explanation::of_answer(fixed.to_string(), &mut exchange)),
            Target::Upstream => {}
        }
        let used = judged.credential.as_ref().and_then(Credential::header);
        let authorized = inject::apply(api, judged.route, &judged.permit, used, &mut exchange, Body::empty());
        Ok(Explanation::of_upstream(&judged.service.upstream, api, &authorized, &mut exchange))
    }

    /// What the listener has said of the head, and what its limits say.
    fn check_head(&self, exchange: &mut Exchange) -> Result<(), Denial> {
        if let Some(fault) = &exchange.fault {
            exchange.notes.host = exchange.read_host().ok();
            return Err(fault.denial.clone());
        }
        self.door(exchange).map_or(Ok(()), |door| door.check(exchange))
    }

    fn lane(&self, found: &Found, exchange: &mut Exchange) -> Result<(&Service, &Route, &[Arc<Counted>]), Rejection> {
        let gap = || Failure::Internal { detail: "the routing names a route that does not exist".to_owned() };
        let service = self.services.get(found.api).ok_or_else(gap)?;
        let route = service.api.routes.get(found.route).ok_or_else(gap)?;
        let lane = service.lanes.get(found.route).ok_or_else(gap)?;
        exchange.notes.api_name = Some(service.api.facts.name.clone());
        exchange.notes.route = Some(route.name.clone());
        exchange.notes.metrics = Some(lane.metrics.clone());
        exchange.notes.operation = operation(route);
        if let Some(cors) = &route.features.cors {
            exchange.notes.cors = Some(cors.clone());
            exchange.notes.origin = exchange.headers.get(header::ORIGIN).cloned();
        }
        Routing::describe(found, &service.api, exchange);
        Ok((service, route, &lane.limits))
    }

    fn door(&self, exchange: &Exchange) -> Option<&Door> {
        self.doors.iter().find(|door| door.name == exchange.listener)
    }

    /// The API in whose words a request is refused: its own, else the listener's default.
    fn api_for_errors(&self, exchange: &Exchange) -> Option<&Api> {
        let own = exchange.notes.api.or_else(|| self.routing.api_of(&exchange.listener, &exchange.read_host().ok()?));
        let index = own.or_else(|| self.door(exchange)?.default_api)?;
        self.services.get(index).map(|service| &*service.api)
    }
}

impl Worker {
    /// Serves one request, whatever becomes of it: one answer, one log line, one count.
    pub async fn serve(self: Rc<Self>, request: Request<Incoming>, arrival: Arrival) -> Response<Body> {
        let (parts, incoming) = request.into_parts();
        let mut account = Account::open(self.pipeline.books.clone(), Exchange::new(parts, arrival, crate::random::request_id()));
        let mut ledger = Ledger::default();
        #[cfg(feature = "inject-panics")]
        crate::inject_panics::ask(&account.exchange.headers);
        let outcome = defect::contained(self.handle(&mut account, incoming, &mut ledger)).await;
        let exchange = &mut account.exchange;
        let (mut response, verdict, rejection) = match outcome {
            Ok((response, verdict)) => (response, verdict, None),
            Err(rejection) => {
                let api = self.pipeline.api_for_errors(exchange);
                let verdict = if matches!(rejection, Rejection::Denied(_)) { Verdict::Refused } else { Verdict::Failed };
                let mut response = respond::refuse(&rejection, api, &self.pipeline.fallback, exchange);
                if let Some(asked) = exchange.asked {
                    decide::narrow(asked, &mut response);
                }
                (response, verdict, Some(rejection))
            }
        };
        ledger.settle(&self.pipeline.limiter, response.status());
        if rejection.is_some() && exchange.is_grpc {
            response = respond::as_grpc(response);
        }
        if let Some(api) = self.pipeline.api_for_errors(exchange) {
            cors::mark(api.cors.as_deref(), exchange, response.headers_mut());
            ledger.write_headers(api.limit_headers, exchange.now, response.headers_mut());
        }
        if let Ok(id) = http::HeaderValue::from_str(&exchange.request_id) {
            response.headers_mut().insert(headers::X_REQUEST_ID, id);
        }
        account.close(response, verdict, rejection.as_ref())
    }

    /// The decision, and what follows from it.
    async fn handle(
        &self,
        account: &mut Account,
        incoming: Incoming,
        ledger: &mut Ledger,
    ) -> Result<(Response<Body>, Verdict), Rejection> {
        let exchange = &mut account.exchange;
        if exchange.serves == Serves::Decisions && exchange.fault.is_none() {
            exchange.asked = Some(decide::pose(exchange)?);
        }
        let judged = match self.pipeline.judge(exchange, ledger, Spending::Spend).await? {
            ControlFlow::Continue(judged) => judged,
            // A proxy that asks would forward what is allowed, and nobody was looked at here.
            ControlFlow::Break(_) if exchange.asked.is_some() => return Err(Denial::GatewayOnly.into()),
            ControlFlow::Break(cors) => return Ok((cors::preflight(&cors, exchange), Verdict::Answered)),
        };
        if let Some(key) = judged.permit.principal().and_then(|principal| principal.key.as_ref()) {
            judged.service.authenticator.store.touch_key(&key.id, exchange.now.wall);
        }
        if let Some(asked) = exchange.asked {
            return Self::decide(&judged, asked, exchange);
        }
        let progress = self.pipeline.door(exchange).map_or(Duration::MAX, |door| door.body_progress);
        let mut body = Body::from_client(incoming, judged.max_body, progress)?.paced(judged.route.features.pace);
        account.received = (!body.is_end_stream()).then(|| body.meter());
        match &judged.route.target {
            // Boxed, because a request that is forwarded should not carry the room for answering one here.
            Target::Local(endpoint) => Box::pin(Self::answer(&judged, endpoint, account, body, ledger.waited)).await,
            Target::Fixed(fixed) => Ok((respond::fixed(fixed, &judged.service.api, &account.exchange)?, Verdict::Answered)),
            Target::Upstream => {
                let trailers = account.exchange.takes_trailers();
                let sending = self.forward(&judged, account, body)?;
                let before = crate::clock::tick();
                let response = sending.await;
                account.exchange.notes.upstream_us = Some(crate::clock::tick().since(before));
                let mut response = response?;
                if judged.route.features.cors.is_some() {
                    cors::forget(response.headers_mut());
                }
                judged.route.features.response.apply(response.headers_mut());
                if trailers {
                    response = response.map(|body| body.passing_trailers(trailers::rule(&judged.service.api)));
                } else {
                    response.headers_mut().remove(header::TRAILER);
                }
                Ok((response, Verdict::Forwarded))
            }
        }
    }

    async fn answer(
        judged: &Judged<'_>,
        endpoint: &Endpoint,
        account: &mut Account,
        body: Body,
        waited: Waited,
    ) -> Result<(Response<Body>, Verdict), Rejection> {
        let body = body.collect(endpoint.max_body).await?;
        let call = call(judged, &mut account.exchange, body, waited);
        let mut response = judged.service.issuer.answer(endpoint, call).await?;
        respond::mark_as_ours(&judged.service.api, response.headers_mut());
        Ok((response, Verdict::Answered))
    }

    /// Tells the proxy that asked that the request may pass, and for whom.
    fn decide(judged: &Judged<'_>, asked: Asked, exchange: &mut Exchange) -> Result<(Response<Body>, Verdict), Rejection> {
        if let Target::Local(_) | Target::Fixed(_) = judged.route.target {
            return Err(Denial::GatewayOnly.into());
        }
        let api = &judged.service.api;
        let used = judged.credential.as_ref().and_then(Credential::header);
        let authorized = inject::apply(api, judged.route, &judged.permit, used, exchange, Body::empty());
        Ok((decide::allow(api, &authorized, asked), Verdict::Allowed))
    }

    /// Rewrites the request for the upstream. What is returned sends it.
    fn forward(
        &self,
        judged: &Judged<'_>,
        account: &mut Account,
        body: Body,
    ) -> Result<impl Future<Output = Result<Response<Body>, Rejection>>, Rejection> {
        panic_point!("inject");
        let exchange = &mut account.exchange;
        let used = judged.credential.as_ref().and_then(Credential::header);
        // A body of known length has none by HTTP/1, and hardly ever by HTTP/2.
        let body = match body.size_hint().exact() {
            Some(_) => body,
            None => body.passing_trailers(trailers::rule(&judged.service.api)),
        };
        let authorized = inject::apply(&judged.service.api, judged.route, &judged.permit, used, exchange, body);
        let gap = || Failure::Internal { detail: "a service has no upstream".to_owned() };
        let upstream = self.upstreams.get(judged.index).ok_or_else(gap)?;
        let patience = self.response_timeouts.get(judged.index).copied().unwrap_or(Duration::MAX);
        exchange.notes.upstream = Some(judged.service.upstream.clone());
        Ok(forward::send(upstream, authorized, patience))
    }
}

/// What a local endpoint is called with.
fn call(judged: &Judged<'_>, exchange: &mut Exchange, body: bytes::Bytes, waited: Waited) -> Call {
    let attempts = if spends_by_itself(judged.route) { judged.limits } else { &[] };
    Call {
        principal: judged.permit.principal().cloned(),
        captures: judged.captures.clone(),
        query: exchange.uri.query().map(str::to_owned),
        headers: std::mem::take(&mut exchange.headers),
        body,
        client: exchange.client,
        now: exchange.now,
        request_id: exchange.request_id.clone(),
        route: judged.route.name.clone(),
        attempts: attempts.iter().filter(|counted| counted.needs_identity()).cloned().collect(),
        waited,
    }
}

/// A login spends the limits that count by account itself: only its body says which account.
fn spends_by_itself(route: &Route) -> bool {
    operation(route) == Some(Operation::Login)
}

fn operation(route: &Route) -> Option<Operation> {
    match &route.target {
        Target::Local(endpoint) => Some(endpoint.operation),
        Target::Fixed(_) | Target::Upstream => None,
    }
}
