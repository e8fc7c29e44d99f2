//! An upstream that records every byte it is sent and answers what it is told to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::until;

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
    requests: Mutex<Vec<Vec<u8>>>,
    reply: Mutex<Reply>,
    stopped: AtomicBool,
}

impl Upstream {
    pub fn start() -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { requests: Mutex::default(), reply: Mutex::new(Reply::Ok), stopped: AtomicBool::new(false) });
        let serving = shared.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if serving.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = serving.clone();
                thread::spawn(move || shared.serve(socket));
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
        self.shared.requests.lock().unwrap().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    pub fn count(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }

    pub fn last(&self) -> String {
        self.requests().last().cloned().unwrap_or_default()
    }

    /// Gives the port back. Returns when nobody listens on it any more.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        until("the end of the upstream", || TcpStream::connect(self.address).err());
    }

    pub fn forget(&self) {
        self.shared.requests.lock().unwrap().clear();
    }
}

impl Shared {
    fn serve(&self, mut socket: TcpStream) {
        while let Some(request) = read_request(&mut socket) {
            self.requests.lock().unwrap().push(request);
            let reply = self.reply.lock().unwrap().clone();
            let ok = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}";
            let written = match reply {
                Reply::Ok => socket.write_all(ok),
                Reply::Bytes(bytes) => socket.write_all(&bytes),
                Reply::BytesThenClose(bytes) => {
                    let _ = socket.write_all(&bytes);
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
}

#[expect(clippy::disallowed_methods, reason = "a slow upstream is slow on purpose")]
pub fn pause_for(pause: Duration) {
    // waits for: the client to grow impatient, or not
    thread::sleep(pause);
}

/// One request: the head, then as much body as Content-Length or the chunks say.
fn read_request(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    read_until(socket, &mut bytes, |bytes| bytes.windows(4).any(|window| window == b"\r\n\r\n"))?;
    let head = String::from_utf8_lossy(&bytes).to_lowercase();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    if head.contains("transfer-encoding: chunked") {
        read_until(socket, &mut bytes, |bytes| bytes.ends_with(b"0\r\n\r\n"))?;
    } else if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok()) {
        read_until(socket, &mut bytes, |bytes| bytes.len() >= end + length)?;
    }
    Some(bytes)
}

fn read_until(socket: &mut TcpStream, bytes: &mut Vec<u8>, done: impl Fn(&[u8]) -> bool) -> Option<()> {
    let mut buffer = [0; 8192];
    while !done(bytes) {
        match socket.read(&mut buffer) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
            Ok(_) | Err(_) => return None,
        }
    }
    Some(())
}
