//! HTTP/2 from clients, by prior knowledge: what the upstream sees, what the client gets, and how a connection ends.

use std::process::Command;
use std::time::Duration;

use http::{HeaderMap, Request};

use crate::support::http2::{END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PREFACE, asks, block, frame, over_http2};
use crate::support::{Authority, Gateway, Reply, Upstream, until};

pub fn api(upstream: &Upstream) -> String {
    format!(
        "[[api]]\nname = \"a\"\nhosts = [\"a.test\", \"api.test\"]\nupstream = \"{}\"\ncontract = \"native\"\n\
         [[api.route]]\nname = \"in\"\npath = \"/in\"\npublic = true\n\
         [[api.route]]\nname = \"below\"\npath = \"/in/{{**rest}}\"\npublic = true\n\
         [[api.route]]\nname = \"closed\"\npath = \"/closed\"\naccept = [\"jwt\"]\n",
        upstream.url()
    )
}

pub fn gateway(listener: &str, upstream: &Upstream) -> Gateway {
    Gateway::start_with(&format!("http2 = true\n{listener}"), &api(upstream))
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.test{path}")).body(()).unwrap()
}

#[test]
fn a_request_by_http2_is_one_by_http1_for_the_upstream() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    let request = Request::post("http://a.test/in/x?y=z").header("x-one", "1").header("cookie", "a=1").header("cookie", "b=2");
    let got = over_http2(gateway.address, request.body(()).unwrap(), "hello", None).unwrap();
    assert_eq!((got.status(), &got.body[..]), (200, &b"{\"ok\":true}"[..]));
    let seen = upstream.messages().pop().unwrap();
    assert_eq!(seen.start, "POST /in/x?y=z HTTP/1.1");
    assert_eq!((seen.values("host"), seen.values("cookie"), seen.values("x-one")), (vec!["a.test"], vec!["a=1; b=2"], vec!["1"]));
    assert_eq!(seen.body, b"hello");
    let id = got.header("x-request-id").unwrap();
    let line = until("the log line", || gateway.log().into_iter().find(|line| line["request_id"] == id));
    assert_eq!((&line["protocol"], &line["bytes_in"], &line["bytes_out"]), (&"HTTP/2.0".into(), &5.into(), &11.into()));

    // HTTP/1.1 is spoken beside it, on the same listener.
    let plain = gateway.get("/in", &[]);
    assert_eq!((plain.status, &gateway.logged(&plain)["protocol"]), (200, &"HTTP/1.1".into()));
}

#[test]
fn a_refusal_by_http2_is_the_same_as_by_http1() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    for (path, status) in [("/closed", 401), ("/nowhere", 401), ("/in/%2e%2e/closed", 400)] {
        let got = over_http2(gateway.address, get(path), "", None).unwrap();
        let plain = gateway.get(path, &[]);
        assert_eq!((got.status(), plain.status), (status, status), "{path}");
        assert_eq!(got.header("content-type"), plain.header("content-type"));
        assert_eq!(got.header("www-authenticate"), plain.header("www-authenticate"));
        assert_eq!(got.body.len(), plain.body.len(), "{path}");
    }
    assert_eq!(upstream.count(), 0);
}

/// The answer to a HEAD has a length and no body, also where the gateway gives it.
#[test]
fn a_head_request_is_answered_without_a_body() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    upstream.reply(Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n".to_vec()));
    let length = gateway.get("/closed", &[]).body.len().to_string();
    for (path, status, length) in [("/in", 200, "11"), ("/closed", 401, length.as_str())] {
        let got = over_http2(gateway.address, Request::head(format!("http://a.test{path}")).body(()).unwrap(), "", None).unwrap();
        assert_eq!((got.status(), got.header("content-length"), &got.body[..]), (status, Some(length), &b""[..]), "{path}");
    }
}

/// A real client.
#[test]
fn curl_speaks_http2_with_the_gateway() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    let url = format!("http://{}/in", gateway.address);
    let curl = Command::new("curl")
        .args(["-sS", "--http2-prior-knowledge", "-H", "Host: a.test", "-w", " %{http_version} %{http_code} %{num_connects}\n"])
        .args([&url, "-d", "some=form"])
        .output()
        .unwrap();
    let said = String::from_utf8(curl.stdout).unwrap();
    assert_eq!(said, "{\"ok\":true} 2 200 1\n", "{}", String::from_utf8_lossy(&curl.stderr));
    assert_eq!(upstream.messages().iter().map(|seen| &seen.body[..]).collect::<Vec<_>>(), [b"some=form"]);
}

/// C16: without `http2` the preface is no request.
#[test]
fn a_listener_without_http2_refuses_its_preface() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&api(&upstream));
    assert_eq!(gateway.raw([PREFACE, &frame(4, 0, 0, &[])].concat()).status, 400);
    until("the log line", || (gateway.log().len() == 1).then_some(()));
    assert_eq!(upstream.count(), 0);
}

/// N8: at the end of the gateway a client of HTTP/2 is told so, what it has asked is answered, and it is let go.
#[test]
fn requests_in_flight_end_and_the_client_is_told_to_go() {
    let upstream = Upstream::start();
    let mut gateway = gateway("", &upstream);
    upstream.reply(Reply::Slow(Duration::from_millis(800)));
    let (mut busy, mut idle) = (Frames::connect(gateway.address), Frames::connect(gateway.address));
    idle.settle();
    busy.ask(1, &asks("GET", "/in"));
    until("the request", || (upstream.count() == 1).then_some(()));
    gateway.signal("TERM");
    assert_eq!(idle.goaway(), Some(0));
    let frames = busy.until(|frame| frame.kind == GOAWAY);
    assert_eq!(frames.last().unwrap().error(), Some(0));
    assert_eq!(busy.end_of_answer(1), None);
    assert_eq!(gateway.wait(), Some(0));
    assert!(gateway.stderr().contains("every request was finished"), "{}", gateway.stderr());
}

/// A connection that asks for nothing is told to go after the idle time, whatever else it says; one whose header block
/// does not end has the header time.
#[test]
fn an_idle_connection_and_a_head_that_does_not_end_are_closed() {
    let upstream = Upstream::start();
    let gateway = gateway("timeouts = { idle = \"700ms\", header = \"300ms\" }", &upstream);
    let mut idle = Frames::connect(gateway.address);
    idle.settle();
    idle.ask(1, &asks("GET", "/in"));
    assert_eq!((idle.end_of(1), idle.goaway()), (None, Some(0)));

    let mut slow = Frames::connect(gateway.address);
    slow.send(&frame(HEADERS, END_STREAM, 1, &block(&asks("GET", "/in"))));
    assert_eq!(slow.goaway(), None);
    let mut torn = Frames::connect(gateway.address);
    torn.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&asks("GET", "/in")))[..20]);
    assert_eq!(torn.goaway(), None);
    assert_eq!(upstream.count(), 1);
}

/// E5: CONNECT asks for a tunnel, with bytes for it or without.
#[test]
fn connect_is_refused_before_anyone_is_contacted() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    let mut client = Frames::connect(gateway.address);
    client.begin(1, &[(":method", "CONNECT"), (":authority", "a.test")]);
    client.try_send(&frame(0, 0, 1, b"GET /in HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    let _ = client.end_of(1);
    let line = until("the log line", || gateway.log().pop());
    assert_eq!((&line["status"], &line["reason"]), (&405.into(), &"connect_refused".into()));
    upstream.wait_until_left();
    assert_eq!(upstream.count(), 0);
}

/// What no upstream may merge is no trailer of ours. B7, D10.
#[test]
fn trailers_of_a_request_do_not_reach_an_upstream_that_speaks_http1() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-auth-user", "admin".parse().unwrap());
    trailers.insert("x-checksum", "abc".parse().unwrap());
    let request = Request::post("http://a.test/in").header("trailer", "x-checksum").body(()).unwrap();
    let got = over_http2(gateway.address, request, "hello", Some(trailers)).unwrap();
    assert_eq!(got.status(), 200);
    let seen = upstream.messages().pop().unwrap();
    assert_eq!((seen.body, seen.trailers), (b"hello".to_vec(), vec![]));
}

/// Of an answer's trailers those go on that nobody acts on, to a client that takes them; B7.
#[test]
fn trailers_of_an_answer_go_on_where_they_are_taken() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    let answer = "HTTP/1.1 200 OK\r\nTrailer: grpc-status, x-auth-user\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\
                  grpc-status: 0\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\nx-request-id: 1\r\n\r\n";
    upstream.reply(Reply::Bytes(answer.into()));
    for (te, trailers) in [(true, vec!["grpc-status: 0"]), (false, vec![])] {
        let mut request = get("/in");
        if te {
            request.headers_mut().insert("te", "trailers".parse().unwrap());
        }
        let got = over_http2(gateway.address, request, "", None).unwrap();
        let found: Vec<String> =
            got.trailers.iter().flatten().map(|(name, value)| format!("{}: {}", name, value.to_str().unwrap())).collect();
        assert_eq!((&got.body[..], found), (&b"hello"[..], trailers.iter().map(|line| (*line).to_owned()).collect()));
        assert_eq!(upstream.messages().pop().unwrap().values("te"), if te { vec!["trailers"] } else { vec![] });
    }
    for (lines, trailers) in [(&["TE: trailers", "Connection: te"][..], "grpc-status: 0\r\n"), (&[], "")] {
        let plain = gateway.get("/in", lines);
        assert!(plain.body.ends_with(&format!("\r\n0\r\n{trailers}\r\n")), "{}", plain.body);
        assert_eq!(plain.header("trailer").is_some(), !trailers.is_empty());
    }
    assert!(until("the log", || (gateway.log().len() == 4).then(|| gateway.log())).iter().all(|line| line["bytes_out"] == 5));
}

/// A client of gRPC is refused in its own words: status 200, the code in a field, no body.
#[test]
fn a_refusal_to_grpc_is_a_grpc_status() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    upstream.stop();
    for (path, kind, status, code, message) in [
        ("/closed", "application/grpc", 200, Some("16"), Some("Unauthorized")),
        ("/closed", "application/grpc+proto", 200, Some("16"), Some("Unauthorized")),
        ("/in", "application/grpc;x=y", 200, Some("14"), Some("Bad Gateway")),
        ("/in//x", "application/grpc", 200, Some("3"), Some("Bad Request")),
        ("/in", "application/grpc", 200, Some("14"), Some("Bad Gateway")),
        ("/closed", "application/grpc-web", 401, None, None),
        ("/closed", "application/json", 401, None, None),
    ] {
        let request = Request::post(format!("http://a.test{path}")).header("content-type", kind).header("te", "trailers");
        let got = over_http2(gateway.address, request.body(()).unwrap(), "", None).unwrap();
        assert_eq!(
            (got.status(), got.header("grpc-status"), got.header("grpc-message")),
            (status, code, message),
            "{path} {kind}"
        );
        let is_grpc = code.is_some();
        assert_eq!(
            (got.body.is_empty(), got.header("content-type") == Some("application/grpc")),
            (is_grpc, is_grpc),
            "{path} {kind}"
        );
        assert!(got.header("x-request-id").is_some());
    }
    let log = until("the log", || Some(gateway.log()).filter(|log| log.len() == 7));
    let reasons: Vec<String> = log.iter().map(|line| line["reason"].as_str().unwrap().to_owned()).collect();
    let closed = "credential_missing";
    assert_eq!(reasons, [closed, closed, "upstream_unreachable", "path_ambiguous", "upstream_unreachable", closed, closed]);
}

/// Over TLS a client that offers HTTP/2 gets it, unless the listener says no.
#[test]
fn http2_over_tls_is_chosen_by_alpn() {
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let issued = authority.server(&["api.test"]);
    for (more, version) in [("", "2"), ("http2 = false", "1.1")] {
        let tls = "tls = { certificates = [{ cert_file = \"api.pem\", key_file = \"api.key\" }] }";
        let mut gateway = Gateway::prepare(&format!("{tls}\n{more}"), &api(&upstream));
        issued.save(gateway.folder.path(), "api");
        let roots = gateway.folder.path().join("ca.pem");
        std::fs::write(&roots, &authority.pem).unwrap();
        gateway.restart();
        let (url, port) = (format!("https://api.test:{}/in", gateway.address.port()), gateway.address.port());
        let curl = Command::new("curl")
            .args(["-sS", "--http2", "-w", " %{http_version} %{http_code}\n", "--cacert", roots.to_str().unwrap()])
            .args(["--resolve", &format!("api.test:{port}:127.0.0.1"), &url, &url])
            .output()
            .unwrap();
        let said = String::from_utf8(curl.stdout).unwrap();
        assert_eq!(said, format!("{{\"ok\":true}} {version} 200\n").repeat(2), "{}", String::from_utf8_lossy(&curl.stderr));
    }
    assert_eq!(upstream.count(), 4);
}

/// E2: nobody is talked into HTTP/2 by a header, and no upstream is.
#[test]
fn an_upgrade_to_http2_is_no_upgrade() {
    let upstream = Upstream::start();
    let gateway = gateway("", &upstream);
    for connection in ["Connection: Upgrade, HTTP2-Settings", "Connection: HTTP2-Settings"] {
        let answer = gateway.get("/in", &["Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA", connection]);
        assert_eq!(answer.status, 200);
        let seen = upstream.messages().pop().unwrap();
        assert_eq!((seen.values("upgrade"), seen.values("http2-settings"), seen.values("connection")), (vec![], vec![], vec![]));
    }
}
