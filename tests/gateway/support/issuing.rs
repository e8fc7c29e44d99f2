//! Clients that make and revoke API keys without a pause, and a book of what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::{Answer, Client, Gateway, pause_for};

/// Load that goes on through lost connections and answers of 503 until it is stopped.
pub struct Issuing {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Told>>,
}

/// What clients were told.
#[derive(Default)]
pub struct Told {
    /// By the id of the key.
    pub keys: BTreeMap<String, ToldKey>,
    /// Answers of 503.
    pub refused: usize,
    /// Requests whose answer never came.
    pub unanswered: usize,
}

pub struct ToldKey {
    pub secret: String,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Made,
    Revoked,
    /// Nobody was told whether the revocation was done.
    Unclear,
}

/// One client of the load.
struct Issuer {
    address: SocketAddr,
    token: String,
    /// Each key has a name of its own: one that is there twice was issued twice.
    name: String,
    stop: Arc<AtomicBool>,
    told: Told,
}

impl Issuing {
    /// One client for each address. `round` makes the names of the keys others than those of an earlier load.
    pub fn start(addresses: &[SocketAddr], token: &str, round: u32) -> Self {
        let stop = Arc::new(AtomicBool::default());
        let client = |(number, address): (usize, &SocketAddr)| {
            let name = format!("r{round}c{number}");
            let issuer = Issuer { address: *address, token: token.to_owned(), name, stop: stop.clone(), told: Told::default() };
            thread::spawn(move || issuer.run())
        };
        let clients = addresses.iter().enumerate().map(client).collect();
        Self { stop, clients }
    }

    /// Waits for the last answers.
    pub fn stop(self) -> Told {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Told::default();
        for client in self.clients {
            all.add(client.join().unwrap());
        }
        all
    }
}

impl Issuer {
    fn run(mut self) -> Told {
        let mut number = 0;
        while !self.is_over() {
            let Some(mut client) = Client::try_connect(self.address) else {
                pause_for(BREATH);
                continue;
            };
            while !self.is_over() && self.make_one(&mut client, number).is_some() {
                number += 1;
            }
            // The answer of the last one may not have come.
            number += 1;
        }
        self.told
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Makes a key and revokes about every second one; `None` when the connection has ended.
    fn make_one(&mut self, client: &mut Client, number: usize) -> Option<()> {
        let body = format!(r#"{{"name":"{}n{number}"}}"#, self.name);
        let Some(created) = self.ask(client, "POST /api/v1/api-keys", &body)? else { return Some(()) };
        assert_eq!(created.status, 201, "{created:?}");
        let created = created.json();
        let text = |name: &str| created[name].as_str().unwrap().to_owned();
        let (id, secret) = (text("id"), text("key"));
        let is_revoked = secret.as_bytes()[10] % 2 == 0;
        let state = if is_revoked { State::Unclear } else { State::Made };
        assert!(self.told.keys.insert(id.clone(), ToldKey { secret, state }).is_none(), "{id} was given twice");
        if is_revoked {
            let Some(revoked) = self.ask(client, &format!("DELETE /api/v1/api-keys/{id}"), "")? else { return Some(()) };
            assert_eq!(revoked.status, 204, "{revoked:?}");
            self.told.keys.get_mut(&id)?.state = State::Revoked;
        }
        Some(())
    }

    /// `Some(None)` for a 503, which is no answer to the question; `None` when the connection has ended.
    fn ask(&mut self, client: &mut Client, line: &str, body: &str) -> Option<Option<Answer>> {
        let answer = client.try_ask(&format!(
            "{line} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        ));
        let is_whole =
            |answer: &Answer| answer.header("content-length").is_none_or(|length| length == answer.body.len().to_string());
        let Some(answer) = answer.filter(is_whole) else {
            self.told.unanswered += 1;
            return None;
        };
        if answer.status == 503 {
            assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
            self.told.refused += 1;
            pause_for(BREATH);
            return Some(None);
        }
        Some(Some(answer))
    }
}

impl Told {
    pub fn add(&mut self, other: Self) {
        for (id, key) in other.keys {
            assert!(self.keys.insert(id.clone(), key).is_none(), "{id} was given twice");
        }
        self.refused += other.refused;
        self.unanswered += other.unanswered;
    }

    pub fn count(&self, state: State) -> usize {
        self.keys.values().filter(|key| key.state == state).count()
    }

    /// Where a node differs from what clients were told: the keys' ids with the state that was told.
    pub fn broken(&self, gateway: &Gateway) -> Vec<(String, State)> {
        let mut client = Client::connect(gateway.address);
        let mut broken = Vec::new();
        for (id, key) in &self.keys {
            let secret = &key.secret;
            client.send(format!("GET /api/v1/tenants/a/nodes HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {secret}\r\n\r\n"));
            let found = client.receive().status;
            let holds = match key.state {
                State::Made => found == 200,
                State::Revoked => found == 401,
                State::Unclear => found == 200 || found == 401,
            };
            if !holds {
                broken.push((id.clone(), key.state));
            }
        }
        broken
    }

    /// That every key which was told of is in the list of all once, and no name twice, told or not.
    pub fn check_list(&self, gateway: &Gateway, token: &str) {
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for page in 1.. {
            let bearer = format!("Authorization: Bearer {token}");
            let list = gateway.get(&format!("/api/v1/api-keys?page={page}&per_page=500"), &[&bearer]).json();
            let items = list["items"].as_array().unwrap();
            for item in items {
                let text = |name: &str| item[name].as_str().unwrap().to_owned();
                assert!(ids.insert(text("id")), "{item} is there twice");
                assert!(names.insert(text("name")), "{item} was issued twice");
            }
            if items.is_empty() {
                break;
            }
        }
        let lost: Vec<&String> = self.keys.keys().filter(|id| !ids.contains(*id)).collect();
        assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    }
}

const BREATH: Duration = Duration::from_millis(5);
