//! Clients of HTTP/2: one that sends the frames that it is given, whatever they are, and one that is well-behaved.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const PROTOCOL_ERROR: u32 = 1;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn ends_stream(&self) -> bool {
        self.kind == RST_STREAM || (matches!(self.kind, HEADERS | DATA) && self.flags & END_STREAM != 0)
    }

    /// The error of a `RST_STREAM` or a `GOAWAY`.
    pub fn error(&self) -> Option<u32> {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap()))
    }
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// A header block of literals that no table remembers (RFC 7541, section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            integer(&mut out, text.len());
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// A length with a prefix of seven bits (RFC 7541, section 5.1).
fn integer(out: &mut Vec<u8>, length: usize) {
    if length < 127 {
        return out.push(u8::try_from(length).unwrap());
    }
    out.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        out.push(u8::try_from(rest % 128 + 128).unwrap());
        rest /= 128;
    }
    out.push(u8::try_from(rest).unwrap());
}

/// A request's pseudo fields, for the host that the tests' APIs have.
pub fn asks(method: &'static str, path: &'static str) -> [(&'static str, &'static str); 4] {
    [(":method", method), (":scheme", "http"), (":authority", "a.test"), (":path", path)]
}

/// A connection of frames.
pub struct Frames {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Frames {
    /// Connects and says the preface, with these settings.
    pub fn connect_with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let payload: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        let mut frames = Self { socket, buffer: Vec::new() };
        frames.send(&[PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat());
        frames
    }

    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[])
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends what may find the connection closed.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// For sending beside somebody who reads.
    pub fn writer(&self) -> TcpStream {
        self.socket.try_clone().unwrap()
    }

    /// A whole request without a body.
    pub fn ask(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields)));
    }

    /// The head of a request whose body follows.
    pub fn begin(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.send(&frame(HEADERS, END_HEADERS, stream, &block(fields)));
    }

    /// The next frame; `None` at the end of the connection.
    pub fn next(&mut self) -> Option<Frame> {
        let mut chunk = [0; 16384];
        loop {
            if let [a, b, c, kind, flags, stream @ ..] = &self.buffer[..]
                && let Some(stream) = stream.first_chunk::<4>()
            {
                let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
                if self.buffer.len() >= 9 + length {
                    let (kind, flags, stream) = (*kind, *flags, u32::from_be_bytes(*stream));
                    let payload = self.buffer[9..9 + length].to_vec();
                    self.buffer.drain(..9 + length);
                    return Some(Frame { kind, flags, stream, payload });
                }
            }
            match self.socket.read(&mut chunk) {
                Ok(count) if count > 0 => self.buffer.extend_from_slice(&chunk[..count]),
                Ok(_) => return None,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("neither a frame nor an end: {error}"),
            }
        }
    }

    /// Frames up to the first of which this holds, with it.
    pub fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            let next = self.next().unwrap_or_else(|| panic!("the connection ended after {frames:?}"));
            let found = wanted(&next);
            frames.push(next);
            if found {
                return frames;
            }
        }
    }

    /// What ends a stream: the error with which it was reset, or `None` for a whole answer.
    pub fn end_of(&mut self, stream: u32) -> Option<u32> {
        let frames = self.until(|frame| frame.kind == GOAWAY || (frame.stream == stream && frame.ends_stream()));
        frames.last().unwrap().error()
    }

    /// The same after a GOAWAY.
    pub fn end_of_answer(&mut self, stream: u32) -> Option<u32> {
        self.until(|frame| frame.stream == stream && frame.ends_stream()).last().unwrap().error()
    }

    /// The error that the connection ends with. `None` when it ends without a word.
    pub fn goaway(&mut self) -> Option<u32> {
        loop {
            let next = self.next()?;
            if next.kind == GOAWAY {
                return next.error();
            }
        }
    }

    /// A PING and its answer: everything that was sent before has been read.
    pub fn settle(&mut self) {
        self.send(&frame(PING, 0, 0, b"settled!"));
        self.until(|frame| frame.kind == PING && frame.payload == b"settled!");
    }
}

/// What a well-behaved client got.
#[derive(Debug)]
pub struct Got {
    pub response: Response<()>,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Got {
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).map(|value| value.to_str().unwrap())
    }
}

/// One request and its answer, on a connection of its own.
pub fn over_http2(address: SocketAddr, request: Request<()>, body: &str, trailers: Option<HeaderMap>) -> Result<Got, h2::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(socket).await?;
        let talk = async {
            let mut client = client.ready().await?;
            let bare = body.is_empty() && trailers.is_none();
            let (response, mut stream) = client.send_request(request, bare)?;
            if !bare {
                stream.send_data(Bytes::copy_from_slice(body.as_bytes()), trailers.is_none())?;
                if let Some(trailers) = trailers {
                    stream.send_trailers(trailers)?;
                }
            }
            let (parts, mut incoming) = response.await?.into_parts();
            let mut body = Vec::new();
            while let Some(data) = incoming.data().await {
                let data = data?;
                incoming.flow_control().release_capacity(data.len())?;
                body.extend_from_slice(&data);
            }
            let trailers = incoming.trailers().await?;
            Ok(Got { response: Response::from_parts(parts, ()), body, trailers })
        };
        tokio::select! {
            biased;
            got = talk => got,
            ended = connection => Err(ended.err().unwrap_or_else(|| h2::Reason::NO_ERROR.into())),
        }
    })
}
