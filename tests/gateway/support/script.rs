//! An upstream whose every connection is played by a function of the test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

pub struct Script {
    pub address: SocketAddr,
}

/// One connection that the gateway has made.
pub struct Played {
    socket: TcpStream,
}

impl Script {
    /// `play` gets each connection on a thread of its own.
    pub fn start(play: impl Fn(Played) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                socket.set_nodelay(true).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
                let play = play.clone();
                thread::spawn(move || play(Played { socket }));
            }
        });
        Self { address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Played {
    /// The next request's head; `None` when the gateway has closed.
    pub fn head(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        let mut one = [0];
        while !bytes.ends_with(b"\r\n\r\n") {
            match self.socket.read(&mut one) {
                Ok(1) => bytes.push(one[0]),
                Ok(_) | Err(_) => return None,
            }
        }
        Some(String::from_utf8(bytes).unwrap())
    }

    /// The next bytes of a body whose length the test knows.
    pub fn body(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.socket.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Reads so many bytes of a body and keeps none.
    pub fn skip(&mut self, length: u64) {
        let copied = std::io::copy(&mut (&mut self.socket).take(length), &mut std::io::sink()).unwrap();
        assert_eq!(copied, length);
    }

    /// Whether the gateway took it.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.socket.write_all(bytes.as_ref()).is_ok()
    }

    /// Ends the connection with a reset, as a process that is killed or a firewall does.
    pub fn reset(self) {
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Everything that comes until the gateway closes; `None` when it does not close.
    pub fn rest(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => return None,
                Ok(_) | Err(_) => return Some(String::from_utf8(bytes).unwrap()),
            }
        }
    }
}
