//! What the fault proxy does to a connection, seen from both of its ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Fault, FaultProxy, until};

/// A server that sends back what it is sent.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = socket.read(&mut buffer) {
                    if socket.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn connect(proxy: &FaultProxy) -> TcpStream {
    let socket = TcpStream::connect(proxy.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

/// What comes back of these bytes: all of them, or the kind of the error; an end is `UnexpectedEof`.
fn echoed(socket: &mut TcpStream, bytes: &[u8]) -> Result<Vec<u8>, ErrorKind> {
    let mut back = vec![0; bytes.len()];
    socket.write_all(bytes).map_err(|error| error.kind())?;
    socket.read_exact(&mut back).map_err(|error| error.kind())?;
    Ok(back)
}

/// What comes within a fifth of a second.
fn heard_soon(socket: &mut TcpStream) -> Result<usize, ErrorKind> {
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let heard = socket.read(&mut [0; 64]).map_err(|error| error.kind());
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    heard
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a delay is measured")]
fn what_is_late_or_held_back_comes_whole() {
    let proxy = FaultProxy::to(echo());
    let mut socket = connect(&proxy);
    assert_eq!(echoed(&mut socket, b"one"), Ok(b"one".to_vec()));
    proxy.set(Fault::Delay(Duration::from_millis(300)));
    let start = Instant::now();
    // The first bytes of a fault may meet a connection that has not looked yet.
    until("the delay", || {
        let start = Instant::now();
        assert_eq!(echoed(&mut socket, b"two"), Ok(b"two".to_vec()));
        (start.elapsed() >= Duration::from_millis(300)).then_some(())
    });
    assert!(start.elapsed() < Duration::from_secs(10));
    for stall in [Fault::Stall, Fault::StallAnswers] {
        proxy.set(stall);
        // Nothing that was written after the fault came back; what had been under way is read away first.
        until("silence", || {
            socket.write_all(b"x").unwrap();
            (heard_soon(&mut socket) == Err(ErrorKind::WouldBlock)).then_some(())
        });
        let mut late = connect(&proxy);
        late.write_all(b"late").unwrap();
        assert_eq!(heard_soon(&mut late), Err(ErrorKind::WouldBlock));
        proxy.set(Fault::Pass);
        assert_eq!(socket.read(&mut [0; 1]).unwrap(), 1);
        let mut four = [0; 4];
        late.read_exact(&mut four).unwrap();
        assert_eq!(&four, b"late");
    }
    assert_eq!(proxy.accepted(), 3);
    until("equal counts", || (proxy.bytes().0 == proxy.bytes().1).then_some(()));
}

#[test]
fn connections_end_in_each_way() {
    let proxy = FaultProxy::to(echo());
    let mut ends = Vec::new();
    for fault in [Fault::HalfOpen, Fault::Reset, Fault::Refuse] {
        proxy.set(Fault::Pass);
        let mut socket = until("a connection", || {
            let mut socket = TcpStream::connect(proxy.address).ok()?;
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            echoed(&mut socket, b"one").ok().map(|_| socket)
        });
        proxy.set(fault);
        ends.push(until("the end", || {
            let is_silent = fault == Fault::HalfOpen;
            if is_silent {
                socket.write_all(b"x").unwrap();
            }
            Some(heard_soon(&mut socket)).filter(|heard| (*heard == Err(ErrorKind::WouldBlock)) == is_silent && *heard != Ok(1))
        }));
        let fresh = || TcpStream::connect(proxy.address).map_err(|error| error.kind());
        if fault == Fault::Refuse {
            until("a closed port", || fresh().is_err().then_some(()));
        }
        ends.push(fresh().and_then(|mut fresh| heard_soon(&mut fresh)));
    }
    let (silence, reset) = (Err(ErrorKind::WouldBlock), Err(ErrorKind::ConnectionReset));
    assert_eq!(ends, [silence, silence, reset, reset, Ok(0), Err(ErrorKind::ConnectionRefused)]);
}

#[test]
fn an_answer_is_cut_after_its_bytes() {
    let proxy = FaultProxy::to(echo());
    proxy.set(Fault::CutAfter(5));
    for _ in 0..2 {
        let mut socket = connect(&proxy);
        assert_eq!(echoed(&mut socket, b"abc"), Ok(b"abc".to_vec()));
        socket.write_all(b"defg").unwrap();
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"de");
    }
    assert_eq!(proxy.bytes().1, 10);
}
