//! Upstreams that stall, flood, die between two requests or never let anyone in; and clients that leave them waiting.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::support::{Client, Gateway, Played, Reply, Script, Upstream, pause_for, until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &str = "GET /in HTTP/1.1\r\nHost: a\r\n\r\n";

/// One public route `/in`, and an upstream with half a second for everything.
fn gateway(urls: &[&str]) -> Gateway {
    let servers: Vec<String> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    Gateway::start_with(
        "timeouts = { body_progress = \"500ms\" }",
        &format!(
            "[[upstream]]\nname = \"u\"\nservers = [{}]\ntimeouts = {{ connect = \"500ms\", response = \"500ms\", idle = \"500ms\" }}\n\
             [[api]]\nupstream = \"u\"\ncontract = \"native\"\n[[api.route]]\nname = \"in\"\npath = \"/in\"\npublic = true\n",
            servers.join(", ")
        ),
    )
}

fn within_seconds<T>(heard: &Receiver<T>) -> T {
    heard.recv_timeout(Duration::from_secs(15)).unwrap()
}

/// N15: an answer whose body stands still is cut after the idle time; one that moves slowly is not.
#[test]
fn a_stalled_answer_is_cut_and_a_slow_one_is_not() {
    let stalled = Script::start(|mut played| {
        played.head();
        played.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        played.rest();
    });
    let gateway_of_stalled = gateway(&[&stalled.url()]);
    let mut client = Client::connect(gateway_of_stalled.address);
    client.send(GET);
    let answer = client.receive();
    assert_eq!((answer.status, answer.body.as_str()), (200, "half"));
    assert!(client.is_closed());
    assert_eq!(gateway_of_stalled.logged(&answer)["bytes_out"], 4);

    let slow = Script::start(|mut played| {
        played.head();
        played.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
        for digit in 0..10 {
            // Ten times less than the idle time, and all of it more.
            pause_for(Duration::from_millis(70));
            played.say(digit.to_string());
        }
        played.rest();
    });
    let answer = gateway(&[&slow.url()]).get("/in", &[]);
    assert_eq!((answer.status, answer.body.as_str()), (200, "0123456789"));
}

/// N15: heads and interim answers without an end are ended by us, and cost no memory.
#[test]
fn floods_of_an_upstream_end() {
    for (opening, flood, status, reason) in [
        ("", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 504, "failed forward upstream_timeout"),
        (
            "HTTP/1.1 200 OK\r\n",
            "X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
            502,
            "failed forward upstream_broken",
        ),
        ("HTTP/1.1 200 OK\r\nX-A: ", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 502, "failed forward upstream_broken"),
    ] {
        let (ended, end) = sync_channel(1);
        let script = Script::start(move |mut played| {
            played.head();
            played.say(opening);
            let block = flood.repeat(1000);
            let mut sent = 0_usize;
            while sent < 1 << 30 && played.say(&block) {
                sent += block.len();
            }
            ended.send(sent).unwrap();
        });
        let gateway = gateway(&[&script.url()]);
        let before = gateway.resident_kib();
        let answer = gateway.get("/in", &[]);
        assert_eq!((answer.status, gateway.why(&answer).as_str()), (status, reason), "{flood}");
        assert!(within_seconds(&end) < 1 << 30, "the gateway read it all");
        let after = gateway.resident_kib();
        assert!(after < before + 16 * 1024, "{before} KiB grew to {after} KiB");
    }
}

/// E8: a kept connection that the upstream closed meanwhile costs no request, not even one that may not be repeated.
#[test]
fn a_post_after_the_upstream_closed_goes_to_a_new_connection() {
    let (closed, close) = sync_channel(1);
    let posts = Arc::new(AtomicUsize::new(0));
    let counted = posts.clone();
    let script = Script::start(move |mut played| {
        if played.head().is_some() {
            counted.fetch_add(1, Ordering::SeqCst);
            assert_eq!(played.body(2), "{}");
            played.say(OK);
        }
        drop(played);
        closed.send(()).unwrap();
    });
    let gateway = gateway(&[&script.url()]);
    let mut client = Client::connect(gateway.address);
    for round in 1..=50 {
        client.send("POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
        assert_eq!(client.receive().status, 200, "round {round}");
        within_seconds(&close);
        assert_eq!(posts.load(Ordering::SeqCst), round);
    }
}

/// N15: an upstream that is stopped and started again is found again, and is a 502 for as long as it is away.
#[test]
fn an_upstream_that_comes_back_is_found() {
    let first = Upstream::start();
    let address = first.address;
    let gateway = gateway(&[&first.url()]);
    first.reply(Reply::BytesThenClose(OK.into()));
    assert_eq!(gateway.get("/in", &[]).status, 200);
    first.stop();
    let refused = gateway.get("/in", &[]);
    assert_eq!((refused.status, gateway.why(&refused).as_str()), (502, "failed forward upstream_unreachable"));
    let _second = Upstream::at(address);
    assert_eq!(gateway.get("/in", &[]).status, 200);
}

/// N15: what can be served by another server is.
#[test]
fn an_absent_server_is_passed_over() {
    let upstream = Upstream::start();
    let gateway = gateway(&["http://127.0.0.1:1", &upstream.url()]);
    for _ in 0..10 {
        assert_eq!(gateway.get("/in", &[]).status, 200);
    }
    assert_eq!(upstream.count(), 10);
}

/// N15: a server that takes no connection is a 504 after the connect timeout.
#[test]
fn a_full_backlog_is_a_connect_timeout() {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(one) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(one);
        assert!(queued.len() < 10, "the backlog has no end");
    }
    let gateway = gateway(&[&format!("http://{address}")]);
    let answer = gateway.get("/in", &[]);
    assert_eq!((answer.status, gateway.why(&answer).as_str()), (504, "failed forward upstream_connect_timeout"));
}

/// C14: what an upstream sends after the end of its answer reaches nobody.
#[test]
fn bytes_after_an_answer_reach_nobody() {
    let evil = format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    let script = Script::start(move |mut played| while played.head().is_some() && played.say(&evil) {});
    let gateway = gateway(&[&script.url()]);
    let mut client = Client::connect(gateway.address);
    for _ in 0..30 {
        client.send(GET);
        let answer = client.receive();
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    }
}

/// A client that leaves takes its upstream connection with it, and the log says so.
#[test]
fn a_client_that_leaves_frees_its_upstream() {
    let (asked, ask) = sync_channel(1);
    let (left, leave) = sync_channel(1);
    let script = Script::start(move |mut played: Played| {
        played.head();
        asked.send(()).unwrap();
        left.send(played.rest()).unwrap();
    });
    let gateway = gateway(&[&script.url()]);
    let mut client = Client::connect(gateway.address);
    client.send(GET);
    within_seconds(&ask);
    drop(client);
    assert_eq!(within_seconds(&leave), Some(String::new()));
    until("the log line", || gateway.log().into_iter().find(|line| line["status"] == 0 && line["path"] == "/in"));
    assert!(gateway.admin("GET /metrics").body.lines().any(|line| line == "gateward_requests_in_flight 0.0"));
}

/// C11 N1: half a request is never a whole one for the upstream, whether its client leaves or falls silent.
#[test]
fn half_a_request_is_never_whole_for_the_upstream() {
    let (seen, see) = sync_channel(1);
    let script = Script::start(move |mut played: Played| {
        while let Some(head) = played.head() {
            let rest = played.rest();
            seen.send((head, rest)).unwrap();
        }
    });
    let gateway = gateway(&[&script.url()]);
    for (framing, sent, forwarded) in [
        ("Content-Length: 100", "0123456789", "0123456789"),
        ("Transfer-Encoding: chunked", "a\r\n0123456789\r\n", "A\r\n0123456789\r\n"),
    ] {
        for leaves in [true, false] {
            let mut client = Client::connect(gateway.address);
            client.send(format!("POST /in HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{sent}"));
            if leaves {
                client.end();
            } else {
                let answer = client.receive();
                assert_eq!((answer.status, gateway.why(&answer).as_str()), (408, "refused listener body_timeout"));
            }
            let (head, rest) = within_seconds(&see);
            assert!(head.to_lowercase().contains(&framing.to_lowercase()), "{head}");
            assert_eq!(rest.as_deref(), Some(forwarded), "{framing}, the client leaves: {leaves}");
        }
    }
}
