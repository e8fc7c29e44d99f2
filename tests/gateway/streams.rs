//! Bodies are carried while they are made: nothing waits for the end of them, and nobody holds all of one.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use crate::support::{Client, Gateway, Played, Reply, Script, Upstream, until};

/// One connection of a client, read as far as a test wants.
struct Line {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Line {
    fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        Self { socket, buffer: Vec::new() }
    }

    fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    /// Everything up to and with `end`.
    fn hear(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end.as_bytes()) {
                let rest = self.buffer.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.buffer, rest)).unwrap();
            }
            let mut more = [0; 16384];
            let count = self.socket.read(&mut more).unwrap_or(0);
            assert_ne!(count, 0, "no {end:?} came after {:?}", String::from_utf8_lossy(&self.buffer));
            self.buffer.extend_from_slice(&more[..count]);
        }
    }

    fn head(&mut self) -> String {
        self.hear("\r\n\r\n").to_lowercase()
    }

    /// Everything that comes until the gateway closes.
    fn rest(&mut self) -> String {
        let mut rest = std::mem::take(&mut self.buffer);
        // A reset is an end too.
        let _ = self.socket.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

fn in_front_of(upstream: &str) -> Gateway {
    Gateway::start(&format!(
        "[[api]]\nupstream = \"{upstream}\"\ncontract = \"native\"\nendpoints = \"none\"\n[[api.route]]\nname = \"in\"\n\
         path = \"/in\"\nmethods = [\"GET\", \"HEAD\", \"POST\"]\npublic = true\nmax_body = \"64GiB\"\n[[api.route]]\nname = \"small\"\n\
         path = \"/small\"\nmethods = [\"POST\"]\npublic = true\nmax_body = \"10B\"\n"
    ))
}

fn heard<T>(channel: &Receiver<T>) -> T {
    channel.recv_timeout(Duration::from_secs(15)).expect("a word of the other side")
}

/// Each event reaches the client before the upstream makes the next one, and the head before the first.
#[test]
fn an_event_comes_while_the_next_is_not_made_yet() {
    for (framing, frame) in [
        ("Transfer-Encoding: chunked\r\n", (|event: &str| format!("{:x}\r\n{event}\r\n", event.len())) as fn(&str) -> String),
        ("Content-Length: 100000\r\n", str::to_owned),
        ("Connection: close\r\n", str::to_owned),
    ] {
        let (got, go_on) = sync_channel::<()>(1);
        let go_on = Arc::new(std::sync::Mutex::new(go_on));
        let script = Script::start(move |mut played: Played| {
            let go_on = go_on.lock().unwrap();
            played.head();
            played.say(format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n"));
            for number in 0..20 {
                if go_on.recv_timeout(Duration::from_secs(15)).is_err() {
                    return;
                }
                played.say(frame(&format!("data: {number}\n\n")));
            }
            played.rest();
        });
        let gateway = in_front_of(&script.url());
        let mut line = Line::connect(gateway.address);
        line.say("GET /in HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(line.head().contains("content-type: text/event-stream"));
        for number in 0..20 {
            got.send(()).unwrap();
            line.hear(&format!("data: {number}\n\n"));
        }
    }
}

/// Each part of a request's body reaches the upstream before the client makes the next one.
#[test]
fn a_request_body_goes_out_while_it_is_made() {
    let (sent, see) = sync_channel(1);
    let script = Script::start(move |mut played: Played| {
        while let Some(head) = played.head() {
            let is_chunked = head.contains("chunked");
            for _ in 0..20 {
                sent.send(played.body(if is_chunked { 10 } else { 5 })).unwrap();
            }
            played.body(if is_chunked { 5 } else { 0 });
            played.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let gateway = in_front_of(&script.url());
    for (framing, chunk, end) in
        [("Content-Length: 100", "hello", ""), ("Transfer-Encoding: chunked", "5\r\nhello\r\n", "0\r\n\r\n")]
    {
        let mut line = Line::connect(gateway.address);
        line.say(format!("POST /in HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        for _ in 0..20 {
            line.say(chunk);
            assert_eq!(heard(&see), chunk);
        }
        line.say(end);
        assert!(line.head().starts_with("http/1.1 200"));
        assert_eq!(line.hear("ok"), "ok");
    }
}

/// Both directions at once: the answer to the first part is there before the second is sent.
#[test]
fn a_body_is_answered_while_it_is_sent() {
    let script = Script::start(|mut played: Played| {
        if played.head().is_none() {
            return;
        }
        played.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..20 {
            let part = played.body(5);
            played.say(format!("5\r\n{part}\r\n"));
        }
        played.say("0\r\n\r\n");
    });
    let gateway = in_front_of(&script.url());
    let mut line = Line::connect(gateway.address);
    line.say("POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n");
    assert!(line.head().starts_with("http/1.1 200"));
    for number in 0..20 {
        line.say(format!("{number:05}"));
        assert_eq!(line.hear(&format!("{number:05}\r\n")), format!("5\r\n{number:05}\r\n"));
    }
    assert_eq!(line.hear("0\r\n\r\n"), "0\r\n\r\n");
}

/// A client that waits for `100 Continue` is told to go on only where its body will be taken: never before it is known who
/// it is, what it may and how much, and whether there is anybody to take it.
#[test]
fn nobody_is_asked_for_a_body_that_is_not_wanted() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"native\"\n[[api.route]]\nname = \"open\"\npath = \"/open\"\nmethods = [\"POST\"]\n\
         public = true\nmax_body = \"10B\"\nlimits = [\"once\"]\n[[api.limit]]\nname = \"once\"\nper = [\"header:X-Who\"]\n\
         quota = \"1 per 1h\"\n",
        upstream.url()
    ));
    let head = |target: &str, more: &str| format!("POST {target} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{more}\r\n");
    let five = "Content-Length: 5\r\n";
    let mut line = Line::connect(gateway.address);
    line.say(head("/open", &format!("{five}X-Who: me\r\n")));
    assert_eq!(line.head(), "http/1.1 100 continue\r\n\r\n");
    line.say("hello");
    assert!(line.head().starts_with("http/1.1 200"));
    for (what, asked, status) in [
        ("no credential", head("/items", five), 401),
        ("a false credential", head("/items", &format!("{five}Authorization: Bearer x.y.z\r\n")), 401),
        ("no path", head("/open/..", five), 400),
        ("no route's method", head("/open", five).replace("POST", "PUT"), 401),
        ("a length above the cap", head("/open", "Content-Length: 11\r\n"), 413),
        ("a limit that is used up", head("/open", &format!("{five}X-Who: me\r\n")), 429),
        ("two framings", head("/open", &format!("{five}Transfer-Encoding: chunked\r\n")), 400),
    ] {
        let mut line = Line::connect(gateway.address);
        line.say(asked);
        let answered = line.head();
        assert!(answered.starts_with(&format!("http/1.1 {status} ")), "{what}: {answered}");
        // The client may send its body yet, or a new request: nobody could tell which, so that nothing more is read.
        line.say("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert!(!line.rest().to_lowercase().contains("http/1.1"), "{what}");
    }
    assert_eq!(upstream.count(), 1);
    let gateway = in_front_of(&format!("http://{}", crate::servers::free_address()));
    let mut line = Line::connect(gateway.address);
    line.say(head("/in", five));
    let answered = line.head();
    assert!(answered.starts_with("http/1.1 502 "), "{answered}");
}

fn code_of(status: &str) -> &str {
    status.split(' ').next().unwrap()
}

/// HEAD, 204 and 304: no body, whatever a length says, and the connection goes on.
#[test]
fn answers_without_a_body_keep_their_length_and_their_connection() {
    let upstream = Upstream::start();
    let gateway = in_front_of(&upstream.url());
    let mut line = Line::connect(gateway.address);
    for (method, answer, length) in [
        ("HEAD", "200 OK\r\nContent-Length: 1234", Some("1234")),
        ("HEAD", "200 OK\r\nContent-Length: 0", Some("0")),
        ("HEAD", "200 OK\r\nTransfer-Encoding: chunked", None),
        ("HEAD", "404 Not Found\r\nContent-Length: 9", Some("9")),
        ("HEAD", "204 No Content", None),
        ("HEAD", "304 Not Modified\r\nContent-Length: 77", Some("77")),
        ("GET", "204 No Content", None),
        ("GET", "304 Not Modified\r\nETag: \"x\"", None),
        // It may be left out of a 304 (RFC 9110, section 15.4.5).
        ("GET", "304 Not Modified\r\nContent-Length: 77", None),
        ("GET", "200 OK\r\nContent-Length: 0", Some("0")),
        ("POST", "204 No Content", None),
    ] {
        upstream.reply(Reply::Bytes(format!("HTTP/1.1 {answer}\r\nX-Last: 1\r\n\r\n").into_bytes()));
        line.say(format!("{method} /in HTTP/1.1\r\nHost: a\r\n\r\n"));
        let head = line.head();
        assert!(head.starts_with(&format!("http/1.1 {} ", code_of(answer))), "{method} {answer}: {head}");
        let lengths: Vec<&str> = head.lines().filter_map(|line| line.strip_prefix("content-length: ")).collect();
        assert_eq!(lengths, length.into_iter().collect::<Vec<_>>(), "{method} {answer}");
    }
    upstream.reply(Reply::Ok);
    line.say("GET /in HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(line.head().ends_with("content-length: 11\r\n\r\n") || line.hear("{\"ok\":true}").len() == 11);
}

/// An upstream that has heard enough: its answer reaches a client that is still sending, however much that is.
#[test]
fn an_answer_before_the_end_of_the_body_reaches_the_client() {
    for (status, closes) in [("413 Content Too Large", true), ("401 Unauthorized", false)] {
        let script = Script::start(move |mut played: Played| {
            if played.head().is_none() {
                return;
            }
            played.say(format!("HTTP/1.1 {status}\r\nContent-Length: 6\r\nX-Mine: 1\r\n\r\nenough"));
            if !closes {
                played.rest();
            }
        });
        let gateway = in_front_of(&script.url());
        for round in 0..10 {
            let mut line = Line::connect(gateway.address);
            line.say(format!("POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 64 << 20));
            let mut sending = line.socket.try_clone().unwrap();
            let sender = thread::spawn(move || {
                let part = vec![b'x'; 1 << 16];
                (0..1024).all(|_| sending.write_all(&part).is_ok())
            });
            let head = line.head();
            assert!(head.starts_with(&format!("http/1.1 {} ", code_of(status))), "round {round}: {head}");
            assert_eq!(line.hear("enough"), "enough");
            // Whoever reads the rest: a client that is still sending must not be told of a reset before it has read.
            assert!(sender.join().unwrap(), "round {round}: the connection was reset");
        }
    }
}

/// A client that leaves in the middle of an endless answer is no longer worked for.
#[test]
fn an_upstream_is_left_when_its_client_leaves() {
    let (left, leave) = sync_channel(1);
    let script = Script::start(move |mut played: Played| {
        if played.head().is_none() {
            return;
        }
        played.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n");
        left.send(played.rest()).unwrap();
    });
    let gateway = in_front_of(&script.url());
    let mut line = Line::connect(gateway.address);
    line.say("GET /in HTTP/1.1\r\nHost: a\r\n\r\n");
    line.hear("data: 1\n\n");
    line.socket.shutdown(Shutdown::Both).unwrap();
    assert_eq!(leave.recv_timeout(Duration::from_secs(1)).ok(), Some(Some(String::new())));
}

/// Who reads slowly is sent no more than it reads: what is on the way fits into the buffers of two sockets, in both
/// directions, and comes whole in the end.
#[test]
fn a_slow_reader_holds_the_sender_back() {
    const ALL: u64 = 64 << 20;
    let written = Arc::new(AtomicU64::new(0));
    let counted = written.clone();
    let script = Script::start(move |mut played: Played| {
        if played.head().is_none() {
            return;
        }
        played.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {ALL}\r\n\r\n"));
        let part = vec![b'x'; 1 << 16];
        while counted.load(Ordering::SeqCst) < ALL && played.say(&part) {
            counted.fetch_add(1 << 16, Ordering::SeqCst);
        }
        played.rest();
    });
    let gateway = in_front_of(&script.url());
    let before = gateway.resident_kib();
    let mut line = Line::connect(gateway.address);
    line.say("GET /in HTTP/1.1\r\nHost: a\r\n\r\n");
    line.head();
    let stood_still = stand_still(&written);
    assert!(stood_still < ALL / 2, "{stood_still} bytes were taken from an upstream whose client reads none");
    assert!(gateway.resident_kib() < before + 8 * 1024, "{before} KiB grew to {} KiB", gateway.resident_kib());
    let mut left = ALL - u64::try_from(line.buffer.len()).unwrap();
    let mut part = vec![0; 1 << 16];
    while left > 0 {
        let count = line.socket.read(&mut part).unwrap();
        assert!(count > 0 && part[..count].iter().all(|byte| *byte == b'x'), "{left} bytes were to come");
        left -= u64::try_from(count).unwrap();
    }
}

/// The other way round: a client is held back by an upstream that does not read.
#[test]
fn a_slow_upstream_holds_the_client_back() {
    const ALL: u64 = 64 << 20;
    let (word, wait) = sync_channel::<()>(1);
    let wait = Arc::new(std::sync::Mutex::new(wait));
    let script = Script::start(move |mut played: Played| {
        if played.head().is_none() {
            return;
        }
        heard(&wait.lock().unwrap());
        played.skip(ALL);
        played.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        played.rest();
    });
    let gateway = in_front_of(&script.url());
    let before = gateway.resident_kib();
    let mut line = Line::connect(gateway.address);
    line.say(format!("POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: {ALL}\r\n\r\n"));
    let (sent, mut sending) = (Arc::new(AtomicU64::default()), line.socket.try_clone().unwrap());
    let counted = sent.clone();
    let sender = thread::spawn(move || {
        pump(ALL, |part| {
            counted.fetch_add(u64::try_from(part.len()).unwrap(), Ordering::SeqCst);
            sending.write_all(part).is_ok()
        });
    });
    let stood_still = stand_still(&sent);
    assert!(stood_still < ALL / 2, "{stood_still} bytes were taken for an upstream that reads none");
    assert!(gateway.resident_kib() < before + 8 * 1024, "{before} KiB grew to {} KiB", gateway.resident_kib());
    word.send(()).unwrap();
    sender.join().unwrap();
    assert!(line.head().starts_with("http/1.1 200"));
}

/// Where a counter stays that has begun to count: the same for sixty looks, which are five milliseconds apart.
fn stand_still(counter: &AtomicU64) -> u64 {
    let mut last = (0, 0);
    until("a sender that is held back", || {
        let now = counter.load(Ordering::SeqCst);
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        (now > 0 && last.1 > 60).then_some(now)
    })
}

/// One chunk of many bytes, and many of one, are the same body on the other side.
#[test]
fn chunks_of_any_size_are_carried() {
    let upstream = Upstream::start();
    let gateway = in_front_of(&upstream.url());
    let large = "0123456789abcdef".repeat(1 << 20);
    let short = "0123456789".repeat(500);
    let small: String = short.chars().map(|character| format!("1\r\n{character}\r\n")).collect();
    for (chunks, body) in [(format!("{:X}\r\n{large}\r\n", large.len()), &large), (small, &short)] {
        upstream.forget();
        upstream
            .reply(Reply::Bytes(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n").into_bytes()));
        let mut line = Line::connect(gateway.address);
        let mut sending = line.socket.try_clone().unwrap();
        let sent =
            format!("POST /in HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{chunks}0\r\n\r\n");
        let sender = thread::spawn(move || sending.write_all(sent.as_bytes()).unwrap());
        line.head();
        let heard = unchunked(&line.rest());
        sender.join().unwrap();
        assert!(heard == *body, "{} bytes came back of {}", heard.len(), body.len());
        assert!(upstream.messages()[0].body == body.as_bytes(), "another body arrived");
    }
}

fn unchunked(text: &str) -> String {
    let (mut rest, mut body) = (text, String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        let (part, next) = after.split_at(size);
        body.push_str(part);
        rest = next.strip_prefix("\r\n").unwrap();
    }
    body
}

/// A body of gigabytes in both directions: what the process holds of it does not grow with it. `GATEWARD_BULK_MIB` says how
/// large; `tests/run` asks for two gigabytes.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test is told by its environment how much it may take")]
fn large_bodies_take_no_memory() {
    let all = std::env::var("GATEWARD_BULK_MIB").map_or(64, |text| text.parse::<u64>().unwrap()) << 20;
    let script = Script::start(move |mut played: Played| {
        if played.head().is_none() {
            return;
        }
        played.skip(all);
        played.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {all}\r\n\r\n"));
        pump(all, |part| played.say(part));
    });
    let gateway = in_front_of(&script.url());
    let before = gateway.resident_kib();
    let mut line = Line::connect(gateway.address);
    line.say(format!("POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: {all}\r\nConnection: close\r\n\r\n"));
    pump(all, |part| line.socket.write_all(part).is_ok());
    let up = gateway.resident_kib();
    line.head();
    let mut heard = u64::try_from(line.buffer.len()).unwrap();
    let mut part = vec![0; 1 << 16];
    while let Ok(count @ 1..) = line.socket.read(&mut part) {
        heard += u64::try_from(count).unwrap();
    }
    let down = gateway.resident_kib();
    assert_eq!(heard, all);
    assert!(up.max(down) < before + 8 * 1024, "{before} KiB before, {up} after the request's body, {down} after the answer's");
}

/// Says so many bytes; whoever hears them may break off.
fn pump(all: u64, mut say: impl FnMut(&[u8]) -> bool) {
    let part = vec![b'x'; 1 << 16];
    let mut left = all;
    while left > 0 {
        let next = usize::try_from(left).unwrap_or(usize::MAX).min(part.len());
        if !say(&part[..next]) {
            return;
        }
        left -= u64::try_from(next).unwrap();
    }
}

/// A limit on a body of unknown length holds while it is sent: the client is told before it has sent all of it.
#[test]
fn an_endless_body_is_refused_at_its_cap() {
    let upstream = Upstream::start();
    let gateway = in_front_of(&upstream.url());
    let mut client = Client::connect(gateway.address);
    client.send("POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n");
    let answer = client.receive();
    assert_eq!((answer.status, gateway.why(&answer).as_str()), (413, "refused listener body_too_large"));
    assert!(client.is_closed());
    assert_eq!(upstream.count(), 0);
}
