//! From the host of an upstream to addresses. Remembers them, so that a request waits for DNS only when nothing is known
//! yet; an answer that has grown old is used once more while a new one is fetched.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::watch;
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
    /// The outcome of the last look-up: why it failed, or nothing.
    answers: watch::Sender<Option<String>>,
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
            answers: watch::Sender::new(None),
        })
    }

    /// The addresses to try, in order. However many ask at once, there is one look-up at a time: a name server that is
    /// slow must not find a queue of them.
    ///
    /// # Errors
    /// When the name has never been resolved and cannot be now.
    pub async fn addresses(self: &Rc<Self>) -> io::Result<Vec<SocketAddr>> {
        let known = self.known.borrow().clone();
        let fresh = self.fresh_until.get().is_none_or(|until| Instant::now() < until);
        if fresh && !known.is_empty() {
            return Ok(known);
        }
        let mut answered = self.answers.subscribe();
        if !self.asking.replace(true) {
            let this = self.clone();
            spawn_local(async move {
                let answer = this.ask().await.map_err(|error| error.to_string());
                this.asking.set(false);
                // An error keeps what is known: a name server that is down does not take the upstream with it.
                let _ = this.answers.send(answer.err());
            });
        }
        if !known.is_empty() {
            return Ok(known);
        }
        let failure = match answered.changed().await {
            Ok(()) => answered.borrow_and_update().clone(),
            Err(_) => None,
        };
        failure.map_or_else(|| Ok(self.known.borrow().clone()), |error| Err(io::Error::other(error)))
    }

    async fn ask(&self) -> io::Result<()> {
        let found: Vec<SocketAddr> = lookup_host((self.host.as_str(), self.port)).await?.take(MOST_ADDRESSES).collect();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        self.known.replace(found);
        self.fresh_until.set(Instant::now().checked_add(FRESH));
        Ok(())
    }
}

const FRESH: Duration = Duration::from_secs(30);
const MOST_ADDRESSES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::wire::on_a_worker;

    #[test]
    fn whoever_asks_during_a_look_up_waits_for_that_one() {
        on_a_worker(async {
            // "invalid." never resolves (RFC 6761, section 6.4): what is answered can only come from the look-up that is
            // said to be under way.
            let resolver = Resolver::new("name.invalid.", 80);
            resolver.asking.set(true);
            let address = SocketAddr::from(([192, 0, 2, 1], 80));
            let answer = async {
                assert_eq!(resolver.answers.receiver_count(), 2, "both wait");
                resolver.known.replace(vec![address]);
                resolver.answers.send(None).unwrap();
            };
            let (first, second, ()) = tokio::join!(resolver.addresses(), resolver.addresses(), answer);
            assert_eq!((first.unwrap(), second.unwrap()), (vec![address], vec![address]));
        });
    }

    #[test]
    fn a_failed_look_up_is_told_to_all() {
        on_a_worker(async {
            let resolver = Resolver::new("name.invalid.", 80);
            resolver.asking.set(true);
            let answer = async { resolver.answers.send(Some("no such name".to_owned())).unwrap() };
            let (first, second, ()) = tokio::join!(resolver.addresses(), resolver.addresses(), answer);
            assert_eq!(first.unwrap_err().to_string(), "no such name");
            assert_eq!(second.unwrap_err().to_string(), "no such name");
        });
    }

    #[test]
    fn a_name_that_is_asked_for_twice_at_once_is_known_to_both() {
        on_a_worker(async {
            let resolver = Resolver::new("localhost", 80);
            let (first, second) = tokio::join!(resolver.addresses(), resolver.addresses());
            assert!(first.unwrap().contains(&SocketAddr::from(([127, 0, 0, 1], 80))));
            assert_eq!(second.unwrap().first().map(SocketAddr::port), Some(80));
            assert!(!resolver.asking.get());
        });
    }
}
