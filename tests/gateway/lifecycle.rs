//! Start, stop, and everything that may happen to a process in between.

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::support::{Client, Gateway, Reply, Upstream, until};

fn config(upstream: &Upstream) -> String {
    format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n", upstream.url())
}

/// N8: on SIGTERM requests in flight are finished, nothing new is taken, and the exit code is 0.
#[test]
fn sigterm_finishes_what_was_begun() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start(&config(&upstream));
    upstream.reply(Reply::Slow(Duration::from_millis(700)));
    let address = gateway.address;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                client.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
                client.receive().status
            })
        })
        .collect();
    until("the requests", || (upstream.count() == 8).then_some(()));
    gateway.signal("TERM");
    assert!(clients.into_iter().all(|client| client.join().unwrap() == 200));
    assert_eq!(gateway.wait(), Some(0));
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(gateway.stderr().contains("every request was finished"), "{}", gateway.stderr());
}

/// N8: a client that never ends is cut when the drain time is over.
#[test]
fn a_stuck_client_is_cut_when_the_drain_is_over() {
    let upstream = Upstream::start();
    upstream.reply(Reply::Silence);
    let mut gateway = Gateway::prepare("", &config(&upstream));
    let path = gateway.folder.path().join("gateway.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("drain_timeout = \"5s\"", "drain_timeout = \"500ms\"");
    std::fs::write(&path, text).unwrap();
    gateway.restart();
    let mut client = Client::connect(gateway.address);
    client.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request", || (upstream.count() == 1).then_some(()));
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
    assert!(gateway.stderr().contains("1 connections were cut"), "{}", gateway.stderr());
}

/// A port that someone else has is said to be theirs; they keep it.
#[test]
fn a_port_in_use_stops_the_start() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::prepare("", &config(&upstream));
    let theirs = TcpListener::bind(gateway.address).unwrap();
    let (code, said) = gateway.run_to_end();
    assert!(code == Some(1) && said.contains("another process has it"), "{code:?} {said}");
    assert_eq!(theirs.local_addr().unwrap(), gateway.address);
    drop(theirs);
    let _theirs = TcpListener::bind(gateway.admin).unwrap();
    let (code, said) = gateway.run_to_end();
    assert!(code == Some(1) && said.contains("`admin`"), "{code:?} {said}");
}

/// An empty realm is told how to make its first account, and one with accounts is not.
#[test]
fn an_empty_realm_is_told_how_to_begin() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start(&config(&upstream));
    let hint = "gateward user add admin --role admin --realm infracast --config gateway.toml";
    until("the hint", || gateway.stderr().contains(hint).then_some(()));
    gateway.add_user("root", "correct horse", &["admin"]);
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
    std::fs::remove_file(gateway.folder.path().join("stderr.log")).unwrap();
    gateway.restart();
    until("the start", || gateway.stderr().contains("listening on").then_some(()));
    assert!(!gateway.stderr().contains(hint));
}

/// N10: ten thousand requests leave nothing behind.
#[test]
fn memory_stays_flat() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_with("limits = { cold_verifications = \"100000 per 1s\" }", &config(&upstream));
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let mut client = Client::connect(gateway.address);
    let mut send = |count: usize| {
        for number in 0..count {
            client.send(format!(
                "GET /api/v1/tenants/t{number}/nodes HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer junk{number}\r\n\r\n"
            ));
            assert_eq!(client.receive().status, 401);
        }
    };
    send(6000);
    let warm = resident();
    send(10_000);
    assert!(resident() < warm + 8 * 1024, "{warm} KiB grew to {} KiB", resident());
}
