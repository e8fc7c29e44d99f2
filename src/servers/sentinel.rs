//! A Redis server with replicas, and the sentinels that choose another one when it is gone.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::servers::{Redis, free_address, listens, redis_cli, spawn, until};

/// The name by which sentinels know the master.
pub const MASTER: &str = "shared";

pub struct Sentinels {
    /// The first one is the master of the start.
    pub servers: Vec<Redis>,
    sentinels: Vec<Sentinel>,
}

struct Sentinel {
    address: SocketAddr,
    child: Child,
    /// A sentinel keeps its state in its own config file.
    _folder: TempDir,
}

impl Sentinels {
    /// A master with two replicas that have its data, watched by three sentinels that know each other.
    pub fn start() -> Self {
        let master = Redis::start();
        let port = master.address.port().to_string();
        let replica = || Redis::start_with(&["--replicaof", "127.0.0.1", &port]);
        let servers = vec![master, replica(), replica()];
        for replica in &servers[1..] {
            until("the first copy", || replica.command(&["INFO", "replication"]).contains("master_link_status:up").then_some(()));
        }
        let sentinels = (0..3).map(|_| Sentinel::start(servers[0].address)).collect();
        let started = Self { servers, sentinels };
        for sentinel in &started.sentinels {
            until("sentinels that know each other", || {
                let known = sentinel.master();
                let says = |name: &str, value: &str| known.contains(&format!("{name}\n{value}\n"));
                (says("num-slaves", "2") && says("num-other-sentinels", "2")).then_some(())
            });
        }
        started
    }

    /// `redis+sentinel://host:port,…/NAME`
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.sentinels.iter().map(|sentinel| sentinel.address.to_string()).collect();
        format!("redis+sentinel://{}/{MASTER}", addresses.join(","))
    }

    /// Which of the servers the first sentinel takes for the master now.
    pub fn master(&self) -> usize {
        let told = redis_cli(self.sentinels[0].address, &["SENTINEL", "get-master-addr-by-name", MASTER]);
        let port = told.lines().nth(1).and_then(|port| port.parse().ok());
        let index = self.servers.iter().position(|server| Some(server.address.port()) == port);
        index.unwrap_or_else(|| panic!("no server of ours: {told}"))
    }

    /// Ends the master at once and returns when another one takes writes and every sentinel says so: its index.
    pub fn fail_over(&mut self) -> usize {
        let old = self.master();
        self.servers[old].kill();
        self.promoted_after(old)
    }

    /// Waits until another server than `old` is the master for every sentinel, and takes writes.
    pub fn promoted_after(&self, old: usize) -> usize {
        let old_port = format!("port\n{}\n", self.servers[old].address.port());
        for sentinel in &self.sentinels {
            until("another master", || (!sentinel.master().contains(&old_port)).then_some(()));
        }
        let new = self.master();
        until("its promotion", || self.servers[new].command(&["ROLE"]).starts_with("master").then_some(()));
        new
    }
}

impl Sentinel {
    fn start(master: SocketAddr) -> Self {
        let address = free_address();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("sentinel.conf");
        let text = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nsentinel monitor {MASTER} 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds {MASTER} 500\nsentinel failover-timeout {MASTER} 2000\n",
            address.port(),
            folder.path().display(),
            master.port(),
        );
        fs::write(&config, text).unwrap();
        let log = File::create(folder.path().join("sentinel.log")).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(&config).arg("--sentinel").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = spawn(&mut command, "redis-server");
        until("the start of a sentinel", || listens(address).filter(|_| redis_cli(address, &["PING"]) == "PONG"));
        Self { address, child, _folder: folder }
    }

    /// All that it knows of the master, a name or a value on each line.
    fn master(&self) -> String {
        redis_cli(self.address, &["SENTINEL", "master", MASTER])
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sentinels_choose_another_master() {
    let mut sentinels = Sentinels::start();
    assert_eq!(sentinels.master(), 0);
    assert_eq!(sentinels.servers[0].command(&["SET", "k", "1"]), "OK");
    let new = sentinels.fail_over();
    assert_ne!(new, 0);
    assert_eq!(sentinels.servers[new].command(&["SET", "k", "2"]), "OK");
    assert!(sentinels.url().starts_with("redis+sentinel://127.0.0.1:") && sentinels.url().ends_with("/shared"));
}
