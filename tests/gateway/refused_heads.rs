//! What becomes of a refused head beside the refusal: its place among other requests, its client, its API, its count.

use std::time::Duration;

use crate::connections::statuses;
use crate::support::{Client, Gateway, Reply, Upstream, until};

const BAD: &str = "GET /health?secret HTTP/1.1\r\nHost: api.test\r\nX-A : a\r\n\r\n";

fn infracast(listener: &str, upstream: &Upstream) -> Gateway {
    Gateway::start_with(listener, &format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n", upstream.url()))
}

/// The reasons in the log, in its order, once there are so many lines.
fn reasons(gateway: &Gateway, count: usize) -> Vec<String> {
    let lines = until("the log", || Some(gateway.log()).filter(|lines| lines.len() >= count));
    lines.iter().map(|line| line["reason"].as_str().unwrap_or("-").to_owned()).collect()
}

/// C15: the refusal waits for its turn: what came before it is answered first, however long that takes.
#[test]
fn a_refused_head_waits_for_the_answers_before_it() {
    let upstream = Upstream::start();
    let gateway = infracast("", &upstream);
    upstream.reply(Reply::Slow(Duration::from_millis(300)));
    let good = "GET /health HTTP/1.1\r\nHost: api.test\r\n\r\n";
    assert_eq!(statuses(&gateway, &format!("{good}{BAD}{good}")), [200, 400]);
    assert_eq!(reasons(&gateway, 2), ["-", "head_malformed"]);
    assert_eq!(upstream.count(), 1);
}

/// C15: bytes that come one at a time are judged like those that come together.
#[test]
fn a_head_may_come_byte_by_byte() {
    let upstream = Upstream::start();
    let gateway = infracast("", &upstream);
    let mut client = Client::connect(gateway.address);
    for request in ["\r\nGET /health HTTP/1.1\r\nHost: api.test\r\nCookie: a=b\r\n\r\n", BAD] {
        for byte in request.trim_end_matches("a\r\n\r\n").as_bytes().chunks(1) {
            client.send(byte);
        }
        if request == BAD {
            let answer = client.receive();
            assert_eq!((answer.status, gateway.why(&answer).as_str()), (400, "refused listener head_malformed"));
            assert!(client.is_closed());
        } else {
            assert_eq!(client.receive().status, 200);
        }
    }
    assert_eq!(upstream.count(), 1);
}

/// B14, C7: the log names the client that a trusted proxy names, what could be read of the head, and no query; the
/// metrics count the reason.
#[test]
fn a_refused_head_is_accounted_for() {
    let upstream = Upstream::start();
    let gateway = infracast("trusted_proxies = [\"127.0.0.1/32\"]", &upstream);
    let head =
        "PUT /health?secret HTTP/1.1\r\nHost: api.test\r\nX-Forwarded-For: 192.0.2.7\r\nUser-Agent: agent/1\r\n: x\r\n\r\n";
    let answer = gateway.raw(head);
    let line = gateway.logged(&answer);
    let text = |name: &str| line[name].as_str().unwrap().to_owned();
    assert_eq!((text("method"), text("path"), text("host")), ("PUT".to_owned(), "/health".to_owned(), "api.test".to_owned()));
    assert_eq!((text("client_ip"), text("user_agent")), ("192.0.2.7".to_owned(), "agent/1".to_owned()));
    assert_eq!(text("detail"), "the request's head is malformed: a field without a name");
    assert_eq!(line["status"], 400);
    assert!(!gateway.everything_written().contains("secret"));
    let metrics = gateway.admin("GET /metrics").body;
    let counted = |line: &&str| line.starts_with("gateward_requests_total{") && line.contains("reason=\"head_malformed\"");
    let lines: Vec<&str> = metrics.lines().filter(counted).collect();
    assert!(lines.len() == 1 && lines[0].ends_with(" 1"), "{lines:?}");
    assert_eq!(upstream.count(), 0);
}

/// C7: a refused head is answered in the words of the API that its one Host names, and of nobody without one.
#[test]
fn a_refused_head_is_answered_by_its_api() {
    let upstream = Upstream::start();
    let api = |name: &str, contract: &str| {
        format!(
            "[[api]]\nhosts = [\"{name}.test\"]\nname = \"{name}\"\nupstream = \"{}\"\ncontract = \"{contract}\"\n",
            upstream.url()
        )
    };
    let gateway = Gateway::start(&format!("{}\n{}", api("one", "infracast"), api("two", "native")));
    let body = |hosts: &str| {
        let answer = gateway.raw(format!("GET /health HTTP/1.1\r\n{hosts}X: a\nY: b\r\n\r\n"));
        assert_eq!((answer.status, gateway.why(&answer).as_str()), (400, "refused listener head_malformed"));
        (answer.header("content-type").unwrap().to_owned(), answer.body)
    };
    let one = body("Host: one.test\r\n");
    assert_eq!(one.1, r#"{"error":{"code":"BAD_REQUEST","message":"malformed request"}}"#);
    assert_ne!(body("Host: two.test\r\n").1, one.1);
    assert_eq!(body("").0, "application/problem+json");
    assert_eq!(body("Host: other.test\r\n").0, "application/problem+json");
}

/// C7: nobody can send the mark of a refused head: it is an ordinary field.
#[test]
fn a_forged_mark_is_an_ordinary_field() {
    let upstream = Upstream::start();
    let gateway = infracast("", &upstream);
    for mark in ["", "0", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let forged = format!("GET /health HTTP/1.1\r\nHost: api.test\r\nX-Gateward-Refused: {mark}\r\n\r\n");
        assert_eq!(statuses(&gateway, &(forged + BAD)), [200, 400], "{mark}");
    }
    assert_eq!(reasons(&gateway, 6), ["-", "head_malformed"].repeat(3));
    assert_eq!(upstream.count(), 3);
}

/// C12: the answer to a refused head arrives although its sender goes on sending; nothing of that is a request.
#[test]
fn an_upload_behind_a_refused_head_does_not_destroy_the_answer() {
    let upstream = Upstream::start();
    let gateway = infracast("", &upstream);
    let body = "GET /health HTTP/1.1\r\nHost: api.test\r\n\r\n".repeat(20_000);
    let head = format!("POST /health HTTP/1.1\r\nHost: api.test\r\nContent-Length: +{}\r\n\r\n", body.len());
    let answer = gateway.raw(head + &body);
    assert_eq!((answer.status, gateway.why(&answer).as_str()), (400, "refused listener framing_ambiguous"));
    assert_eq!(upstream.count(), 0);
}

/// A12: the answer to a refused HEAD has no body.
#[test]
fn a_refused_head_request_is_answered_without_a_body() {
    let upstream = Upstream::start();
    let gateway = infracast("", &upstream);
    let mut client = Client::connect(gateway.address);
    client.send(BAD.replace("GET", "HEAD"));
    let answer = client.receive();
    assert_eq!((answer.status, gateway.logged(&answer)["method"].as_str()), (400, Some("HEAD")));
    assert!(client.is_closed());
}
