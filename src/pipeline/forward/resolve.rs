//! From the host of an upstream to addresses. Remembers them, so that a request waits for DNS only when nothing is known
//! yet; an answer that has grown old is used once more while a new one is fetched.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::spawn_local;
use tokio::time::Instant;

/// The addresses of one server.
#[derive(Debug)]
pub struct Resolver {
    host: String,
    port: u16,
    known: RefCell<Vec<SocketAddr>>,
    /// `None` for an address, which needs no look-up.
    fresh_until: Cell<Option<Instant>>,
    asking: Cell<bool>,
}

impl Resolver {
    pub fn new(host: &str, port: u16) -> Rc<Self> {
        let literal = host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, port));
        Rc::new(Self {
            host: host.to_owned(),
            port,
            fresh_until: Cell::new(literal.is_none().then(Instant::now)),
            known: RefCell::new(literal.into_iter().collect()),
            asking: Cell::new(false),
        })
    }

    /// The addresses to try, in order.
    ///
    /// # Errors
    /// When the name has never been resolved and cannot be now.
    pub async fn addresses(self: &Rc<Self>) -> io::Result<Vec<SocketAddr>> {
        let known = self.known.borrow().clone();
        let fresh = self.fresh_until.get().is_none_or(|until| Instant::now() < until);
        if known.is_empty() {
            return self.ask().await;
        }
        if !fresh && !self.asking.replace(true) {
            let this = self.clone();
            spawn_local(async move {
                // An error keeps what is known: a name server that is down does not take the upstream with it.
                let _ = this.ask().await;
                this.asking.set(false);
            });
        }
        Ok(known)
    }

    async fn ask(&self) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = lookup_host((self.host.as_str(), self.port)).await?.take(MOST_ADDRESSES).collect();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        self.known.replace(found.clone());
        self.fresh_until.set(Instant::now().checked_add(FRESH));
        Ok(found)
    }
}

const FRESH: Duration = Duration::from_secs(30);
const MOST_ADDRESSES: usize = 16;
