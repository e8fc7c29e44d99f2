//! One API, ready to judge requests: its routes with what each needs at hand.

use std::sync::Arc;

use crate::contract::{Api, Route};
use crate::issuer::Issuer;
use crate::limiter::Counted;
use crate::observe::{Metrics, RouteMetrics};
use crate::pipeline::authenticate::Authenticator;

pub struct Service {
    pub api: Arc<Api>,
    pub authenticator: Authenticator,
    pub issuer: Issuer,
    /// Names the upstream in logs.
    pub upstream: Arc<str>,
    pub lanes: Vec<Lane>,
}

/// What belongs to one route while the program runs.
pub struct Lane {
    pub limits: Vec<Arc<Counted>>,
    pub metrics: Arc<RouteMetrics>,
}

impl Service {
    pub fn new(api: Arc<Api>, authenticator: Authenticator, issuer: Issuer, upstream: Arc<str>, metrics: &Metrics) -> Self {
        let name = &api.facts.name;
        let lane = |route: &Route| Lane {
            limits: route.limits.iter().map(|limit| Arc::new(Counted::new(name, limit.clone()))).collect(),
            metrics: metrics.route(name, &route.name),
        };
        let lanes = api.routes.iter().map(lane).collect();
        Self { api, authenticator, issuer, upstream, lanes }
    }
}
