//! HTTP/2 between the gateway and an upstream.

use std::thread;

use http::Version;

use crate::support::{Client, Gateway, Modern};

const ROUTES: &str = "[[api.route]]\nname = \"in\"\npath = \"/in\"\npublic = true\nmax_body = \"1KiB\"\n\
    [[api.route]]\nname = \"hello\"\npath = \"/hello\"\npublic = true\n\
    [[api.route]]\nname = \"held\"\npath = \"/held\"\npublic = true\n";

fn gateway(upstream: &Modern) -> Gateway {
    let url = format!("h2c://{}/base", upstream.address);
    Gateway::start(&format!("[[api]]\nupstream = \"{url}\"\ncontract = \"native\"\n{ROUTES}"))
}

#[test]
fn a_request_has_the_form_of_http2() {
    let upstream = Modern::h2c(100);
    let gateway = gateway(&upstream);
    let chunked = "POST /in?a=b HTTP/1.1\r\nHost: api.test\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nX-One: 1\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    for _ in 0..3 {
        let answer = gateway.raw(chunked);
        assert_eq!((answer.status, answer.body.contains("got hi")), (200, true), "{answer:?}");
    }
    let asked = upstream.last();
    assert_eq!((asked.version, asked.uri.as_str(), asked.body.as_str()), (Version::HTTP_2, "http://api.test/base/in?a=b", "hi"));
    for absent in ["host", "transfer-encoding", "connection", "keep-alive"] {
        assert!(!asked.headers.contains_key(absent), "{absent} in {asked:?}");
    }
    assert_eq!((asked.headers["te"].as_bytes(), asked.headers["x-one"].as_bytes()), (&b"trailers"[..], &b"1"[..]));
    assert_eq!(upstream.connections(), 1);
}

/// The server's MAX_CONCURRENT_STREAMS is kept: what has no room on one connection has another.
#[test]
fn no_connection_carries_more_than_its_server_takes() {
    let upstream = Modern::h2c(2);
    let gateway = gateway(&upstream);
    // Says how many it takes.
    assert_eq!(gateway.get("/hello", &[]).status, 200);
    upstream.hold(6);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let asking: Vec<_> = (0..6).map(|_| scope.spawn(|| gateway.get("/held", &[]).status)).collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 6]);
    let asked = upstream.asked();
    let on = |connection| asked.iter().filter(|asked| asked.connection == connection && asked.uri.ends_with("/held")).count();
    let carried: Vec<usize> = (1..=upstream.connections()).map(on).collect();
    assert_eq!((carried.iter().sum::<usize>(), carried[0]), (6, 2), "{carried:?}");
    assert!(carried.iter().all(|count| (1..=2).contains(count)), "{carried:?}");
}

/// What the client does wrong is said to be the client's.
#[test]
fn a_body_that_is_too_large_is_refused_and_its_request_is_ended() {
    let upstream = Modern::h2c(100);
    let gateway = gateway(&upstream);
    let mut client = Client::connect(gateway.address);
    client.send("POST /in HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n");
    client.send("a".repeat(1024));
    client.send("\r\n1\r\na\r\n0\r\n\r\n");
    let answer = client.receive();
    assert_eq!((answer.status, gateway.why(&answer)), (413, "refused listener body_too_large".to_owned()));
    assert_eq!(gateway.get("/hello", &[]).status, 200);
}
