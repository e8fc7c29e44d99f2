//! A client that sends exactly the bytes it is given.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// One answer, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

pub struct Client {
    socket: TcpStream,
    /// The last request was a HEAD: its answer has no body, whatever its length says.
    asked_head: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn request_id(&self) -> &str {
        self.header("x-request-id").unwrap_or_else(|| panic!("no request id: {self:?}"))
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    /// `None` where nobody listens, any more or yet.
    pub fn try_connect(address: SocketAddr) -> Option<Self> {
        let socket = TcpStream::connect(address).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        socket.set_nodelay(true).unwrap();
        Some(Self { socket, asked_head: false })
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.asked_head = bytes.as_ref().starts_with(b"HEAD ");
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    /// `None` once the other end takes nothing more.
    pub fn try_send(&mut self, bytes: &str) -> Option<()> {
        self.socket.write_all(bytes.as_bytes()).ok()
    }

    /// The next answer; `None` when the connection ends before a whole head.
    pub fn try_receive(&mut self) -> Option<Answer> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more(&mut bytes)?;
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: String::new() };
        let mut body = bytes[end..].to_vec();
        if self.asked_head {
            return Some(answer);
        }
        let length = answer.header("content-length").and_then(|length| length.parse::<usize>().ok());
        match length {
            Some(length) => while body.len() < length && self.read_more(&mut body).is_some() {},
            None if answer.header("transfer-encoding").is_some() => {
                while !body.ends_with(b"0\r\n\r\n") && self.read_more(&mut body).is_some() {}
            }
            None => {}
        }
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Some(answer)
    }

    /// Sends and receives on a connection that may end at any time.
    pub fn try_ask(&mut self, request: &str) -> Option<Answer> {
        self.socket.write_all(request.as_bytes()).ok()?;
        self.try_receive()
    }

    /// Leaves without waiting for anything.
    pub fn end(&self) {
        self.socket.shutdown(Shutdown::Both).unwrap();
    }

    pub fn receive(&mut self) -> Answer {
        self.try_receive().expect("an answer")
    }

    /// Whether the other end closes without another byte.
    pub fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 1];
        matches!(self.socket.read(&mut buffer), Ok(0))
    }

    fn read_more(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        let mut buffer = [0; 16384];
        match self.socket.read(&mut buffer) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
            Ok(_) | Err(_) => return None,
        }
        Some(())
    }
}
