//! For tests: real servers as child processes, each in a folder and on a port of its own. They end with their value.
//! Shared by the library's own tests and by those that see the gateway from outside.

mod cluster;
mod postgres;
mod redis;
mod sentinel;

use std::hash::{BuildHasher as _, RandomState};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

pub use self::redis::Redis;
pub use cluster::Cluster;
pub use postgres::{Postgres, Replication};
pub use sentinel::Sentinels;

/// An address that nobody has now. Below the ports that the system gives to outgoing connections: one of those could take
/// it before the server does.
pub fn free_address() -> SocketAddr {
    let chance = RandomState::new();
    let port = |attempt: u64| 10_000 + u16::try_from(chance.hash_one(attempt) % 20_000).unwrap();
    let mut addresses = (0..100).map(|attempt| SocketAddr::from(([127, 0, 0, 1], port(attempt))));
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("a free port")
}

/// Starts a program that a Debian package brings.
fn spawn(command: &mut Command, package: &str) -> Child {
    let name = command.get_program().to_string_lossy().into_owned();
    command.spawn().unwrap_or_else(|error| panic!("{name}: {error}; it is in Debian's package {package}"))
}

/// Asks until there is an answer; at most ten seconds.
#[expect(clippy::disallowed_methods, reason = "a test waits for a server of another process")]
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what} took more than ten seconds");
        // waits for: another process; the whole wait is bounded above
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn listens(address: SocketAddr) -> Option<TcpStream> {
    TcpStream::connect(address).ok()
}

/// What `redis-cli` prints of a command.
fn redis_cli(address: SocketAddr, words: &[&str]) -> String {
    let output = Command::new("redis-cli").args(["-p", &address.port().to_string()]).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("redis-cli: {error}; it is in Debian's package redis-tools"));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Sends a signal, by the name that `kill` knows it by.
fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success(), "kill -{name}");
}
