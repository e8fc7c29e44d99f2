//! What the admin listener answers. All of it is in [`ENDPOINTS`].

use std::time::Duration;

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Json, Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admin::{AdminState, NotReloaded, guard};
use crate::clock;
use crate::observe::Metrics;

/// One row of the table.
pub struct Endpoint {
    pub method: &'static str,
    pub path: &'static str,
    /// What it is for, for people.
    pub purpose: &'static str,
    handler: fn() -> MethodRouter<Admin>,
}

/// Every endpoint of the admin listener. None of them changes anything but what is remembered of others' keys, and which
/// version of the config's own files is in effect.
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint { method: "GET", path: "/healthz", purpose: "200 as long as the process lives", handler: || get(live) },
    Endpoint {
        method: "GET",
        path: "/readyz",
        purpose: "200 when the gateway takes traffic, else 503 and why not",
        handler: || get(ready),
    },
    Endpoint {
        method: "GET",
        path: "/metrics",
        purpose: "numbers for Prometheus, as OpenMetrics text",
        handler: || get(metrics),
    },
    Endpoint {
        method: "POST",
        path: "/explain",
        purpose: "what would become of a request, step by step; spends nothing",
        handler: || post(explain),
    },
    Endpoint {
        method: "GET",
        path: "/requests/{id}",
        purpose: "why a recent request was not served, by its request id",
        handler: || get(refusal),
    },
    Endpoint {
        method: "GET",
        path: "/jwks",
        purpose: "the keys of other issuers: where from, when, and what was left out",
        handler: || get(keys),
    },
    Endpoint {
        method: "POST",
        path: "/jwks/refresh",
        purpose: "fetches the keys of other issuers anew and shows them",
        handler: || post(refresh_keys),
    },
    Endpoint {
        method: "POST",
        path: "/reload",
        purpose: "reads the config anew and takes it over: what changed, or every reason why not",
        handler: || post(reload),
    },
];

/// The state of one listener.
#[derive(Clone)]
pub struct Admin {
    pub state: AdminState,
    pub bound: std::net::SocketAddr,
}

pub fn router(admin: Admin) -> Router {
    let empty: Router<Admin> = Router::new();
    ENDPOINTS
        .iter()
        .fold(empty, |router, endpoint| router.route(endpoint.path, (endpoint.handler)()))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(EXPLAIN_BODY_BYTES))
        .layer(from_fn_with_state(admin.clone(), around))
        .with_state(admin)
}

/// The guard before, and the fields that every answer has after.
async fn around(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let mut response = match guard::judge(admin.bound, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => error(StatusCode::FORBIDDEN, "host_refused", why),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // One request per connection, because a connection has an end (socket.rs) that must not cut a later request short.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn live() -> &'static str {
    "ok"
}

async fn ready(State(admin): State<Admin>) -> Response {
    let (ready, conditions) = admin.state.health.report();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let conditions: Map<String, Value> = conditions
        .into_iter()
        .map(|(name, condition)| {
            let value = match condition {
                Ok(()) => json!({ "ready": true }),
                Err(reason) => json!({ "ready": false, "reason": reason }),
            };
            (name.to_owned(), value)
        })
        .collect();
    (status, Json(json!({ "ready": ready, "conditions": conditions }))).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.state.metrics.render() {
        Ok(page) => ([(CONTENT_TYPE, Metrics::CONTENT_TYPE)], page).into_response(),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "internal", "a metric cannot be written as text"),
    }
}

async fn explain(State(admin): State<Admin>, body: Result<Json<Value>, JsonRejection>) -> Response {
    // The body may describe a request with a credential: it is handed on, and neither logged nor sent back.
    let description = match body {
        Ok(Json(description)) => description,
        Err(rejection) => return error(rejection.status(), "invalid_body", &rejection.body_text()),
    };
    match timeout(EXPLAIN_TIME, (admin.state.explain)(description)).await {
        Ok(Ok(steps)) => Json(steps).into_response(),
        Ok(Err(why)) => error(StatusCode::UNPROCESSABLE_ENTITY, "not_explainable", &why),
        Err(_) => error(StatusCode::GATEWAY_TIMEOUT, "timeout", "the steps were not found in time"),
    }
}

async fn refusal(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    match admin.state.refusals.find(&id) {
        Some(record) => ([(CONTENT_TYPE, "application/json")], record).into_response(),
        None => error(
            StatusCode::NOT_FOUND,
            "request_unknown",
            "no request with this id was refused or failed lately; it was served, is long past, or went to another process",
        ),
    }
}

async fn keys(State(admin): State<Admin>) -> Response {
    let now = clock::now();
    Json((admin.state.keys)().iter().map(|source| source.status(now)).collect::<Vec<_>>()).into_response()
}

async fn refresh_keys(State(admin): State<Admin>) -> Response {
    let mut fetches = JoinSet::new();
    for source in (admin.state.keys)() {
        fetches.spawn(async move { source.refresh_now().await });
    }
    // What went wrong stands in the status of each.
    let _ = fetches.join_all().await;
    keys(State(admin)).await
}

async fn reload(State(admin): State<Admin>) -> Response {
    match timeout(RELOAD_TIME, (admin.state.reload)()).await {
        Ok(Ok(changed)) => Json(changed).into_response(),
        Ok(Err(NotReloaded { code, message, details })) => {
            let status = if code == "restart_needed" { StatusCode::CONFLICT } else { StatusCode::UNPROCESSABLE_ENTITY };
            (status, Json(json!({ "error": code, "message": message, "details": details }))).into_response()
        }
        Err(_) => error(StatusCode::GATEWAY_TIMEOUT, "timeout", "the reload goes on; its outcome will stand in the log"),
    }
}

async fn unknown() -> Response {
    let shown = |endpoint: &Endpoint| format!("{} {} ({})", endpoint.method, endpoint.path, endpoint.purpose);
    let paths: Vec<String> = ENDPOINTS.iter().map(shown).collect();
    error(StatusCode::NOT_FOUND, "not_found", &format!("there are {}", paths.join(", ")))
}

async fn wrong_method() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "see the Allow field")
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": code, "message": message }))).into_response()
}

const EXPLAIN_BODY_BYTES: usize = 256 << 10;
const EXPLAIN_TIME: Duration = Duration::from_secs(10);
/// Shorter than a connection's life. A new issuer's keys may take eight seconds of it.
const RELOAD_TIME: Duration = Duration::from_secs(20);
