//! Three gateways that count together: what the tests of their counters' faults have in common.

use std::collections::BTreeMap;

use crate::support::{Gateway, Load, Nodes, Upstream};

pub const NODES: usize = 3;
/// What `/local` lets through in a day, over all nodes.
pub const LIMIT: usize = 600;

/// Nodes with three limited routes: `/local`, whose limit is met, and `/closed` and `/open`, whose limits are not.
pub struct Stage {
    pub nodes: Nodes,
    _upstream: Upstream,
    /// How often the counters have been away.
    outages: usize,
}

/// What each path answered, by status.
pub type Seen = BTreeMap<String, BTreeMap<u16, usize>>;

impl Stage {
    /// `timeout` is what a request waits for the counters: 20 ms is the default. Tests that count what the log says give more,
    /// because a busy machine makes a server that is well look slow.
    pub fn start(counters_url: &str, timeout: &str) -> Self {
        let upstream = Upstream::start();
        let route = |name: &str, limit: usize| {
            format!(
                "[[api.route]]\nname = \"{name}\"\npath = \"/{name}\"\npublic = true\nlimits = [\"{name}\"]\n\
                 [[api.limit]]\nname = \"{name}\"\nper = [\"client_ip\"]\nquota = \"{limit} per 24h\"\n\
                 algorithm = \"fixed_window\"\non_outage = \"{name}\"\n"
            )
        };
        let config = format!(
            "[counters]\nurl = \"{counters_url}\"\nnodes = {NODES}\ntimeout = \"{timeout}\"\n\n\
             [[api]]\nupstream = \"{}\"\ncontract = \"native\"\nendpoints = \"none\"\n{}{}{}",
            upstream.url(),
            route("local", LIMIT),
            route("closed", 1_000_000),
            route("open", 1_000_000),
        );
        let stage = Self { nodes: Nodes::on_file(NODES, &config), _upstream: upstream, outages: 0 };
        stage.wait_until_up();
        stage
    }

    pub fn load(&self) -> Load {
        let addresses: Vec<_> = self.nodes.gateways.iter().map(|gateway| gateway.address).collect();
        Load::start(&addresses, &["/local", "/closed", "/open"])
    }

    pub fn wait_until_up(&self) {
        self.nodes.all("the shared counters", |gateway| gateway.metric("gateward_counters_up") == 1.0);
    }

    pub fn wait_until_away(&self) {
        self.nodes.all("the outage", |gateway| gateway.metric("gateward_counters_up") == 0.0);
    }

    /// An outage under load from its beginning to its end. Requests are answered all the while; each node says once that its
    /// counters are away and once that they are back; and no more requests wait for what does not answer than it takes to
    /// see that.
    pub fn suffer(&mut self, what: &str, load: &Load, begin: impl FnOnce(), end: impl FnOnce()) {
        let silent = || self.nodes.gateways.iter().map(|gateway| gateway.metric(TIMED_OUT) as usize).collect::<Vec<_>>();
        let before = silent();
        begin();
        self.wait_until_away();
        load.wait_for_more(120);
        end();
        self.wait_until_up();
        load.wait_for_more(120);
        for (index, (after, before)) in silent().into_iter().zip(before).enumerate() {
            // What was under way when the last of the calls in a row timed out is late too: a call of each client.
            assert!(after - before <= SILENT_CALLS + CLIENTS, "{what}: {} calls of node {index} were late", after - before);
        }
        self.outages += 1;
        for gateway in &self.nodes.gateways {
            let said = (times(gateway, "are away"), times(gateway, "are back after"));
            assert_eq!(said, (self.outages, self.outages), "{what}: {}", gateway.stderr());
        }
    }
}

/// How often a node's log says something.
pub fn times(gateway: &Gateway, what: &str) -> usize {
    gateway.stderr().matches(what).count()
}

/// That nothing else came than what each limit says, and that the limit on `/local` held over all nodes.
pub fn check(seen: &Seen) {
    let statuses = |path: &str| seen[path].keys().copied().collect::<Vec<_>>();
    assert!(statuses("/local").iter().all(|status| [200, 429].contains(status)), "{seen:?}");
    assert!(statuses("/closed").iter().all(|status| [200, 503].contains(status)), "{seen:?}");
    assert_eq!(statuses("/open"), [200], "{seen:?}");
    let allowed = seen["/local"][&200];
    assert!(allowed <= LIMIT * 12 / 10, "{allowed} of {LIMIT} were let through");
    println!("{allowed} of {LIMIT}, {seen:?}");
}

const TIMED_OUT: &str = "gateward_counters_calls_total{outcome=\"timed_out\"}";
/// After so many calls in a row without an answer a connection is given up.
const SILENT_CALLS: usize = 5;
/// Of the load, on each node.
const CLIENTS: usize = 3;
