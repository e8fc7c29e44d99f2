//! Clients that ask the same paths without end, and how often each status came.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::{Client, pause_for, until};

/// One client for each node and path, with a short pause after each answer.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    seen: Mutex<BTreeMap<(String, u16), usize>>,
}

impl Load {
    pub fn start(addresses: &[SocketAddr], paths: &[&str]) -> Self {
        Self::start_with(addresses, paths, "X-Nothing: 1")
    }

    /// The same with one more header line.
    pub fn start_with(addresses: &[SocketAddr], paths: &[&str], header: &str) -> Self {
        let shared = Arc::<Shared>::default();
        let mut clients = Vec::new();
        for address in addresses.iter().copied() {
            for path in paths {
                let (shared, path, header) = (shared.clone(), (*path).to_owned(), header.to_owned());
                clients.push(thread::spawn(move || shared.ask(address, &path, &header)));
            }
        }
        Self { shared, clients }
    }

    /// How many answers to a path had this status so far.
    pub fn count(&self, path: &str, status: u16) -> usize {
        self.shared.seen.lock().unwrap().get(&(path.to_owned(), status)).copied().unwrap_or_default()
    }

    pub fn wait_for(&self, path: &str, status: u16, count: usize) {
        until(&format!("{count} answers of {status} to {path}"), || (self.count(path, status) >= count).then_some(()));
    }

    /// Waits until so many more answers came, whatever they say.
    pub fn wait_for_more(&self, answers: usize) {
        let total = || self.shared.seen.lock().unwrap().values().sum::<usize>();
        let before = total();
        until("more answers", || (total() >= before + answers).then_some(()));
    }

    /// Waits for the last answers: the statuses that came for a path, and how often.
    pub fn stop(self) -> BTreeMap<String, BTreeMap<u16, usize>> {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        let mut all = BTreeMap::<_, BTreeMap<_, _>>::new();
        for ((path, status), count) in self.shared.seen.lock().unwrap().iter() {
            all.entry(path.clone()).or_default().insert(*status, *count);
        }
        all
    }
}

impl Shared {
    fn ask(&self, address: SocketAddr, path: &str, header: &str) {
        let mut client = Client::connect(address);
        while !self.stop.load(Ordering::SeqCst) {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n{header}\r\n\r\n"));
            let answer = client.receive();
            if answer.status == 429 || answer.status == 503 {
                let wait: u64 = answer.header("retry-after").unwrap_or_else(|| panic!("{answer:?}")).parse().unwrap();
                assert!(wait >= 1, "{answer:?}");
            }
            if answer.header("connection") == Some("close") {
                client = Client::connect(address);
            }
            *self.seen.lock().unwrap().entry((path.to_owned(), answer.status)).or_default() += 1;
            pause_for(Duration::from_millis(2));
        }
    }
}
