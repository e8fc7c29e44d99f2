//! Forwarding over real sockets: the upstream is a test that reads and writes bytes; where a client matters it is one
//! too, with the listener between them.

mod relay;

use std::cell::RefCell;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::body::{Done, Ending};
use crate::config::report::{Located, Place};
use crate::config::value::{Scheme, UpstreamUrl};
use crate::config::{self, Balance, UpstreamLimits, UpstreamRetries, UpstreamTimeouts, UpstreamTls};
use crate::listener::wire::{Wire, field, on_a_worker};
use crate::listener::{ConnectionInfo, Fault, Handler, Live, Settings, bind, serve};

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(60);

async fn socket() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn upstream(urls: &[(&str, u16, &str)], adjust: impl FnOnce(&mut UpstreamTimeouts)) -> Upstream {
    let mut timeouts = UpstreamTimeouts { connect: LONG, response: LONG, idle: LONG, ..UpstreamTimeouts::default() };
    adjust(&mut timeouts);
    let url = |(host, port, base): &(&str, u16, &str)| UpstreamUrl {
        scheme: Scheme::Http,
        host: (*host).to_owned(),
        port: *port,
        base_path: (*base).to_owned(),
    };
    let config = config::Upstream {
        name: Located { value: "test".to_owned(), place: Place::default() },
        servers: urls.iter().map(url).collect(),
        balance: Balance::RoundRobin,
        timeouts,
        tls: UpstreamTls::default(),
        limits: UpstreamLimits::default(),
        retries: UpstreamRetries::default(),
        place: Place::default(),
    };
    Upstream::new(Fleet::new(config, None))
}

fn request(method: &str, target: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri(target).header(HOST, "api.test").body(body).unwrap()
}

fn get(target: &str) -> Request<Body> {
    request("GET", target, Body::empty())
}

async fn text(response: Result<Response<Body>, Rejection>) -> String {
    String::from_utf8(response.unwrap().into_body().collect(1 << 20).await.unwrap().to_vec()).unwrap()
}

fn code(result: Result<Response<Body>, Rejection>) -> &'static str {
    match result {
        Ok(response) => panic!("answered {}", response.status()),
        Err(rejection) => rejection.code(),
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_connection_is_used_again_and_its_requests_are_as_asked() {
    on_a_worker(async {
        let (listener, port) = socket().await;
        let upstream = upstream(&[("127.0.0.1", port, "")], |_| {});
        let script = async {
            let mut wire = Wire::accept(&listener).await;
            let mut heads = Vec::new();
            for _ in 0..2 {
                heads.push(wire.read_head().await);
                wire.write(OK).await;
            }
            heads
        };
        let client = async {
            assert_eq!(text(upstream.send(get("/a?b=c"), LONG).await).await, "ok");
            assert_eq!(upstream.servers[0].idle_connections(), 1);
            assert_eq!(text(upstream.send(get("http://other.test/x"), LONG).await).await, "ok");
        };
        let (heads, ()) = tokio::join!(script, client);
        assert_eq!(heads[0], "GET /a?b=c HTTP/1.1\r\nhost: api.test\r\n\r\n");
        assert_eq!(heads[1], "GET /x HTTP/1.1\r\nhost: api.test\r\n\r\n");
    });
}

#[test]
fn the_base_path_and_a_missing_host_are_the_servers_own() {
    on_a_worker(async {
        let (listener, port) = socket().await;
        let upstream = upstream(&[("localhost", port, "/base")], |_| {});
        let script = async {
            let mut wire = Wire::accept(&listener).await;
            let head = wire.read_head().await;
            wire.write(OK).await;
            head
        };
        let mut bare = get("/a/b?c");
        bare.headers_mut().clear();
        let (head, body) = tokio::join!(script, async { text(upstream.send(bare, LONG).await).await });
        assert_eq!(head, format!("GET /base/a/b?c HTTP/1.1\r\nhost: localhost:{port}\r\n\r\n"));
        assert_eq!(body, "ok");
    });
}

#[test]
fn framing_follows_the_body_whatever_the_headers_say() {
    on_a_worker(async {
        let (listener, port) = socket().await;
        let upstream = upstream(&[("127.0.0.1", port, "")], |_| {});
        for (method, lied, body, sent) in [
            ("GET", None, "", "\r\n"),
            ("GET", Some("0"), "", "content-length: 0\r\n\r\n"),
            ("POST", None, "", "content-length: 0\r\n\r\n"),
            ("DELETE", Some("5"), "", "content-length: 0\r\n\r\n"),
            ("DELETE", Some("5"), "abc", "content-length: 3\r\n\r\nabc"),
            ("GET", None, "abc", "content-length: 3\r\n\r\nabc"),
        ] {
            let mut request = request(method, "/", Body::full(Bytes::from_static(body.as_bytes())));
            if let Some(lied) = lied {
                request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static(lied));
                request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("gzip"));
            }
            let script = async {
                let mut wire = Wire::accept(&listener).await;
                let end = if sent == "\r\n" { "\r\n\r\n" } else { sent };
                let seen = wire.read_to(end).await;
                wire.write("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
                seen
            };
            let (seen, response) = tokio::join!(script, upstream.send(request, LONG));
            assert_eq!(seen, format!("{method} / HTTP/1.1\r\nhost: api.test\r\n{sent}"));
            assert_eq!(response.unwrap().status(), StatusCode::NO_CONTENT);
        }
    });
}

#[test]
fn a_kept_connection_that_was_closed_is_replaced() {
    on_a_worker(async {
        let (listener, port) = socket().await;
        let upstream = upstream(&[("127.0.0.1", port, "")], |_| {});
        let first = async {
            let mut wire = Wire::accept(&listener).await;
            wire.read_head().await;
            wire.write(OK).await;
        };
        tokio::join!(first, async { assert_eq!(text(upstream.send(get("/1"), LONG).await).await, "ok") });
        // The close arrives before anything is sent: even a POST is safe on a new connection.
        let second = async {
            let mut wire = Wire::accept(&listener).await;
            let seen = wire.read_to("abc").await;
            wire.write(OK).await;
            seen
        };
        let post = request("POST", "/2", Body::full("abc"));
        let (seen, body) = tokio::join!(second, async { text(upstream.send(post, LONG).await).await });
        assert_eq!((seen.lines().next().unwrap(), body.as_str()), ("POST /2 HTTP/1.1", "ok"));
    });
}

/// Opens a connection, answers once, takes a second request on it and closes without an answer; then offers a new one.
async fn closes_on_the_second(listener: &TcpListener) -> bool {
    let mut wire = Wire::accept(listener).await;
    wire.read_head().await;
    wire.write(OK).await;
    wire.read_head().await;
    drop(wire);
    let mut again = tokio::time::timeout(SHORT, Wire::accept(listener)).await;
    if let Ok(wire) = &mut again {
        wire.read_head().await;
        wire.write(OK).await;
    }
    again.is_ok()
}

#[test]
fn a_request_that_a_kept_connection_swallowed_is_repeated_only_when_that_is_safe() {
    on_a_worker(async {
        for (method, body, repeated) in [("GET", "", true), ("DELETE", "", true), ("POST", "", false), ("PUT", "abc", false)] {
            let (listener, port) = socket().await;
            let upstream = upstream(&[("127.0.0.1", port, "")], |_| {});
            let client = async {
                assert_eq!(text(upstream.send(get("/1"), LONG).await).await, "ok");
                let second = request(method, "/2", Body::full(body));
                match upstream.send(second, LONG).await {
                    Ok(response) => text(Ok(response)).await,
                    Err(rejection) => rejection.code().to_owned(),
                }
            };
            let (again, outcome) = tokio::join!(closes_on_the_second(&listener), client);
            assert_eq!((again, outcome.as_str()), (repeated, if repeated { "ok" } else { "upstream_broken" }), "{method}");
        }
    });
}

#[test]
fn answers_that_can_be_framed_in_two_ways_are_broken_and_their_connection_is_not_kept() {
    on_a_worker(async {
        for answer in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok",
            "HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
            "",
        ] {
            let (listener, port) = socket().await;
            let upstream = upstream(&[("127.0.0.1", port, "")], |_| {});
            let script = async {
                let mut wire = Wire::accept(&listener).await;
                wire.read_head().await;
                wire.write(answer).await;
            };
            let ((), result) = tokio::join!(script, upstream.send(get("/"), LONG));
            assert_eq!(code(result), "upstream_broken", "{answer:?}");
            assert_eq!(upstream.servers[0].idle_connections(), 0);
        }
    });
}

#[test]
fn an_endless_head_is_broken_and_an_endless_row_of_interim_answers_times_out() {
    on_a_worker(async {
        for (piece, expected) in
            [("x: yyyyyyyy\r\n", "upstream_broken"), ("HTTP/1.1 103 Early Hints\r\n\r\n", "upstream_timeout")]
        {
            let (listener, port) = socket().await;
            let upstream = upstream(&[("127.0.0.1", port, "")], |_| {});
            let script = async {
                let mut wire = Wire::accept(&listener).await;
                wire.read_head().await;
                if piece.starts_with('x') {
                    wire.write("HTTP/1.1 200 OK\r\n").await;
                }
                let flood = piece.repeat(1000);
                while tokio::io::AsyncWriteExt::write_all(&mut wire.socket, flood.as_bytes()).await.is_ok() {}
            };
            let ((), result) = tokio::join!(script, upstream.send(get("/"), SHORT));
            assert_eq!(code(result), expected);
        }
    });
}

#[test]
fn bytes_after_an_answer_reach_nobody() {
    on_a_worker(async {
        let (listener, port) = socket().await;
        let upstream = upstream(&[("127.0.0.1", port, "")], |_| {});
        let script = async {
            let mut first = Wire::accept(&listener).await;
            first.read_head().await;
            first.write(format!("{OK}HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother")).await;
            let mut second = Wire::accept(&listener).await;
            second.read_head().await;
            second.write(OK).await;
        };
        let client = async {
            assert_eq!(text(upstream.send(get("/1"), LONG).await).await, "ok");
            assert_eq!(text(upstream.send(get("/2"), LONG).await).await, "ok");
        };
        tokio::join!(script, client);
    });
}

#[test]
fn an_upstream_that_does_not_answer_times_out() {
    on_a_worker(async {
        let (listener, port) = socket().await;
        let upstream = upstream(&[("127.0.0.1", port, "")], |_| {});
        let script = async {
            let mut wire = Wire::accept(&listener).await;
            wire.read_head().await;
            // Its connection is closed: the answer, should it come, is nobody's.
            wire.read_rest().await
        };
        let (rest, result) = tokio::join!(script, upstream.send(get("/"), SHORT));
        assert_eq!((rest.as_str(), code(result)), ("", "upstream_timeout"));
    });
}

#[test]
fn an_upstream_that_does_not_take_the_body_times_out() {
    on_a_worker(async {
        let (listener, port) = socket().await;
        let upstream = upstream(&[("127.0.0.1", port, "")], |_| {});
        let body = Body::full(vec![b'x'; 64 << 20]);
        let (wire, result) = tokio::join!(Wire::accept(&listener), upstream.send(request("POST", "/", body), SHORT));
        assert_eq!(code(result), "upstream_timeout");
        drop(wire);
    });
}

#[test]
fn a_server_that_cannot_be_reached_is_passed_over() {
    on_a_worker(async {
        let (gone, gone_port) = socket().await;
        drop(gone);
        let alone = upstream(&[("127.0.0.1", gone_port, "")], |_| {});
        assert_eq!(code(alone.send(get("/"), LONG).await), "upstream_unreachable");

        let (listener, port) = socket().await;
        let pair = upstream(&[("127.0.0.1", gone_port, ""), ("127.0.0.1", port, "/b")], |_| {});
        let script = async {
            let mut wire = Wire::accept(&listener).await;
            for _ in 0..4 {
                wire.read_head().await;
                wire.write(OK).await;
            }
        };
        let client = async {
            for _ in 0..4 {
                assert_eq!(text(pair.send(get("/"), LONG).await).await, "ok");
            }
        };
        tokio::join!(script, client);
    });
}

#[test]
fn a_connect_that_is_not_taken_times_out() {
    on_a_worker(async {
        // A listener whose queue is full: the kernel drops further attempts.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut fillers = Vec::new();
        while let Ok(Ok(filler)) = tokio::time::timeout(SHORT, tokio::net::TcpStream::connect(address)).await {
            fillers.push(filler);
        }
        let upstream = upstream(&[("127.0.0.1", address.port(), "")], |timeouts| timeouts.connect = SHORT);
        assert_eq!(code(upstream.send(get("/"), LONG).await), "upstream_connect_timeout");
    });
}

#[test]
fn a_name_that_does_not_exist_is_unreachable() {
    on_a_worker(async {
        let upstream = upstream(&[("does-not-exist.invalid", 80, "")], |_| {});
        assert_eq!(code(upstream.send(get("/"), LONG).await), "upstream_unreachable");
    });
}

#[test]
fn idle_connections_are_closed_by_the_sweep() {
    on_a_worker(async {
        let (listener, port) = socket().await;
        let upstream = upstream(&[("127.0.0.1", port, "")], |timeouts| timeouts.idle = SHORT);
        let script = async {
            let mut wire = Wire::accept(&listener).await;
            wire.read_head().await;
            wire.write(OK).await;
            wire.read_rest().await
        };
        let (rest, body) = tokio::join!(script, async { text(upstream.send(get("/"), LONG).await).await });
        assert_eq!((rest.as_str(), body.as_str()), ("", "ok"));
        assert_eq!(upstream.servers[0].idle_connections(), 0);
    });
}
