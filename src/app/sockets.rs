//! The sockets of the listeners: bound before a config is in effect, and shared out among the workers.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::anyhow;

use crate::config::Listener;
use crate::listener;

/// What a listener is known by from one config to the next: its address, whatever it is called. Port 0 is another port for
/// each name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub address: SocketAddr,
    pub name: Option<String>,
}

impl Spot {
    pub fn of(listener: &Listener) -> Self {
        let name = (listener.address.port() == 0).then(|| listener.name.value.clone());
        Self { address: listener.address, name }
    }
}

/// One worker's sockets.
pub type Share = BTreeMap<Spot, Vec<TcpListener>>;

/// Sockets that somebody else has bound for this process: systemd, or the process whose place it takes.
#[derive(Default)]
pub struct Inherited(Vec<TcpListener>);

impl Inherited {
    pub fn new(sockets: Vec<TcpListener>) -> Self {
        Self(sockets)
    }

    /// Those that listen on an address: what a listener of the config is known by.
    fn take(&mut self, address: SocketAddr) -> Vec<TcpListener> {
        let is_of = |socket: &TcpListener| socket.local_addr().is_ok_and(|own| own == address);
        let (found, rest) = std::mem::take(&mut self.0).into_iter().partition(is_of);
        self.0 = rest;
        found
    }

    /// The addresses of those that nobody took.
    pub fn left(&self) -> Vec<String> {
        self.0.iter().map(|socket| socket.local_addr().map_or_else(|_| "no address".to_owned(), |own| own.to_string())).collect()
    }
}

/// Every address that is listened on. Where a process may take over, with a copy of every socket, to be handed to it.
pub struct Listening {
    open: BTreeMap<Spot, Vec<TcpListener>>,
    admin: Option<TcpListener>,
    lends: bool,
}

impl Listening {
    pub fn new(upgrade_socket: Option<&Path>) -> Self {
        Self { open: BTreeMap::new(), admin: None, lends: upgrade_socket.is_some() }
    }

    /// Takes or binds what `listeners` need and is not open yet, and shares it out. Nothing is kept before [`Self::keep`].
    ///
    /// # Errors
    /// Which listener cannot have its address, and why.
    pub fn bind(&self, listeners: &[Listener], workers: usize, inherited: &mut Inherited) -> anyhow::Result<Bound> {
        let mut bound = Bound { kept: BTreeMap::new(), shares: (0..workers).map(|_| Share::new()).collect() };
        for listener in listeners {
            let spot = Spot::of(listener);
            if self.open.contains_key(&spot) {
                continue;
            }
            let explain = |error: io::Error| bind_error(&listener.name.value, listener.address, &error);
            let sockets = match inherited.take(listener.address) {
                none if none.is_empty() => listener::bind(listener, workers).map_err(explain)?,
                found => {
                    found.iter().try_for_each(listener::adopt).map_err(explain)?;
                    found
                }
            };
            bound.share_out(spot, sockets).map_err(explain)?;
        }
        Ok(bound)
    }

    /// The admin listener's socket.
    ///
    /// # Errors
    /// When it cannot have its address.
    pub fn bind_admin(&mut self, address: SocketAddr, inherited: &mut Inherited) -> anyhow::Result<TcpListener> {
        let explain = |error: io::Error| bind_error("admin", address, &error);
        let socket = match inherited.take(address).pop() {
            Some(socket) => socket,
            None => TcpListener::bind(address).map_err(explain)?,
        };
        if self.lends {
            self.admin = Some(socket.try_clone().map_err(explain)?);
        }
        Ok(socket)
    }

    /// A config is in effect: what was bound for it is open, and what it does not name is no longer.
    pub fn keep(&mut self, listeners: &[Listener], mut kept: BTreeMap<Spot, Vec<TcpListener>>) {
        if !self.lends {
            kept.values_mut().for_each(Vec::clear);
        }
        self.open.extend(kept);
        self.open.retain(|spot, _| listeners.iter().any(|listener| Spot::of(listener) == *spot));
    }

    /// A copy of every socket.
    ///
    /// # Errors
    /// When there is no room for more open files.
    pub fn lend(&self) -> io::Result<Vec<TcpListener>> {
        self.open.values().flatten().chain(&self.admin).map(TcpListener::try_clone).collect()
    }
}

/// Sockets that are bound and serve nobody yet.
pub struct Bound {
    pub kept: BTreeMap<Spot, Vec<TcpListener>>,
    pub shares: Vec<Share>,
}

impl Bound {
    /// Gives every socket to a worker, and every worker a socket: each has a queue of its own, which somebody must empty, and
    /// where there are too few of them several workers empty one.
    fn share_out(&mut self, spot: Spot, sockets: Vec<TcpListener>) -> io::Result<()> {
        let workers = self.shares.len();
        for at in 0..workers.max(sockets.len()) {
            let Some(socket) = sockets.get(at.checked_rem(sockets.len()).unwrap_or(0)) else { continue };
            let own = socket.try_clone()?;
            if let Some(share) = self.shares.get_mut(at.checked_rem(workers).unwrap_or(0)) {
                share.entry(spot.clone()).or_default().push(own);
            }
        }
        self.kept.insert(spot, sockets);
        Ok(())
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the operating system's errors are an open set: the others are said in its words"
)]
pub fn bind_error(name: &str, address: SocketAddr, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!("the listener `{name}` cannot have {address}: another process has it; stop that one or choose another port")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow!("the listener `{name}` may not have {address}: ports below 1024 need the capability CAP_NET_BIND_SERVICE")
        }
        _ => anyhow!("the listener `{name}` cannot have {address}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(workers: usize, sockets: usize) -> Vec<usize> {
        let sockets = (0..sockets).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let mut bound = Bound { kept: BTreeMap::new(), shares: (0..workers).map(|_| Share::new()).collect() };
        let spot = Spot { address: SocketAddr::from(([127, 0, 0, 1], 80)), name: None };
        bound.share_out(spot.clone(), sockets).unwrap();
        bound.shares.iter().map(|share| share[&spot].len()).collect()
    }

    #[test]
    fn every_worker_gets_a_socket_and_every_socket_a_worker() {
        assert_eq!(bound(2, 2), [1, 1]);
        assert_eq!(bound(3, 1), [1, 1, 1]);
        assert_eq!(bound(2, 5), [3, 2]);
    }
}
