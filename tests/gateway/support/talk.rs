//! Bytes to the gateway, in pieces and from any address of this machine, and every answer until it closes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::support::strict::Asked;
use crate::support::{Message, pause_for, strict};

/// What a client says, and how.
#[derive(Clone, Copy)]
pub struct Talk<'a> {
    to: SocketAddr,
    from: Ipv4Addr,
    cuts: &'a [usize],
}

impl<'a> Talk<'a> {
    pub fn to(to: SocketAddr) -> Self {
        Self { to, from: Ipv4Addr::LOCALHOST, cuts: &[] }
    }

    /// From one address of 127.0.0.0/8: the upstream can tell by `X-Real-IP` who is behind a request, and the bytes
    /// need not.
    pub fn from(self, from: Ipv4Addr) -> Self {
        Self { from, ..self }
    }

    /// Sends the bytes in pieces that end at these offsets, which rise.
    pub fn cut_at(self, cuts: &'a [usize]) -> Self {
        Self { cuts, ..self }
    }

    /// Sends everything and reads until the gateway closes. The client's half stays open: one that closes has left.
    ///
    /// # Errors
    /// What came that is no answer, or the connection that stays open.
    pub fn answers(self, bytes: &[u8]) -> Result<Vec<Message>, String> {
        let heard = self.hear(bytes)?;
        let mut rest = &heard[..];
        let mut answers: Vec<Message> = Vec::new();
        while !rest.is_empty() {
            let is_first = answers.iter().all(|answer| answer.status() < 200);
            let asked = if is_first && bytes.starts_with(b"HEAD ") { Asked::Head } else { Asked::Other };
            let (answer, length) =
                strict::answer(rest, asked)?.ok_or_else(|| format!("half an answer: {:?}", String::from_utf8_lossy(rest)))?;
            answers.push(answer);
            rest = &rest[length..];
        }
        Ok(answers)
    }

    /// The status of each answer. What is no answer fails the test.
    pub fn statuses(self, bytes: impl AsRef<[u8]>) -> Vec<u16> {
        let bytes = bytes.as_ref();
        let answers = self.answers(bytes).unwrap_or_else(|what| panic!("{what}: {:?}", String::from_utf8_lossy(bytes)));
        answers.iter().map(Message::status).collect()
    }

    fn hear(self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut socket = self.connect();
        let mut start = 0;
        for &cut in self.cuts {
            let _ = socket.write_all(&bytes[start..cut]);
            start = cut;
            pause_for(Duration::from_millis(2));
        }
        // The gateway may have answered and closed already.
        let _ = socket.write_all(&bytes[start..]);
        let mut heard = Vec::new();
        let mut buffer = [0; 16384];
        loop {
            match socket.read(&mut buffer) {
                Ok(0) => return Ok(heard),
                Ok(count) => heard.extend_from_slice(&buffer[..count]),
                // A reset after the last answer is an end too.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(heard),
                Err(error) => return Err(format!("{error} after {:?}", String::from_utf8_lossy(&heard))),
            }
        }
    }

    fn connect(self) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((self.from, 0)).into()).unwrap();
        socket.connect(&self.to.into()).unwrap();
        socket.set_tcp_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        socket.into()
    }
}

/// The address of the client that says the `index`-th thing, and the other way round.
pub fn client_of(index: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(FIRST_CLIENT) + u32::try_from(index).unwrap())
}

pub fn index_of(client: &str) -> usize {
    let client: Ipv4Addr = client.parse().unwrap();
    usize::try_from(u32::from(client) - u32::from(FIRST_CLIENT)).unwrap()
}

const FIRST_CLIENT: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 0);

/// `ask` of each item with its index, a few at a time; what it answered, in the order of the items.
pub fn in_parallel<I: Sync, O: Send>(items: &[I], ask: impl Fn(usize, &I) -> O + Sync) -> Vec<O> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::SeqCst);
            let Some(item) = items.get(index) else { return done };
            done.push((index, ask(index, item)));
        }
    };
    let mut all: Vec<(usize, O)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, out)| out).collect()
}

const AT_A_TIME: usize = 48;
