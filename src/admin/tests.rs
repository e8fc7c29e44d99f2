//! Over real sockets.

use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;
use crate::observe::samples::refused;

struct Running {
    address: SocketAddr,
    state: AdminState,
    stop: watch::Sender<bool>,
    server: JoinSet<io::Result<()>>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

impl Running {
    fn start() -> Self {
        let explain: ExplainFn = Arc::new(|description| {
            Box::pin(async move {
                match description.get("path") {
                    Some(path) => Ok(json!({ "steps": [{ "stage": "route", "path": path }] })),
                    None => Err("path is missing".to_owned()),
                }
            })
        });
        let state = AdminState {
            health: Health::default(),
            metrics: Metrics::default(),
            refusals: RecentRefusals::default(),
            explain,
            keys: Arc::new(Vec::new),
            reload: Arc::new(|| Box::pin(async { Ok(Value::Null) })),
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, shutdown) = watch::channel(false);
        let mut server = JoinSet::new();
        server.spawn(serve(listener, state.clone(), shutdown));
        Self { address, state, stop, server }
    }

    async fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    async fn stop(&mut self) {
        self.stop.send(true).unwrap();
        self.server.join_next().await.unwrap().unwrap().unwrap();
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address)).await
    }

    async fn explain(&self, media_type: &str, body: &str) -> Answer {
        let length = body.len();
        self.send(&format!(
            "POST /explain HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }
}

#[tokio::test]
async fn healthz_is_ok_while_the_process_lives() {
    let admin = Running::start();
    admin.state.health.set("store", Err("locked".to_owned()));
    let answer = admin.get("/healthz").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert!(answer.head.contains("cache-control: no-store") && answer.head.contains("nosniff"), "{}", answer.head);
}

#[tokio::test]
async fn readyz_follows_the_conditions_and_says_what_is_missing() {
    let admin = Running::start();
    admin.state.health.set("listeners", Ok(()));
    admin.state.health.set("store", Err("the file is locked".to_owned()));
    let answer = admin.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json(),
        json!({ "ready": false, "conditions": {
            "listeners": { "ready": true },
            "store": { "ready": false, "reason": "the file is locked" },
        }})
    );

    admin.state.health.set("store", Ok(()));
    let answer = admin.get("/readyz").await;
    assert_eq!((answer.status, answer.json()["ready"].as_bool()), (200, Some(true)));

    admin.state.health.drain();
    let answer = admin.get("/readyz").await;
    assert_eq!((answer.status, &answer.json()["conditions"]["draining"]["ready"]), (503, &json!(false)));
}

#[tokio::test]
async fn metrics_are_open_metrics_text() {
    let admin = Running::start();
    admin.state.metrics.route("api", "jobs").record(200, None, 10);
    let answer = admin.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{}", answer.head);
    assert_eq!(answer.body, admin.state.metrics.render().unwrap());
}

#[tokio::test]
async fn explain_hands_the_description_over_and_the_steps_back() {
    let admin = Running::start();
    let answer = admin.explain("application/json", r#"{"path":"/v1"}"#).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "steps": [{ "stage": "route", "path": "/v1" }] })));
    let answer = admin.explain("application/json", "{}").await;
    assert_eq!((answer.status, answer.json()), (422, json!({ "error": "not_explainable", "message": "path is missing" })));
}

#[tokio::test]
async fn explain_takes_only_json_of_a_bounded_size() {
    let admin = Running::start();
    // Form types are what a foreign page can send without asking first.
    for media_type in ["text/plain", "application/x-www-form-urlencoded"] {
        let answer = admin.explain(media_type, r#"{"path":"/v1"}"#).await;
        assert_eq!((answer.status, &answer.json()["error"]), (415, &json!("invalid_body")), "{media_type}");
    }
    assert_eq!(admin.explain("application/json", "{").await.status, 400);
    let large = format!("\"{}\"", "a".repeat(256 << 10));
    assert_eq!(admin.explain("application/json", &large).await.status, 413);
}

#[tokio::test]
async fn a_refused_request_is_found_by_its_id() {
    let admin = Running::start();
    admin.state.refusals.remember(&refused("r-1"));
    let answer = admin.get("/requests/r-1").await;
    assert_eq!((answer.status, answer.body), (200, refused("r-1").json()));
    let answer = admin.get("/requests/r-2").await;
    assert_eq!((answer.status, &answer.json()["error"]), (404, &json!("request_unknown")));
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_in_json() {
    let admin = Running::start();
    for path in ["/", "/healthzz", "/healthz/", "/requests", "/requests/a/b", "/%68ealthz/..", "//healthz"] {
        let answer = admin.get(path).await;
        assert_eq!((answer.status, &answer.json()["error"]), (404, &json!("not_found")), "{path}");
    }
    for endpoint in ENDPOINTS {
        let answer = admin.send(&format!("DELETE {} HTTP/1.1\r\nHost: localhost\r\n\r\n", endpoint.path)).await;
        assert_eq!((answer.status, &answer.json()["error"]), (405, &json!("method_not_allowed")), "{}", endpoint.path);
        assert!(answer.head.contains(&format!("allow: {}", endpoint.method.to_ascii_lowercase())), "{}", answer.head);
    }
}

#[tokio::test]
async fn every_endpoint_and_the_fallback_refuse_a_rebound_name_and_a_foreign_page() {
    let admin = Running::start();
    let paths = ENDPOINTS.iter().map(|endpoint| (endpoint.method, endpoint.path)).chain([("GET", "/nowhere")]);
    for (method, path) in paths {
        for fields in ["Host: evil.example", "Host: localhost\r\nOrigin: http://evil.example"] {
            let answer = admin.send(&format!("{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n")).await;
            assert_eq!((answer.status, &answer.json()["error"]), (403, &json!("host_refused")), "{method} {path} {fields}");
        }
    }
}

#[tokio::test]
async fn shutdown_ends_the_server() {
    let mut admin = Running::start();
    assert_eq!(admin.get("/healthz").await.status, 200);
    admin.stop().await;
    assert_eq!(TcpStream::connect(admin.address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_request_does_not_hold_up_the_end() {
    let mut admin = Running::start();
    let mut stream = TcpStream::connect(admin.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: local").await.unwrap();
    admin.stop().await;
    assert!(admin.server.is_empty());
}
