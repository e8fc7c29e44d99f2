//! Bodies and ends, seen through a gateway with nothing but forwarding.

use super::*;

/// A gateway with nothing but forwarding.
struct Relay {
    upstream: Upstream,
    cap: Option<u64>,
    progress: Duration,
    response_timeout: Duration,
    done: Rc<RefCell<Vec<Done>>>,
}

impl Relay {
    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Body>, Rejection> {
        let (parts, incoming) = request.into_parts();
        let body = Body::from_client(incoming, self.cap, self.progress)?;
        let mut request = Request::from_parts(parts, body);
        remove_hop_by_hop(request.headers_mut());
        let response = self.upstream.send(request, self.response_timeout).await?;
        let done = self.done.clone();
        Ok(response.map(|body| body.when_done(move |outcome| done.borrow_mut().push(outcome))))
    }
}

impl Handler for Relay {
    async fn call(&self, request: Request<Incoming>, _: ConnectionInfo, _: Option<Fault>) -> Response<Body> {
        self.forward(request).await.unwrap_or_else(|rejection| {
            let mut response = Response::new(Body::full(rejection.code()));
            *response.status_mut() = rejection.class().default_status();
            response
        })
    }
}

struct Served {
    upstream: TcpListener,
    client: Wire,
    relay: Rc<Relay>,
    _drain: watch::Sender<bool>,
    _task: JoinHandle<io::Result<usize>>,
}

async fn served(adjust: impl FnOnce(&mut Relay)) -> Served {
    let (listener, port) = socket().await;
    let mut relay = Relay {
        upstream: upstream(&[("127.0.0.1", port, "")], |timeouts| timeouts.idle = SHORT * 5),
        cap: None,
        progress: LONG,
        response_timeout: LONG,
        done: Rc::default(),
    };
    adjust(&mut relay);
    let config = config::Listener {
        name: Located { value: "test".to_owned(), place: Place::default() },
        address: "127.0.0.1:0".parse().unwrap(),
        ..config::Listener::default()
    };
    let socket = bind(&config, 1).unwrap().remove(0);
    let address = socket.local_addr().unwrap();
    let relay = Rc::new(relay);
    let (drain, drained) = watch::channel(false);
    let task = spawn_local(serve(socket, Live::new(Settings::new(&config, 1, LONG)), relay.clone(), drained));
    Served { upstream: listener, client: Wire::connect(address).await, relay, _drain: drain, _task: task }
}

#[test]
fn bodies_of_unknown_length_stream_both_ways_without_trailers() {
    on_a_worker(async {
        let mut served = served(|_| {}).await;
        let client = &mut served.client;
        client
            .write("GET /s HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-auth-user\r\n\r\n3\r\nabc\r\n")
            .await;
        let mut upstream = Wire::accept(&served.upstream).await;
        // Each piece arrives before the next is sent: nothing waits for the whole.
        assert_eq!(
            upstream.read_to("3\r\nabc\r\n").await,
            "GET /s HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
        );
        client.write("2\r\nde\r\n0\r\nX-Auth-User: admin\r\nContent-Length: 5\r\n\r\n").await;
        assert_eq!(upstream.read_to("0\r\n\r\n").await, "2\r\nde\r\n0\r\n\r\n");

        upstream
            .write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: x-secret\r\nx-secret: 1\r\nkeep-alive: timeout=5\r\nx-kept: 1\r\n\r\n1\r\n1\r\n")
            .await;
        let head = client.read_head().await;
        assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
        assert_eq!((field(&head, "x-kept"), field(&head, "x-secret"), field(&head, "keep-alive")), (Some("1"), None, None));
        assert_eq!(client.read_to("1\r\n1\r\n").await, "1\r\n1\r\n");
        upstream.write("2\r\n23\r\n0\r\nx-late: 1\r\n\r\n").await;
        assert_eq!(client.read_to("0\r\n\r\n").await, "2\r\n23\r\n0\r\n\r\n");
        assert_eq!(served.relay.done.borrow().as_slice(), [Done { bytes: 3, ending: Ending::Whole }]);
        assert_eq!(served.relay.upstream.servers[0].idle_connections(), 1);
    });
}

#[test]
fn a_stated_length_stays_stated_both_ways() {
    on_a_worker(async {
        let mut served = served(|_| {}).await;
        let client = &mut served.client;
        client.write("POST / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nabc").await;
        let mut upstream = Wire::accept(&served.upstream).await;
        assert_eq!(upstream.read_to("abc").await, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
        upstream.write(OK).await;
        let (head, body) = client.read_answer().await;
        assert_eq!((head.lines().next().unwrap(), body.as_str()), ("HTTP/1.0 200 OK", "ok"));

        client.write("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        upstream.read_head().await;
        upstream.write("HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n").await;
        assert_eq!(field(&client.read_head().await, "content-length"), Some("12345"));

        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        upstream.read_head().await;
        upstream.write("HTTP/1.1 304 Not Modified\r\ncontent-length: 12345\r\n\r\n").await;
        assert_eq!(client.read_head().await.lines().next().unwrap(), "HTTP/1.1 304 Not Modified");
    });
}

#[test]
fn an_answer_that_ends_early_or_stops_is_cut_and_never_ended_cleanly() {
    on_a_worker(async {
        for (answer, closes, seen) in [
            ("content-length: 9\r\n\r\nabc", true, "abc"),
            ("transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", true, "3\r\nabc\r\n"),
            ("transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", false, "3\r\nabc\r\n"),
        ] {
            let mut served = served(|_| {}).await;
            served.client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            let mut upstream = Wire::accept(&served.upstream).await;
            upstream.read_head().await;
            upstream.write(format!("HTTP/1.1 200 OK\r\n{answer}")).await;
            let kept = (!closes).then_some(upstream);
            served.client.read_head().await;
            assert_eq!(served.client.read_rest().await, seen);
            assert_eq!(served.relay.done.borrow().as_slice(), [Done { bytes: 3, ending: Ending::Cut }]);
            assert_eq!(served.relay.upstream.servers[0].idle_connections(), 0);
            drop(kept);
        }
    });
}

#[test]
fn a_fault_of_the_clients_body_is_the_clients_and_not_the_upstreams() {
    on_a_worker(async {
        for (body, status, code) in [
            ("content-length: 9\r\n\r\n", "413", "body_too_large"),
            ("transfer-encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n", "413", "body_too_large"),
            ("content-length: 8\r\n\r\n1234", "408", "body_timeout"),
            ("transfer-encoding: chunked\r\n\r\n4\r\n1234\r\nzz\r\n", "400", "body_broken"),
        ] {
            // The upstream's time is the shorter one: a client that is waited for does not use it up.
            let mut served = served(|relay| {
                relay.cap = Some(8);
                relay.progress = SHORT * 2;
                relay.response_timeout = SHORT;
            })
            .await;
            served.client.write(format!("POST / HTTP/1.1\r\nhost: a\r\n{body}")).await;
            let (head, found) = served.client.read_answer().await;
            assert_eq!((head.get(9..12).unwrap(), found.as_str()), (status, code), "{body:?}");
            assert_eq!(served.relay.upstream.servers[0].idle_connections(), 0);
        }
    });
}

#[test]
fn a_client_that_goes_away_takes_its_upstream_connection_with_it() {
    on_a_worker(async {
        let mut served = served(|_| {}).await;
        served.client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut upstream = Wire::accept(&served.upstream).await;
        upstream.read_head().await;
        drop(served.client);
        assert_eq!(upstream.read_rest().await, "");
        assert_eq!(served.relay.upstream.servers[0].idle_connections(), 0);
    });
}

#[test]
fn an_expectation_is_met_by_us_and_not_passed_on() {
    on_a_worker(async {
        let mut served = served(|_| {}).await;
        served.client.write("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n").await;
        let mut upstream = Wire::accept(&served.upstream).await;
        assert_eq!(served.client.read_head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        served.client.write("abc").await;
        assert_eq!(upstream.read_to("abc").await, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
        upstream.write(OK).await;
        assert_eq!(served.client.read_answer().await.1, "ok");
    });
}

#[test]
fn an_early_answer_does_not_leave_its_connection_to_the_next_request() {
    on_a_worker(async {
        let mut served = served(|_| {}).await;
        served.client.write("POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc").await;
        let mut first = Wire::accept(&served.upstream).await;
        first.read_to("abc").await;
        first.write(OK).await;
        assert_eq!(served.client.read_answer().await.1, "ok");
        assert_eq!(served.relay.upstream.servers[0].idle_connections(), 0);
        // The rest of the body goes where its beginning went, and the next request elsewhere.
        served.client.write("defGET /2 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(first.read_rest().await, "def");
        let mut second = Wire::accept(&served.upstream).await;
        assert_eq!(second.read_head().await.lines().next().unwrap(), "GET /2 HTTP/1.1");
        second.write(OK).await;
        assert_eq!(served.client.read_answer().await.1, "ok");
    });
}
