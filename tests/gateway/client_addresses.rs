//! Who is counted: one client, however many addresses it names or has.

use crate::support::{Client, Gateway, Upstream};

const CLAIMS: &[&str] =
    &["X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP", "X_Forwarded_For"];

fn limited(upstream: &Upstream, listener: &str, quota: &str) -> Gateway {
    Gateway::start_with(
        listener,
        &format!(
            "[[api]]\nupstream = \"{}\"\ncontract = \"native\"\n[[api.route]]\nname = \"open\"\npath = \"/open\"\npublic = true\n\
             limits = [\"edge\"]\n[[api.limit]]\nname = \"edge\"\nper = [\"client_ip\"]\nquota = \"{quota}\"\n\
             algorithm = \"fixed_window\"\n",
            upstream.url()
        ),
    )
}

/// How many counters the limiter holds.
fn cells(gateway: &Gateway) -> f64 {
    let metrics = gateway.admin("GET /metrics").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("gateward_limit_cells "));
    line.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
}

/// M2: a stranger that names another address each time is one client: its own.
#[test]
fn claimed_addresses_of_a_stranger_change_nothing() {
    let upstream = Upstream::start();
    let gateway = limited(&upstream, "", "3 per 1h");
    let ask = |number: usize| {
        let claim = CLAIMS[number % CLAIMS.len()];
        let value = if claim == "Forwarded" { format!("for=10.0.0.{number}") } else { format!("10.0.0.{number}") };
        let answer = gateway.get("/open", &[&format!("{claim}: {value}")]);
        assert_eq!(gateway.logged(&answer)["client_ip"], "127.0.0.1", "{claim}");
        answer.status
    };
    let statuses: Vec<u16> = (0..21).map(ask).collect();
    assert_eq!(statuses, [[200; 3].as_slice(), &[429; 18]].concat());
    assert_eq!((cells(&gateway), upstream.count()), (1.0, 3));
}

/// M4: ten thousand addresses of one IPv6 network are one client and one counter; the next network is the next.
#[test]
fn an_ipv6_network_is_one_client() {
    let upstream = Upstream::start();
    let gateway = limited(&upstream, "trusted_proxies = [\"127.0.0.1/32\"]", "3 per 24h");
    let from = |client: &str| format!("GET /open HTTP/1.1\r\nHost: api.test\r\nX-Forwarded-For: {client}\r\n\r\n");
    let mut client = Client::connect(gateway.address);
    let mut ask = |addresses: &[String]| -> Vec<u16> {
        addresses.iter().map(|address| client.try_ask(&from(address)).unwrap().status).collect()
    };
    let network = |third: u32, hosts: std::ops::Range<u32>| -> Vec<String> {
        hosts.map(|host| format!("2001:db8:0:{third}:{:x}:{:x}::{:x}", host % 7, host >> 3, host * 31 % 65_536)).collect()
    };
    assert_eq!(ask(&network(1, 0..6)), [200, 200, 200, 429, 429, 429]);
    let before = gateway.resident_kib();
    assert!(ask(&network(1, 6..10_000)).iter().all(|status| *status == 429));
    assert_eq!(cells(&gateway), 1.0);
    assert!(gateway.resident_kib() < before + 32 * 1024, "{before} KiB before, {} after", gateway.resident_kib());
    assert_eq!((ask(&network(2, 0..1)), cells(&gateway), upstream.count()), (vec![200], 2.0, 4));
}
