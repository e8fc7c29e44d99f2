//! The listener over real sockets: what a client sends and sees, byte by byte.

mod bodies;

use std::cell::RefCell;
use std::time::Duration;

use http::StatusCode;
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local};

use super::wire::{Wire, field, on_a_worker};
use super::*;
use crate::body::{Done, Ending};
use crate::rejection::Denial;

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(60);

/// A handler whose paths are the cases.
#[derive(Default)]
struct Cases {
    seen: RefCell<Vec<String>>,
    gate: Notify,
    done: Rc<RefCell<Vec<Done>>>,
}

impl Handler for Cases {
    async fn call(&self, request: Request<Incoming>, connection: ConnectionInfo, fault: Option<Fault>) -> Response<Body> {
        if let Some(fault) = fault {
            self.seen.borrow_mut().push(format!("refused {} {} {}", request.method(), fault.path, fault.denial.code()));
            return refusal(&fault.denial);
        }
        self.seen.borrow_mut().push(format!("{} {}", request.method(), request.uri()));
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/panic" => panic!("as the test wants"),
            "/gate" => {
                self.gate.notified().await;
                Response::new(Body::full("through"))
            }
            "/large" => Response::new(Body::full(vec![b'x'; 64 << 20])),
            "/peer" => Response::new(Body::full(connection.peer.to_string())),
            "/unread" => {
                let mut response = Response::new(Body::full("no"));
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                response
            }
            "/collect" => match collect(request).await {
                Ok(bytes) => Response::new(Body::full(bytes)),
                Err(denial) => refusal(&denial),
            },
            _ => {
                let done = self.done.clone();
                Response::new(Body::full(path).when_done(move |outcome| done.borrow_mut().push(outcome)))
            }
        }
    }
}

fn refusal(denial: &Denial) -> Response<Body> {
    let mut response = Response::new(Body::full(format!("{denial:?}")));
    *response.status_mut() = denial.class().default_status();
    response
}

async fn collect(request: Request<Incoming>) -> Result<bytes::Bytes, Denial> {
    Body::from_client(request.into_body(), Some(1 << 20), SHORT)?.collect(8).await
}

struct Served {
    address: SocketAddr,
    handler: Rc<Cases>,
    drain: watch::Sender<bool>,
    task: JoinHandle<io::Result<usize>>,
}

impl Served {
    fn start(adjust: impl FnOnce(&mut Listener)) -> Self {
        Self::start_with(LONG, adjust)
    }

    fn start_with(drain_timeout: Duration, adjust: impl FnOnce(&mut Listener)) -> Self {
        let mut config = sockets::tests::listener("127.0.0.1:0".parse().unwrap());
        config.timeouts = ListenerTimeouts { header: LONG, idle: LONG, body_progress: LONG, ..ListenerTimeouts::default() };
        adjust(&mut config);
        let socket = bind(&config, 1).unwrap().remove(0);
        let address = socket.local_addr().unwrap();
        let handler = Rc::new(Cases::default());
        let (drain, drained) = watch::channel(false);
        let settings = Live::new(Settings::new(&config, 1, drain_timeout));
        let task = spawn_local(serve(socket, settings, handler.clone(), drained));
        Self { address, handler, drain, task }
    }

    async fn drained(self) -> usize {
        self.drain.send_replace(true);
        self.task.await.unwrap().unwrap()
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}

#[test]
fn pipelined_requests_are_answered_in_order_on_one_connection() {
    on_a_worker(async {
        let served = Served::start(|_| {});
        let mut client = Wire::connect(served.address).await;
        client.write(get("/1") + &get("/2") + &get("/peer")).await;
        for body in ["/1".to_owned(), "/2".to_owned(), client.socket.local_addr().unwrap().to_string()] {
            let (head, found) = client.read_answer().await;
            assert_eq!((head.lines().next().unwrap(), found), ("HTTP/1.1 200 OK", body));
            assert!(field(&head, "date").is_some(), "{head}");
        }
        assert_eq!(served.handler.done.borrow().as_slice(), [Done { bytes: 2, ending: Ending::Whole }; 2]);
    });
}

#[test]
fn a_panic_is_a_500_for_its_request_alone() {
    on_a_worker(async {
        let served = Served::start(|_| {});
        let mut client = Wire::connect(served.address).await;
        client.write(get("/panic") + &get("/after")).await;
        let (head, body) = client.read_answer().await;
        assert_eq!((head.lines().next().unwrap(), body.as_str()), ("HTTP/1.1 500 Internal Server Error", "internal error\n"));
        assert_eq!(client.read_answer().await.1, "/after");
    });
}

#[test]
fn a_head_that_does_not_end_is_cut_though_bytes_keep_coming() {
    on_a_worker(async {
        let served = Served::start(|config| config.timeouts.header = SHORT);
        let mut client = Wire::connect(served.address).await;
        let mut bytes = 0;
        client.write("GET / HTTP/1.1\r\nx: ").await;
        while tokio::io::AsyncWriteExt::write_all(&mut client.socket, b"x").await.is_ok() {
            bytes += 1;
            assert!(bytes < 1000, "the connection is still open");
            // waits for: the server's close to reach this end; bounded by the count.
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(served.handler.seen.borrow().as_slice(), [""; 0]);
        assert_eq!(served.drained().await, 0);
    });
}

#[test]
fn a_silent_connection_is_closed_after_the_idle_time_and_not_the_header_time() {
    on_a_worker(async {
        let served = Served::start(|config| config.timeouts.idle = SHORT);
        let mut silent = Wire::connect(served.address).await;
        assert_eq!(silent.read_rest().await, "");

        let mut used = Wire::connect(served.address).await;
        used.write(get("/1")).await;
        assert_eq!(used.read_answer().await.1, "/1");
        assert_eq!(used.read_rest().await, "");

        // One that has begun to speak has the header time, which is longer here.
        let mut slow = Wire::connect(served.address).await;
        slow.write("GET /slow HTTP/1.1\r\nhost: a\r\n").await;
        // waits for: a timeout that must not strike in this time.
        sleep(SHORT * 3).await;
        slow.write("\r\n").await;
        assert_eq!(slow.read_answer().await.1, "/slow");
    });
}

#[test]
fn neither_time_runs_while_a_request_is_served() {
    on_a_worker(async {
        let served = Served::start(|config| {
            config.timeouts.idle = SHORT;
            config.timeouts.header = SHORT;
        });
        let mut client = Wire::connect(served.address).await;
        client.write(get("/gate")).await;
        // waits for: a timeout that must not strike in this time.
        sleep(SHORT * 3).await;
        served.handler.gate.notify_one();
        assert_eq!(client.read_answer().await.1, "through");
        assert_eq!(client.read_rest().await, "");
    });
}

#[test]
fn a_client_that_does_not_read_its_answer_is_cut() {
    on_a_worker(async {
        let served = Served::start(|config| config.timeouts.body_progress = SHORT);
        let mut client = Wire::connect(served.address).await;
        client.write(get("/large")).await;
        client.read_to("\r\n").await;
        // Nothing more is read: the drain ends well before its own time because the connection has been given up.
        assert_eq!(served.drained().await, 0);
        assert!(client.read_rest().await.len() < 64 << 20);
    });
}

#[test]
fn an_answer_to_an_unread_body_arrives_and_the_body_is_no_request() {
    on_a_worker(async {
        let served = Served::start(|_| {});
        let mut client = Wire::connect(served.address).await;
        let smuggled = get("/smuggled").repeat(40_000);
        client.write(format!("POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", smuggled.len())).await;
        client.write(smuggled).await;
        let (head, body) = client.read_answer().await;
        assert_eq!((head.lines().next().unwrap(), body.as_str()), ("HTTP/1.1 401 Unauthorized", "no"));
        assert_eq!(client.read_rest().await, "");
        assert_eq!(served.handler.seen.borrow().as_slice(), ["POST /unread"]);
    });
}

#[test]
fn heads_above_the_limits_reach_the_handler_as_faults_however_large() {
    on_a_worker(async {
        let served = Served::start(|config| {
            config.limits.headers = 3;
            config.limits.header_bytes = crate::config::value::ByteSize(512);
            config.limits.uri_bytes = crate::config::value::ByteSize(16);
        });
        let many: String = (0..=HYPER_HEADERS).map(|number| format!("h{number}: 1\r\n")).collect();
        for (head, status, denial) in [
            (format!("GET /a HTTP/1.1\r\nhost: a\r\n{many}"), 431, "TooManyHeaders { limit: 3 }"),
            (format!("GET /a HTTP/1.1\r\na: {}\r\n", "x".repeat(1200)), 431, "HeadTooLarge { limit: 512 }"),
            (format!("GET /a HTTP/1.1\r\na: {}\r\n", "x".repeat(200_000)), 431, "HeadTooLarge { limit: 512 }"),
            (format!("GET /a?{} HTTP/1.1\r\n", "x".repeat(70_000)), 414, "UriTooLong { limit: 16 }"),
        ] {
            let mut client = Wire::connect(served.address).await;
            client.write(format!("{head}\r\n")).await;
            let (answer, body) = client.read_answer().await;
            assert_eq!((answer.get(9..12).unwrap(), body.as_str()), (status.to_string().as_str(), denial));
            assert_eq!(field(&answer, "connection"), Some("close"), "{answer}");
            assert_eq!(client.read_rest().await, "");
        }
        let codes = ["too_many_headers", "head_too_large", "head_too_large", "uri_too_long"];
        assert_eq!(served.handler.seen.borrow().as_slice(), codes.map(|code| format!("refused GET /a {code}")));
    });
}

#[test]
fn a_connection_above_the_cap_is_closed_and_the_next_one_is_served() {
    on_a_worker(async {
        let served = Served::start(|config| config.limits.connections = crate::config::ConnectionCap::Exactly(1));
        let mut first = Wire::connect(served.address).await;
        first.write(get("/1")).await;
        assert_eq!(first.read_answer().await.1, "/1");
        assert_eq!(Wire::connect(served.address).await.read_rest().await, "");
        drop(first);
        // The worker sees the close when it is next polled; until then it may refuse.
        loop {
            let mut next = Wire::connect(served.address).await;
            if tokio::io::AsyncWriteExt::write_all(&mut next.socket, get("/2").as_bytes()).await.is_err() {
                continue;
            }
            let answer = timeout(LONG, async {
                next.socket.readable().await.unwrap();
                let mut byte = [0];
                next.socket.try_read(&mut byte)
            });
            if answer.await.unwrap().is_ok_and(|count| count == 1) {
                break;
            }
        }
    });
}

/// Runs itself again in a process with few files, so that the limit is this test's alone.
#[test]
fn the_listener_lives_through_a_full_file_table() {
    const NAME: &str = "listener::tests::the_listener_lives_through_a_full_file_table";
    #[expect(clippy::disallowed_methods, reason = "tells the inner run from the outer")]
    if std::env::var_os("GATEWARD_FEW_FILES").is_none() {
        let inner = std::process::Command::new("sh")
            .args(["-c", "ulimit -n 48 && exec \"$0\" --exact \"$1\""])
            .arg(std::env::current_exe().unwrap())
            .arg(NAME)
            .env("GATEWARD_FEW_FILES", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&inner.stdout);
        assert!(said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&inner.stderr));
        return;
    }
    on_a_worker(async {
        let served = Served::start(|config| config.limits.connections = crate::config::ConnectionCap::Exactly(1000));
        let mut clients = Vec::new();
        let error = loop {
            match TcpStream::connect(served.address).await {
                Ok(client) => clients.push(client),
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(24));
        // waits for: the listener to meet the full table more than once.
        sleep(ACCEPT_PAUSE * 3).await;
        assert!(!served.task.is_finished());
        drop(clients);
        let mut client = Wire::connect(served.address).await;
        client.write(get("/1")).await;
        assert_eq!(client.read_answer().await.1, "/1");
    });
}

#[test]
fn a_drain_finishes_what_is_in_flight_and_takes_nothing_new() {
    on_a_worker(async {
        let served = Served::start_with(Duration::from_secs(5), |_| {});
        let (address, handler) = (served.address, served.handler.clone());
        let mut idle = Wire::connect(address).await;
        idle.write(get("/1")).await;
        idle.read_answer().await;
        let mut late = Wire::connect(address).await;
        late.write(get("/2")).await;
        late.read_answer().await;
        let mut busy = Wire::connect(address).await;
        busy.write(get("/gate")).await;
        while handler.seen.borrow().len() < 3 {
            tokio::task::yield_now().await;
        }
        let drained = spawn_local(served.drained());
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        // A client that was about to use its idle connection is served once more and told to go.
        late.write(get("/3")).await;
        let (head, body) = late.read_answer().await;
        assert_eq!((field(&head, "connection"), body.as_str()), (Some("close"), "/3"));
        drop(late);
        assert_eq!(idle.read_rest().await, "");
        handler.gate.notify_one();
        let (head, body) = busy.read_answer().await;
        assert_eq!((field(&head, "connection"), body.as_str()), (Some("close"), "through"));
        assert_eq!(busy.read_rest().await, "");
        drop((idle, busy));
        assert_eq!(drained.await.unwrap(), 0);
    });
}

#[test]
fn what_is_still_running_after_the_drain_time_is_cut_and_counted() {
    on_a_worker(async {
        let served = Served::start_with(SHORT, |_| {});
        let mut busy = Wire::connect(served.address).await;
        busy.write(get("/gate")).await;
        while served.handler.seen.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(served.drained().await, 1);
        assert_eq!(busy.read_rest().await, "");
    });
}

#[test]
fn errors_of_one_client_do_not_pause_the_listener() {
    for (code, one) in [(103, true), (104, true), (4, true), (24, false), (23, false), (12, false), (105, false)] {
        assert_eq!(is_of_one_client(&io::Error::from_raw_os_error(code)), one, "{code}");
    }
}

#[test]
fn an_episode_is_logged_once_until_it_has_been_calm() {
    on_a_worker(async {
        tokio::time::pause();
        let (mut episode, mut logged) = (Episode::default(), 0);
        for _ in 0..100 {
            episode.happens(|| logged += 1);
            tokio::time::advance(Duration::from_millis(50)).await;
        }
        assert_eq!(logged, 1);
        tokio::time::advance(CALM).await;
        episode.happens(|| logged += 1);
        assert_eq!(logged, 2);
        episode.over();
        episode.happens(|| logged += 1);
        assert_eq!(logged, 3);
    });
}
