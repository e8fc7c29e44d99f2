//! For tests: one end of a socket, spoken byte by byte, and a runtime like a worker's.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::timeout;

/// Runs a test as a worker runs its connections.
pub fn on_a_worker<T>(test: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(20), test).await.expect("the test ends") })
}

pub struct Wire {
    pub socket: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).await.unwrap())
    }

    pub async fn accept(listener: &TcpListener) -> Self {
        Self::of(listener.accept().await.unwrap().0)
    }

    fn of(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        Self { socket, buffer: Vec::new() }
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Everything up to and with `end`.
    pub async fn read_to(&mut self, end: &str) -> String {
        loop {
            let found = self.buffer.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let rest = self.buffer.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.buffer, rest)).unwrap();
            }
            let mut chunk = [0; 4096];
            let count = self.socket.read(&mut chunk).await.unwrap();
            assert_ne!(count, 0, "the connection ended after {:?}", String::from_utf8_lossy(&self.buffer));
            self.buffer.extend_from_slice(&chunk[..count]);
        }
    }

    pub async fn read_head(&mut self) -> String {
        self.read_to("\r\n\r\n").await
    }

    /// The status line and the header fields without `date`, sorted; then the body of stated length.
    pub async fn read_answer(&mut self) -> (String, String) {
        let head = self.read_head().await;
        let length: usize = field(&head, "content-length").map_or(0, |value| value.parse().unwrap());
        let mut body = String::new();
        while body.len() < length {
            if self.buffer.is_empty() {
                let mut chunk = [0; 4096];
                let count = self.socket.read(&mut chunk).await.unwrap();
                assert_ne!(count, 0, "the connection ended inside a body");
                self.buffer.extend_from_slice(&chunk[..count]);
            }
            let take = self.buffer.len().min(length - body.len());
            let rest = self.buffer.split_off(take);
            body.push_str(std::str::from_utf8(&std::mem::replace(&mut self.buffer, rest)).unwrap());
        }
        (head, body)
    }

    /// Everything until the other end closes or resets.
    pub async fn read_rest(&mut self) -> String {
        let mut chunk = vec![0; 1 << 16];
        while let Ok(count @ 1..) = self.socket.read(&mut chunk).await {
            self.buffer.extend_from_slice(&chunk[..count]);
        }
        String::from_utf8(std::mem::take(&mut self.buffer)).unwrap()
    }
}

/// The value of a header field in a raw head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.split_once(": ").filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}
