//! An upstream that records every byte it is sent, reads it as strictly as it can be written, and answers what it is told
//! to. Its end fails a test in which something came that is no such request.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::{Message, strict, until};

/// What is answered to a request.
#[derive(Clone)]
pub enum Reply {
    /// 200 with a small JSON body.
    Ok,
    /// These bytes, and the connection stays open.
    Bytes(Vec<u8>),
    /// These bytes, then the end of the connection.
    BytesThenClose(Vec<u8>),
    /// Nothing, for ever.
    Silence,
    /// 200 after a while.
    Slow(Duration),
}

pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<Seen>,
    reply: Mutex<Reply>,
    stopped: AtomicBool,
    /// Connections that have not ended.
    open: AtomicUsize,
    /// All that ever came.
    connections: AtomicUsize,
    /// The one that the last request came by.
    newest: Mutex<Option<TcpStream>>,
}

#[derive(Default)]
struct Seen {
    /// Whole requests: their bytes, and what they say.
    requests: Vec<(Vec<u8>, Message)>,
    unfinished: Vec<Vec<u8>>,
    violations: Vec<String>,
}

impl Upstream {
    pub fn start() -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            reply: Mutex::new(Reply::Ok),
            stopped: AtomicBool::default(),
            open: AtomicUsize::default(),
            connections: AtomicUsize::default(),
            newest: Mutex::default(),
        });
        let serving = shared.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if serving.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = serving.clone();
                shared.open.fetch_add(1, Ordering::SeqCst);
                shared.connections.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let peer = socket.peer_addr().ok();
                    shared.serve(socket);
                    // It would hold the connection open.
                    shared.newest.lock().unwrap().take_if(|newest| newest.peer_addr().ok() == peer);
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, shared }
    }

    pub fn reply(&self, reply: Reply) {
        *self.shared.reply.lock().unwrap() = reply;
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whole requests, head and body, as they came.
    pub fn requests(&self) -> Vec<String> {
        let seen = self.shared.seen.lock().unwrap();
        seen.requests.iter().map(|(bytes, _)| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// The same requests, as they can only be read.
    pub fn messages(&self) -> Vec<Message> {
        self.shared.seen.lock().unwrap().requests.iter().map(|(_, message)| message.clone()).collect()
    }

    /// Beginnings of requests whose connection ended before they did.
    pub fn unfinished(&self) -> Vec<String> {
        let seen = self.shared.seen.lock().unwrap();
        seen.unfinished.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// What came and was no request: two framings, a bare LF, bytes after the end. The connection ends there.
    pub fn violations(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().violations.clone()
    }

    pub fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().requests.len()
    }

    /// How many connections were ever made to it.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub fn last(&self) -> String {
        self.requests().last().cloned().unwrap_or_default()
    }

    /// Sends more on the connection of the last request.
    pub fn push(&self, bytes: &[u8]) {
        self.shared.newest.lock().unwrap().as_ref().unwrap().write_all(bytes).unwrap();
    }

    /// Gives the port back. Returns when nobody listens on it any more.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        until("the end of the upstream", || TcpStream::connect(self.address).err());
    }

    /// Returns when the gateway has closed every connection: nothing more comes then, and everything is recorded.
    pub fn wait_until_left(&self) {
        until("the end of every connection", || (self.shared.open.load(Ordering::SeqCst) == 0).then_some(()));
    }

    /// Forgets the requests, never a violation.
    pub fn forget(&self) {
        let mut seen = self.shared.seen.lock().unwrap();
        seen.requests.clear();
        seen.unfinished.clear();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_eq!(self.violations(), Vec::<String>::new(), "the gateway has sent what is no request");
        }
    }
}

impl Shared {
    fn serve(&self, mut socket: TcpStream) {
        while self.take_request(&mut socket).is_some() {
            let reply = self.reply.lock().unwrap().clone();
            let ok = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}";
            let written = match reply {
                Reply::Ok => socket.write_all(ok),
                Reply::Bytes(bytes) => socket.write_all(&bytes),
                Reply::BytesThenClose(bytes) => {
                    let _ = socket.write_all(&bytes);
                    // The copy that `push` writes to would keep it open.
                    let _ = socket.shutdown(Shutdown::Both);
                    return;
                }
                Reply::Silence => continue,
                Reply::Slow(pause) => {
                    pause_for(pause);
                    socket.write_all(ok)
                }
            };
            if written.is_err() {
                return;
            }
        }
    }

    /// Records the next request; `None` when there is none. The gateway waits for each answer, so that a byte after the
    /// end of a request belongs to nothing.
    fn take_request(&self, socket: &mut TcpStream) -> Option<()> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let violation = match strict::request(&bytes) {
                Ok(Some((message, length))) if length == bytes.len() => {
                    *self.newest.lock().unwrap() = socket.try_clone().ok();
                    self.seen.lock().unwrap().requests.push((bytes, message));
                    return Some(());
                }
                Ok(None) => match socket.read(&mut buffer) {
                    Ok(count) if count > 0 => {
                        bytes.extend_from_slice(&buffer[..count]);
                        continue;
                    }
                    Ok(_) | Err(_) if bytes.is_empty() => return None,
                    Ok(_) | Err(_) => {
                        self.seen.lock().unwrap().unfinished.push(bytes);
                        return None;
                    }
                },
                Ok(Some((_, length))) => format!("{} bytes after the end", bytes.len() - length),
                Err(what) => what,
            };
            let all = String::from_utf8_lossy(&bytes);
            self.seen.lock().unwrap().violations.push(format!("{violation} in {all:.2000?}"));
            return None;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a slow upstream is slow on purpose")]
pub fn pause_for(pause: Duration) {
    // waits for: the client to grow impatient, or not
    thread::sleep(pause);
}
