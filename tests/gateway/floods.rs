//! Clients that take their time, more connections than there are files, and a log that nobody reads.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Gateway, Piped, Upstream, pause_for, until};

const SERVED: &str = "GET /in HTTP/1.1\r\nHost: a.test\r\n\r\n";

fn api(upstream: &Upstream) -> String {
    format!(
        "[[api]]\nname = \"a\"\nhosts = [\"a.test\"]\nupstream = \"{}\"\ncontract = \"native\"\n\
         [[api.route]]\nname = \"in\"\npath = \"/in\"\npublic = true\n",
        upstream.url()
    )
}

/// Sends `first`, then every 50 ms the byte of `drip`, if there is one. What was told until the connection ended, and when
/// the first of that came, or the end.
#[expect(clippy::disallowed_methods, reason = "a test measures how long it was kept")]
fn dawdle(gateway: &Gateway, first: &str, drip: Option<u8>) -> (String, Duration) {
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let start = Instant::now();
    socket.write_all(first.as_bytes()).unwrap();
    let mut told = Vec::new();
    let mut answered = None;
    let mut buffer = [0; 4096];
    loop {
        assert!(start.elapsed() < Duration::from_secs(15), "nobody ends it: {}", told.escape_ascii());
        match socket.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => drip.map_or(Ok(()), |byte| socket.write_all(&[byte])),
            Ok(count) if count > 0 => {
                told.extend_from_slice(&buffer[..count]);
                answered.get_or_insert(start.elapsed());
                Ok(())
            }
            // Whoever still sends may find the connection reset.
            Ok(_) | Err(_) => break,
        }
        .unwrap_or_default();
    }
    (String::from_utf8(told).unwrap(), answered.unwrap_or_else(|| start.elapsed()))
}

/// N1: a head has its time from the first byte on, whatever dribbles in; then the connection is closed without a word.
#[test]
fn a_head_that_dribbles_is_ended_at_the_header_timeout() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_with("timeouts = { header = \"600ms\", idle = \"20s\" }", &api(&upstream));
    let mut other = Client::connect(gateway.address);
    thread::scope(|scope| {
        let slow: Vec<_> = (0..40)
            .map(|_| scope.spawn(|| dawdle(&gateway, "GET /in HTTP/1.1\r\nHost: a.test\r\nX-Slow: ", Some(b'x'))))
            .collect();
        while slow.iter().any(|client| !client.is_finished()) {
            other.send(SERVED);
            assert_eq!(other.receive().status, 200, "others are served meanwhile");
        }
        for client in slow {
            let (told, took) = client.join().unwrap();
            assert_eq!(told, "");
            assert!((600..4000).contains(&took.as_millis()), "{took:?}");
        }
    });
    upstream.forget();
    assert_eq!(gateway.raw(SERVED).status, 200);
    assert_eq!(upstream.count(), 1, "no slow head became a request");
}

/// N1: a body that the gateway reads itself has its time as a whole; one that it forwards, for each byte. Both end with
/// the API's 408.
#[test]
fn a_body_that_dribbles_or_stands_still_is_a_408() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_with("timeouts = { body_progress = \"700ms\" }", &api(&upstream));
    let head = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
    };
    let mut other = Client::connect(gateway.address);
    thread::scope(|scope| {
        let slow = [("/auth/login", Some(b' ')), ("/in", None)].map(|(path, drip)| {
            let (gateway, first) = (&gateway, head(path));
            scope.spawn(move || dawdle(gateway, &first, drip))
        });
        while slow.iter().any(|client| !client.is_finished()) {
            other.send(SERVED);
            assert_eq!(other.receive().status, 200, "others are served meanwhile");
        }
        for client in slow {
            let (told, took) = client.join().unwrap();
            assert!(told.starts_with("HTTP/1.1 408 ") && told.contains("\"code\":\"request_timeout\""), "{told}");
            assert!((700..4000).contains(&took.as_millis()), "{took:?}");
        }
    });
    let ends = || gateway.log().into_iter().filter(|line| line["reason"] == "body_timeout" && line["status"] == 408).count();
    until("the lines", || (ends() == 2).then_some(()));
}

/// N2: with no file left the accept loop lives and says so once; whoever is in is served on, and when files are free
/// again newcomers are too.
#[test]
fn the_end_of_files_is_survived() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::prepare("limits = { connections = 1000 }", &api(&upstream)).limited("ulimit -n 60");
    gateway.restart();
    let mut held = Client::connect(gateway.address);
    let mut ask = || {
        held.send(SERVED);
        held.receive().status
    };
    assert_eq!(ask(), 200);
    let notes = |gateway: &Gateway| gateway.stderr().matches("cannot accept connections; trying again").count();
    for _ in 0..3 {
        let crowd: Vec<TcpStream> = (0..100).filter_map(|_| TcpStream::connect(gateway.address).ok()).collect();
        until("the note", || (notes(&gateway) == 1).then_some(()));
        assert!(gateway.stderr().contains("Too many open files"), "{}", gateway.stderr());
        // More than one of its pauses: the loop does not repeat itself in the log.
        pause_for(Duration::from_millis(200));
        for _ in 0..20 {
            assert_eq!(ask(), 200, "who is in is served on the connection to the upstream that is kept");
        }
        assert_eq!(notes(&gateway), 1);
        drop(crowd);
        assert_eq!(gateway.raw(SERVED).status, 200);
    }
}

/// N16: nobody reads the access log, and traffic goes on; each line was either kept until somebody read, or counted.
#[test]
fn a_blocked_log_blocks_no_traffic_and_loses_no_count() {
    const REQUESTS: usize = 12_000;
    let upstream = Upstream::start();
    let gateway = Gateway::prepare("", &api(&upstream));
    let mut process = Piped::start(&gateway);
    let mut client = Client::connect(gateway.address);
    for _ in 0..REQUESTS {
        client.send("GET /nowhere HTTP/1.1\r\nHost: b.test\r\n\r\n");
        assert_eq!(client.receive().status, 404);
    }
    let metrics = gateway.admin("GET /metrics").body;
    let dropped = metrics.lines().find_map(|line| line.strip_prefix("gateward_access_log_dropped_total "));
    let dropped: usize = dropped.unwrap().parse().unwrap();
    assert!(dropped > 0 && dropped < REQUESTS, "{dropped}");
    let out = process.child.stdout.take().unwrap();
    let reader = thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).count());
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(reader.join().unwrap() + dropped, REQUESTS);
}
