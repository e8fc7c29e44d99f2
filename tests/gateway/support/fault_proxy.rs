//! A wire that fails on request: a TCP proxy in front of a server.
//!
//! Bytes are never lost or reordered within a connection, as TCP never does it: what a fault holds back comes when the
//! fault is over, or the connection ends.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::servers::free_address;
use crate::support::pause_for;

/// What the wire does to connections that there are and to those that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: every byte passes.
    Pass,
    /// Each byte of an answer comes this much later.
    Delay(Duration),
    /// Connections are accepted, and nothing passes in either direction: what a firewall that drops packets does.
    Stall,
    /// Requests reach the server, and no answer comes back.
    StallAnswers,
    /// The server's end is gone and nobody says so: what is sent is acknowledged and answered by nothing, for ever.
    HalfOpen,
    /// A reset, at once.
    Reset,
    /// After so many more bytes of answers the connection ends, and so does each one after it.
    CutAfter(usize),
    /// Nobody listens.
    Refuse,
}

/// Ends with its value, and every connection with it.
pub struct FaultProxy {
    pub address: SocketAddr,
    wire: Arc<Wire>,
}

struct Wire {
    server: SocketAddr,
    fault: Mutex<Fault>,
    /// What is left of `CutAfter`.
    left: AtomicUsize,
    is_over: AtomicBool,
    accepted: AtomicUsize,
    /// Bytes that came through, from the clients and from the server.
    asked: AtomicUsize,
    answered: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Request,
    Answer,
}

/// Why a direction of a connection ended.
enum End {
    /// The other end is told: FIN.
    Closed,
    /// The sockets are dropped as they are.
    Dropped,
}

impl FaultProxy {
    pub fn to(server: SocketAddr) -> Self {
        let address = free_address();
        let wire = Arc::new(Wire {
            server,
            fault: Mutex::new(Fault::Pass),
            left: AtomicUsize::default(),
            is_over: AtomicBool::default(),
            accepted: AtomicUsize::default(),
            asked: AtomicUsize::default(),
            answered: AtomicUsize::default(),
        });
        let listener = TcpListener::bind(address).unwrap();
        let listening = wire.clone();
        thread::spawn(move || listening.listen(listener));
        Self { address, wire }
    }

    /// Returns at once; within [`GLANCE`] every connection knows.
    pub fn set(&self, fault: Fault) {
        if let Fault::CutAfter(bytes) = fault {
            self.wire.left.store(bytes, Ordering::SeqCst);
        }
        *self.wire.fault.lock().unwrap() = fault;
    }

    /// How many connections were accepted.
    pub fn accepted(&self) -> usize {
        self.wire.accepted.load(Ordering::SeqCst)
    }

    /// Bytes that reached the server, and bytes that reached clients.
    pub fn bytes(&self) -> (usize, usize) {
        (self.wire.asked.load(Ordering::SeqCst), self.wire.answered.load(Ordering::SeqCst))
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.wire.is_over.store(true, Ordering::SeqCst);
    }
}

impl Wire {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn listen(self: Arc<Self>, listener: TcpListener) {
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut listener = Some(listener);
        while !self.is_over() {
            if self.fault() == Fault::Refuse {
                listener = None;
            } else if listener.is_none() {
                let again = TcpListener::bind(address).unwrap();
                again.set_nonblocking(true).unwrap();
                listener = Some(again);
            }
            match listener.as_ref().map(TcpListener::accept) {
                Some(Ok((client, _))) => {
                    self.accepted.fetch_add(1, Ordering::SeqCst);
                    let wire = self.clone();
                    thread::spawn(move || wire.connect(client));
                }
                Some(Err(_)) | None => pause_for(MOMENT),
            }
        }
    }

    fn connect(self: Arc<Self>, client: TcpStream) {
        client.set_nonblocking(false).unwrap();
        while self.fault() == Fault::Stall && !self.is_over() {
            pause_for(MOMENT);
        }
        match self.fault() {
            Fault::Reset => reset(&client),
            Fault::HalfOpen => self.swallow(&client),
            Fault::Refuse => {}
            Fault::Pass | Fault::Delay(_) | Fault::Stall | Fault::StallAnswers | Fault::CutAfter(_) => {
                // A server that is away is refused to the client as well as it can be after an accept.
                let Ok(server) = TcpStream::connect(self.server) else { return reset(&client) };
                let asking = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let wire = self.clone();
                let requests = thread::spawn(move || wire.pump(&asking.0, &asking.1, Direction::Request));
                self.pump(&server, &client, Direction::Answer);
                requests.join().unwrap();
            }
        }
    }

    /// Carries one direction to its end.
    fn pump(&self, from: &TcpStream, to: &TcpStream, direction: Direction) {
        from.set_read_timeout(Some(GLANCE)).unwrap();
        from.set_nodelay(true).unwrap();
        if let End::Closed = self.carry(from, to, direction) {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        }
    }

    fn carry(&self, from: &TcpStream, to: &TcpStream, direction: Direction) -> End {
        let mut late = VecDeque::new();
        let mut buffer = [0; 1 << 14];
        while !self.is_over() {
            let mut delay = Duration::ZERO;
            match (self.fault(), direction) {
                (Fault::Stall, _) | (Fault::StallAnswers, Direction::Answer) => {
                    pause_for(MOMENT);
                    continue;
                }
                (Fault::HalfOpen, Direction::Answer) => return End::Dropped,
                (Fault::HalfOpen, Direction::Request) => {
                    let _ = to.shutdown(Shutdown::Both);
                    self.swallow(from);
                    return End::Dropped;
                }
                (Fault::Reset, Direction::Answer) => {
                    reset(to);
                    return End::Dropped;
                }
                (Fault::Reset, Direction::Request) => return End::Dropped,
                (Fault::Refuse, _) => return End::Closed,
                (Fault::Delay(longer), Direction::Answer) => delay = longer,
                (Fault::Pass | Fault::Delay(_) | Fault::StallAnswers | Fault::CutAfter(_), _) => {}
            }
            from.set_read_timeout(Some(if late.is_empty() { GLANCE } else { MOMENT })).unwrap();
            match (&mut &*from).read(&mut buffer) {
                // The other direction may have been the first to see a fault that ends both.
                Ok(0) if matches!(self.fault(), Fault::HalfOpen | Fault::Reset) => continue,
                Ok(0) => return End::Closed,
                Ok(count) => late.push_back((now() + delay, buffer[..count].to_vec())),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return End::Closed,
            }
            while let Some((_, bytes)) = late.pop_front_if(|(due, _)| *due <= now()) {
                let cut = self.cut(&bytes, direction);
                if (&mut &*to).write_all(&bytes[..cut]).is_err() || cut < bytes.len() {
                    return End::Closed;
                }
            }
        }
        End::Closed
    }

    /// Counts what passes: how much of these bytes, less than all when the connection ends there.
    fn cut(&self, bytes: &[u8], direction: Direction) -> usize {
        let mut passing = bytes.len();
        if let (Fault::CutAfter(every), Direction::Answer) = (self.fault(), direction) {
            let left = self.left.load(Ordering::SeqCst);
            passing = passing.min(left);
            self.left.store(if passing < bytes.len() { every } else { left - passing }, Ordering::SeqCst);
        }
        let counter = if direction == Direction::Request { &self.asked } else { &self.answered };
        counter.fetch_add(passing, Ordering::SeqCst);
        passing
    }

    /// Takes what comes and says nothing until the client leaves.
    fn swallow(&self, client: &TcpStream) {
        client.set_read_timeout(Some(GLANCE)).unwrap();
        let mut buffer = [0; 1 << 14];
        while !self.is_over() {
            match (&mut &*client).read(&mut buffer) {
                Ok(0) => return,
                Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// The connection ends with a reset when its last handle is dropped.
fn reset(client: &TcpStream) {
    SockRef::from(client).set_linger(Some(Duration::ZERO)).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a wire measures its own delay")]
fn now() -> Instant {
    Instant::now()
}

/// How long a connection may not notice that the fault is another one.
const GLANCE: Duration = Duration::from_millis(20);
const MOMENT: Duration = Duration::from_millis(1);
