//! The end under load, readers that stand still or are gone, and too few connections or files.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::{Client, Gateway, Piped, Reply, Upstream, until};

fn api(name: &str, host: &str, upstream: &Upstream) -> String {
    format!(
        "[[api]]\nname = \"{name}\"\nhosts = [\"{host}\"]\nupstream = \"{}\"\ncontract = \"native\"\nendpoints = \"none\"\n\
         [[api.route]]\nname = \"in\"\npath = \"/in\"\npublic = true\n",
        upstream.url()
    )
}

/// N8: SIGTERM while keep-alive clients send without a pause and slow answers are under way fails no request.
#[test]
fn sigterm_under_load_fails_no_request() {
    let (fast, slow) = (Upstream::start(), Upstream::start());
    slow.reply(Reply::Slow(Duration::from_secs(2)));
    let mut gateway = Gateway::start(&(api("fast", "fast.test", &fast) + &api("slow", "slow.test", &slow)));
    let address = gateway.address;
    let ask = |client: &mut Client, host: &str| client.try_ask(&format!("GET /in HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let answers = AtomicUsize::new(0);
    thread::scope(|scope| {
        let steady: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(address);
                    loop {
                        let answer = ask(&mut client, "fast.test").expect("no request fails");
                        assert_eq!((answer.status, answer.body.as_str()), (200, "{\"ok\":true}"));
                        answers.fetch_add(1, Ordering::SeqCst);
                        if answer.header("connection") == Some("close") {
                            return client.is_closed();
                        }
                    }
                })
            })
            .collect();
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| ask(&mut Client::connect(address), "slow.test"))).collect();
        until("load", || (slow.count() == 4 && answers.load(Ordering::SeqCst) > 200).then_some(()));
        gateway.signal("TERM");
        until("readiness to fail", || gateway.try_admin("GET /readyz").filter(|answer| answer.status == 503));
        for client in steady {
            assert!(client.join().unwrap(), "the last answer said close, and it was closed");
        }
        for client in waiting {
            assert_eq!(client.join().unwrap().map(|answer| answer.status), Some(200));
        }
    });
    assert_eq!(gateway.wait(), Some(0));
    assert!(gateway.stderr().contains("every request was finished"), "{}", gateway.stderr());
    assert_eq!(fast.count(), answers.load(Ordering::SeqCst));
}

fn dropped_lines(gateway: &Gateway) -> u64 {
    let metrics = gateway.admin("GET /metrics").body;
    let line = metrics.lines().find(|line| line.starts_with("gateward_access_log_dropped_total ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// N16: the reader of both logs has gone: traffic goes on, what was lost is counted, and the end is a good one.
#[test]
fn a_log_without_a_reader_stops_no_traffic() {
    let upstream = Upstream::start();
    let gateway = Gateway::prepare("", &api("a", "a.test", &upstream));
    let mut process = Piped::start(&gateway);
    drop((process.child.stdout.take(), process.child.stderr.take()));
    for _ in 0..50 {
        assert_eq!(gateway.get("/in", &["X-Forwarded-For: 192.0.2.1"]).status, 404, "api.test is nobody's host");
        assert_eq!(gateway.raw("GET /in HTTP/1.1\r\nHost: a.test\r\n\r\n").status, 200);
    }
    until("the count", || (dropped_lines(&gateway) == 100).then_some(()));
    assert_eq!(process.terminate(), Some(0));
}

/// N16: a log whose reader stands still does not hold up the end either.
#[test]
fn a_blocked_log_does_not_hold_up_the_end() {
    let upstream = Upstream::start();
    let gateway = Gateway::prepare("", &api("a", "a.test", &upstream));
    let mut process = Piped::start(&gateway);
    let mut client = Client::connect(gateway.address);
    // Each line is longer than its path: more than a pipe holds, and less than the queue.
    let path = "x".repeat(1000);
    for _ in 0..300 {
        client.send(format!("GET /{path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        assert_eq!(client.receive().status, 401);
    }
    assert_eq!(process.terminate(), Some(0));
}

/// N1: whoever asks for much and reads nothing is ended, and others are served meanwhile.
#[test]
fn a_reader_that_stands_still_is_ended() {
    const LENGTH: usize = 16 << 20;
    const CROWD: usize = 12;
    let upstream = Upstream::start();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").into_bytes();
    upstream.reply(Reply::Bytes([head, vec![b'x'; LENGTH]].concat()));
    let gateway = Gateway::start_with("timeouts = { body_progress = \"400ms\" }", &api("a", "a.test", &upstream));
    let before = gateway.resident_kib();
    let mut crowd: Vec<Client> = (0..CROWD).map(|_| Client::connect(gateway.address)).collect();
    crowd.iter_mut().for_each(|client| client.send("GET /in HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    until("the crowd", || (upstream.count() == CROWD).then_some(()));
    assert_eq!(gateway.get("/nowhere", &[]).status, 404);
    let lines = until("the end of the crowd", || {
        let lines: Vec<_> = gateway.log().into_iter().filter(|line| line["path"] == "/in").collect();
        (lines.len() == CROWD).then_some(lines)
    });
    for line in lines {
        let sent = line["bytes_out"].as_u64().unwrap();
        assert!(sent < LENGTH as u64, "{line}");
    }
    for client in &mut crowd {
        assert!(client.receive().body.len() < LENGTH);
    }
    let after = gateway.resident_kib();
    assert!(after < before + 32 * 1024, "what is not read is not kept: {before} KiB grew to {after} KiB");
}

/// N2: above the cap connections are closed at once and said once; below it they are taken again.
#[test]
fn connections_above_the_cap_are_closed_at_once() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_with("limits = { connections = 8 }", &api("a", "a.test", &upstream));
    let ask = |client: &mut Client| client.try_ask("GET /in HTTP/1.1\r\nHost: a.test\r\n\r\n").map(|answer| answer.status);
    let mut held: Vec<Client> = (0..8).map(|_| Client::connect(gateway.address)).collect();
    for client in &mut held {
        assert_eq!(ask(client), Some(200));
    }
    for _ in 0..20 {
        assert!(Client::connect(gateway.address).is_closed());
    }
    for client in &mut held {
        assert_eq!(ask(client), Some(200), "who is in stays in");
    }
    let notes = |gateway: &Gateway| gateway.stderr().matches("all connections are taken").count();
    until("the note", || (notes(&gateway) > 0).then_some(()));
    drop(held);
    until("room", || ask(&mut Client::connect(gateway.address)).filter(|status| *status == 200));
    assert_eq!(notes(&gateway), 1);
}

fn serves(address: SocketAddr) -> bool {
    let Ok(mut socket) = TcpStream::connect(address) else { return false };
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let asked = socket.write_all(b"GET /in HTTP/1.1\r\nHost: a.test\r\n\r\n").is_ok();
    asked && socket.read(&mut [0; 16]).is_ok_and(|count| count > 0)
}

/// A worker that lives and waits for a file: it serves as soon as one is free.
fn cannot_accept(gateway: &Gateway) -> bool {
    gateway.stderr().contains("cannot accept connections")
}

/// N2: with too few files for a whole gateway the start fails with the reason; there is no half of one that calls
/// itself alive.
#[test]
fn too_few_files_for_a_start_are_said() {
    let upstream = Upstream::start();
    let mut reasons = Vec::new();
    for files in 8..40 {
        let mut gateway = Gateway::prepare("", &api("a", "a.test", &upstream)).limited(&format!("ulimit -n {files}"));
        gateway.spawn();
        let end = until("an end or a live worker", || match gateway.ended() {
            Some(code) => Some(Err(code)),
            None => (serves(gateway.address) || cannot_accept(&gateway)).then_some(Ok(())),
        });
        let said = gateway.stderr();
        match end {
            Ok(()) => break,
            Err(code) => assert!(code == Some(1) && said.contains("error: "), "{files} files: {code:?} {said}"),
        }
        reasons.push(said);
    }
    assert!(reasons.len() > 3 && reasons.len() < 32, "{reasons:?}");
    assert!(reasons.iter().any(|said| said.contains("a worker's runtime cannot be started: Too many open files")), "{reasons:?}");
}
