//! Defects: a request whose stage panics is answered with its API's 500, and nobody else notices. Only in a build with
//! the feature `inject-panics`, in which `X-Inject-Panic` names the place.

use crate::support::{Answer, Client, Gateway, Upstream, until};

const INTERNAL: &str = r#"{"error":{"code":"INTERNAL_ERROR","message":"Internal error"}}"#;
const LOGIN: &str = r#"{"username":"ann","password":"correct horse"}"#;

fn metric(gateway: &Gateway, name: &str, label: &str) -> u64 {
    let metrics = gateway.admin("GET /metrics").body;
    let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

fn panics_logged(gateway: &Gateway) -> usize {
    gateway.stderr().matches("a defect of the gateway: panicked").count()
}

fn request(first: &str, headers: &[&str], body: &str) -> String {
    let length = format!("Content-Length: {}", body.len());
    let lines = [&[first, "Host: api.test", "Content-Type: application/json", &length], headers].concat();
    format!("{}\r\n\r\n{body}", lines.join("\r\n"))
}

/// N6: in credentials, limits, the writing of identity headers and a body, read here or on its way: one request has its
/// API's 500 with a line and a count, and the next one on the same connection finds every lock and counter in order.
#[test]
fn a_panic_in_a_stage_is_one_requests_500() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    gateway.add_user("ann", "correct horse", &["prod=editor"]);
    let bearer = format!("Authorization: Bearer {}", gateway.login("ann", "correct horse").0);
    let mut other = Client::connect(gateway.address);
    for (number, (first, body, point)) in [
        ("GET /api/v1/tenants/prod/nodes HTTP/1.1", "", "authenticate"),
        ("POST /api/v1/auth/token HTTP/1.1", LOGIN, "limiter"),
        ("GET /api/v1/tenants/prod/nodes HTTP/1.1", "", "inject"),
        ("POST /api/v1/auth/token HTTP/1.1", LOGIN, "body"),
        ("POST /api/v1/tenants/prod/nodes HTTP/1.1", "{}", "body"),
    ]
    .into_iter()
    .enumerate()
    {
        other.send(request("GET /health HTTP/1.1", &[], ""));
        assert_eq!(other.receive().status, 200, "{first}, before {point}");
        let mut client = Client::connect(gateway.address);
        client.send(request(first, &[&bearer, &format!("X-Inject-Panic: {point}")], body));
        let answer = client.receive();
        assert_eq!((answer.status, answer.body.as_str()), (500, INTERNAL), "{first} at {point}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(gateway.why(&answer), "failed listener internal", "{first} at {point}");
        assert_eq!(metric(&gateway, "gateward_requests_total{", "reason=\"internal\""), number as u64 + 1, "{point}");
        until("the place in the log", || (panics_logged(&gateway) == number + 1).then_some(()));
        other.send(request(first, &[&bearer], body));
        assert_eq!(other.receive().status, 200, "{first}, after {point}");
    }
    assert_eq!(metric(&gateway, "gateward_requests_in_flight", ""), 0);
}

/// N6: where even the refusal panics, the client has a bare 500, and the log its line.
#[test]
fn a_panic_while_refusing_is_a_bare_500() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    let mut client = Client::connect(gateway.address);
    let mut ask = |header: &str| -> Answer {
        client.send(request("GET /api/v1/tenants/prod/nodes HTTP/1.1", &[header], ""));
        client.receive()
    };
    let answer = ask("X-Inject-Panic: respond");
    assert_eq!((answer.status, answer.body.as_str()), (500, "internal error\n"));
    assert_eq!(ask("X-Nothing: here").status, 401, "the same connection goes on");
    let line = until("the line", || gateway.log().into_iter().find(|line| line["status"] == 500));
    assert_eq!((line["reason"].as_str(), line["verdict"].as_str()), (Some("internal"), Some("failed")));
    assert_eq!(metric(&gateway, "gateward_requests_total{", "reason=\"internal\""), 1);
    assert_eq!((upstream.count(), metric(&gateway, "gateward_requests_in_flight", "")), (0, 0));
}

/// N6: an answer that has begun can only be cut. Its connection ends, and no other does.
#[test]
fn a_panic_in_an_answer_ends_its_connection_alone() {
    let upstream = Upstream::start();
    let gateway = Gateway::infracast(&upstream.url());
    let mut other = Client::connect(gateway.address);
    other.send(request("GET /health HTTP/1.1", &[], ""));
    assert_eq!(other.receive().status, 200);
    let mut client = Client::connect(gateway.address);
    client.send(request("GET /health HTTP/1.1", &["X-Inject-Panic: answer"], ""));
    assert!(client.try_receive().is_none_or(|answer| answer.body.is_empty()), "no byte of the body came");
    assert!(client.is_closed());
    until("the note", || gateway.stderr().contains("a connection was dropped because its task panicked").then_some(()));
    other.send(request("GET /health HTTP/1.1", &[], ""));
    assert_eq!(other.receive().status, 200, "others go on");
    until("the end of the cut request", || (metric(&gateway, "gateward_requests_in_flight", "") == 0).then_some(()));
    let line = until("the line", || gateway.log().into_iter().find(|line| line["verdict"] == "failed"));
    assert_eq!((line["status"].as_u64(), line["reason"].as_str()), (Some(200), Some("internal")), "{line}");
    assert_eq!(metric(&gateway, "gateward_requests_total{", "reason=\"internal\""), 1);
}
