//! A Redis Cluster: three masters, each with a replica that takes its place.

use std::net::SocketAddr;

use crate::servers::{Redis, free_address, until};

const MASTERS: usize = 3;
const SLOTS: usize = 16_384;

pub struct Cluster {
    /// Three masters, then their replicas in the same order.
    pub servers: Vec<Redis>,
}

impl Cluster {
    /// A cluster in which all slots have a master and each master has a replica.
    pub fn start() -> Self {
        let buses: Vec<SocketAddr> = (0..2 * MASTERS).map(|_| free_address()).collect();
        let server = |bus: &SocketAddr| {
            let port = bus.port().to_string();
            Redis::start_with(&["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &port])
        };
        let cluster = Self { servers: buses.iter().map(server).collect() };
        // Each with an epoch of its own from the start: otherwise they settle who has which, one after the other.
        for (index, server) in cluster.servers.iter().enumerate() {
            assert_eq!(server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]), "OK");
        }
        for (index, master) in cluster.servers[..MASTERS].iter().enumerate() {
            let (first, next) = (SLOTS * index / MASTERS, SLOTS * (index + 1) / MASTERS);
            let slots = ["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(next - 1).to_string()];
            assert_eq!(master.command(&slots), "OK");
        }
        for (server, bus) in cluster.servers.iter().zip(&buses).skip(1) {
            let (port, bus) = (server.address.port().to_string(), bus.port().to_string());
            assert_eq!(cluster.servers[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]), "OK");
        }
        cluster.replicate();
        cluster
    }

    /// Gives each master its replica and waits until every server agrees that the cluster is whole.
    fn replicate(&self) {
        let (masters, replicas) = self.servers.split_at(MASTERS);
        for (master, replica) in masters.iter().zip(replicas) {
            let id = master.command(&["CLUSTER", "MYID"]);
            until("a meeting of all", || (replica.command(&["CLUSTER", "REPLICATE", &id]) == "OK").then_some(()));
        }
        for replica in replicas {
            until("the first copy", || replica.command(&["INFO", "replication"]).contains("master_link_status:up").then_some(()));
        }
        for server in &self.servers {
            until("a whole cluster", || {
                let info = server.command(&["CLUSTER", "INFO"]);
                let nodes = server.command(&["CLUSTER", "NODES"]);
                let is_whole = info.contains("cluster_state:ok") && nodes.matches("slave ").count() == MASTERS;
                (is_whole && nodes.lines().count() == self.servers.len()).then_some(())
            });
        }
    }

    /// `redis+cluster://host:port,…`
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.servers[..MASTERS].iter().map(|server| server.address.to_string()).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// Ends a master (0 to 2) at once and returns when its replica has its slots and the cluster is whole again.
    pub fn fail_over(&mut self, master: usize) {
        self.servers[master].kill();
        let replica = &self.servers[MASTERS + master];
        until("the promotion", || replica.command(&["ROLE"]).starts_with("master").then_some(()));
        for (_, server) in self.servers.iter().enumerate().filter(|(index, _)| *index != master) {
            let is_ok = || server.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok").then_some(());
            until("a whole cluster", is_ok);
        }
    }

    /// Moves the slot of a key, and the key, from one master to another, in the steps in which it is done by hand: for a while
    /// both have a part of the slot.
    pub fn move_slot(&self, key: &str, from: usize, to: usize) {
        let (source, target) = (&self.servers[from], &self.servers[to]);
        let slot = source.command(&["CLUSTER", "KEYSLOT", key]);
        let [source_id, target_id] = [source, target].map(|server| server.command(&["CLUSTER", "MYID"]));
        assert_eq!(target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]), "OK");
        assert_eq!(source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]), "OK");
        let port = target.address.port().to_string();
        assert_eq!(source.command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]), "OK");
        for server in [target, source] {
            assert_eq!(server.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]), "OK");
        }
    }
}

#[test]
fn a_replica_takes_the_place_of_a_master() {
    let mut cluster = Cluster::start();
    // The slot of `foo` is 12182, the third master's.
    assert_eq!(cluster.servers[2].command(&["SET", "foo", "1"]), "OK");
    assert!(cluster.servers[0].command(&["GET", "foo"]).starts_with("MOVED 12182 127.0.0.1:"));
    cluster.fail_over(2);
    assert_eq!(cluster.servers[5].command(&["SET", "foo", "2"]), "OK");
    cluster.move_slot("foo", 5, 0);
    assert_eq!(cluster.servers[0].command(&["GET", "foo"]), "2");
    assert_eq!(cluster.url().matches("127.0.0.1:").count(), 3);
}
