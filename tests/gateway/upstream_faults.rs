//! An upstream that is absent, slow, rude or restarted.

use std::time::Duration;

use crate::support::{Answer, Client, Gateway, Reply, Upstream};

fn gateway(url: &str) -> Gateway {
    Gateway::start(&format!(
        "[[upstream]]\nname = \"u\"\nservers = [\"{url}\"]\ntimeouts = {{ connect = \"500ms\", response = \"500ms\", idle = \"500ms\" }}\n\
         [[api]]\nupstream = \"u\"\ncontract = \"infracast\"\n"
    ))
}

fn failed(gateway: &Gateway, answer: &Answer, status: u16, code: &str, reason: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.json()["error"]["code"], code);
    assert_eq!(gateway.why(answer), format!("failed forward {reason}"));
}

/// N15 C14: each fault has its status in the API's shape and its reason in the log; the gateway goes on.
#[test]
fn each_fault_of_an_upstream_has_its_answer() {
    let absent = gateway("http://127.0.0.1:1");
    failed(&absent, &absent.get("/health", &[]), 502, "BAD_GATEWAY", "upstream_unreachable");
    let upstream = Upstream::start();
    let gateway = gateway(&upstream.url());
    let ask = |reply: Reply| {
        upstream.reply(reply);
        gateway.get("/health", &[])
    };
    failed(&gateway, &ask(Reply::Silence), 504, "GATEWAY_TIMEOUT", "upstream_timeout");
    for rude in [
        b"".as_slice(),
        b"HTTP/1.1 200",
        b"220 smtp.test ESMTP\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    ] {
        failed(&gateway, &ask(Reply::BytesThenClose(rude.to_vec())), 502, "BAD_GATEWAY", "upstream_broken");
    }
    let huge = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'a'; 2 << 20]].concat();
    failed(&gateway, &ask(Reply::BytesThenClose(huge)), 502, "BAD_GATEWAY", "upstream_broken");
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000) + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(Reply::BytesThenClose(hints.into_bytes())).status, 200);
    assert_eq!(ask(Reply::Ok).status, 200);
}

/// C14: an answer that breaks off is broken for the client too, never a shorter one.
#[test]
fn half_an_answer_is_no_answer() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream.url());
    for half in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".as_slice(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        upstream.reply(Reply::BytesThenClose(half.to_vec()));
        let mut client = Client::connect(gateway.address);
        client.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.receive();
        assert!(!answer.body.ends_with("0\r\n\r\n") && answer.body.len() < 100, "{answer:?}");
        assert!(client.is_closed());
    }
}

/// E8: a restarted upstream costs no failed request, and a POST is sent once.
#[test]
fn a_closed_connection_is_replaced_and_a_post_is_not_repeated() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream.url());
    let close = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    upstream.reply(Reply::BytesThenClose(close));
    for _ in 0..20 {
        assert_eq!(gateway.get("/health", &[]).status, 200);
    }
    let public = "[[api.route]]\nname = \"in\"\npath = \"/in\"\nmethods = [\"POST\"]\npublic = true\n";
    let posting = Gateway::start(&format!("[[api]]\nupstream = \"{}\"\ncontract = \"native\"\n{public}", upstream.url()));
    upstream.reply(Reply::Ok);
    assert_eq!(posting.post("/in", &[], "{}").status, 200);
    upstream.forget();
    upstream.reply(Reply::BytesThenClose(Vec::new()));
    let answer = posting.post("/in", &[], "{}");
    assert_eq!((answer.status, upstream.count()), (502, 1));
}

/// Bodies stream both ways, with their framing.
#[test]
fn bodies_pass_with_their_framing() {
    let upstream = Upstream::start();
    let public = "[[api.route]]\nname = \"in\"\npath = \"/in\"\npublic = true\nmax_body = \"64KiB\"\n";
    let gateway = Gateway::start(&format!("[[api]]\nupstream = \"{}\"\ncontract = \"native\"\n{public}", upstream.url()));
    let chunked = "POST /in HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Auth-User-Id: root\r\n\r\n";
    assert_eq!(gateway.raw(chunked).status, 200);
    let seen = upstream.last().to_lowercase();
    assert!(seen.contains("transfer-encoding: chunked") && seen.ends_with("0\r\n\r\n") && !seen.contains("x-auth"), "{seen}");
    let sized = gateway.request("POST", "/in", &[], "hello world");
    assert_eq!(sized.status, 200);
    assert!(upstream.last().ends_with("\r\n\r\nhello world"), "{}", upstream.last());
    upstream.forget();
    let large = gateway.raw("POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n");
    assert_eq!((large.status, gateway.why(&large)), (413, "refused listener body_too_large".to_owned()));
    assert_eq!(upstream.count(), 0);
    upstream.reply(Reply::Bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec()));
    assert_eq!(gateway.get("/in", &[]).body, "5\r\nhello\r\n0\r\n\r\n");
    upstream.reply(Reply::Slow(Duration::from_millis(50)));
    assert_eq!(gateway.get("/in", &[]).status, 200);
}
