//! Listening sockets and how many connections the machine allows.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{ConnectionCap, Listener};

/// One listening socket per worker, all on the same address: the kernel spreads new connections over them.
///
/// # Errors
/// With the kind that the system gave and a message that names the address and the reason.
pub fn bind(config: &Listener, workers: usize) -> io::Result<Vec<TcpListener>> {
    let mut address = config.address;
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {}: {error}", config.address));
    // SO_REUSEPORT lets a second gateway take the address too, and the two would share the traffic unnoticed. A socket
    // without it finds out whether anyone is there.
    drop(TcpListener::bind(address).map_err(explain)?);
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = listen(address).map_err(explain)?;
        // With port 0 the first socket gets a port, and the others follow it.
        address = socket.local_addr().map_err(explain)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Connections inherit it.
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(MOST_UNSENT)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Makes a socket that somebody else has bound like one of [`bind`].
///
/// # Errors
/// When it is no listening socket.
pub fn adopt(socket: &TcpListener) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(socket).set_tcp_notsent_lowat(MOST_UNSENT)?;
    Ok(())
}

/// How many connections one worker may hold.
pub fn connection_cap(cap: ConnectionCap, workers: usize) -> usize {
    let total = match cap {
        ConnectionCap::Exactly(count) => usize::try_from(count).unwrap_or(usize::MAX),
        // Each client may need a connection to an upstream as well.
        ConnectionCap::Auto => file_limit().saturating_sub(RESERVED_FILES) / 2,
    };
    (total / workers.max(1)).max(1)
}

/// The soft limit on open files of this process; 1,024, the usual one, when the system does not say.
fn file_limit() -> usize {
    std::fs::read_to_string("/proc/self/limits").ok().and_then(|text| parse_file_limit(&text)).unwrap_or(1024)
}

fn parse_file_limit(limits: &str) -> Option<usize> {
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?;
    if soft == "unlimited" { Some(UNLIMITED) } else { soft.parse().ok() }
}

/// Connections that the kernel has finished and no worker has taken yet; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;
/// What the kernel takes from us for one client before the client is ready for it. Left to itself it takes megabytes, for
/// each client that asks for much and reads little, and all sockets of a machine share one pool of that memory.
#[cfg(target_os = "linux")]
const MOST_UNSENT: u32 = 64 << 10;
/// Files that are no connections of clients: store, logs, listeners, timers, the admin's connections.
const RESERVED_FILES: usize = 128;
const UNLIMITED: usize = 1 << 20;

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::config::report::{Located, Place};

    pub fn listener(address: SocketAddr) -> Listener {
        Listener { name: Located { value: "test".to_owned(), place: Place::default() }, address, ..Listener::default() }
    }

    #[test]
    fn every_worker_gets_a_socket_on_the_same_port() {
        let sockets = bind(&listener("127.0.0.1:0".parse().unwrap()), 3).unwrap();
        let ports: Vec<u16> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        assert_eq!(ports, vec![ports[0]; 3]);
    }

    #[test]
    fn an_address_in_use_is_refused_by_name_even_when_it_could_be_shared() {
        let first = bind(&listener("127.0.0.1:0".parse().unwrap()), 1).unwrap();
        let address = first[0].local_addr().unwrap();
        let error = bind(&listener(address), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(error.to_string(), format!("cannot listen on {address}: Address already in use (os error 98)"));
    }

    #[test]
    fn the_file_limit_is_shared_among_workers_and_upstreams() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            4224                 524288               files     \n";
        assert_eq!(parse_file_limit(limits), Some(4224));
        assert_eq!(
            parse_file_limit("Max open files            unlimited            unlimited            files"),
            Some(UNLIMITED)
        );
        assert_eq!(parse_file_limit(""), None);
        assert_eq!(connection_cap(ConnectionCap::Exactly(9), 2), 4);
        assert_eq!(connection_cap(ConnectionCap::Exactly(1), 4), 1);
    }
}
