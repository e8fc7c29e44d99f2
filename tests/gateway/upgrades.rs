//! A new process takes the place of an old one while requests go on, and sockets that systemd has bound are served.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use crate::support::{Client, Gateway, Load, Reply, Upstream, until};

fn config(upstream: &Upstream) -> String {
    format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"native\"\n[[api.route]]\nname = \"in\"\npath = \"/in\"\npublic = true\n",
        upstream.url()
    )
}

fn with_socket(mut gateway: Gateway, workers: usize) -> Gateway {
    let text = gateway.config().replace("workers = 1\n", &format!("workers = {workers}\nupgrade_socket = \"upgrade.sock\"\n"));
    gateway.write_config(&text);
    gateway.restart();
    gateway
}

/// N8: one process after the other takes over under load, with more workers and with fewer: no request fails, no connection is
/// refused, and the old ones end by themselves.
#[test]
fn processes_take_over_from_each_other_and_no_request_fails() {
    let upstream = Upstream::start();
    let mut gateway = with_socket(Gateway::prepare("", &config(&upstream)), 2);
    let load = Load::start(&[gateway.address], &["/in"; 8]);
    let fresh = Load::start_with(&[gateway.address], &["/in"; 2], "Connection: close");
    load.wait_for_more(50);
    for workers in [3, 2, 1] {
        let text: Vec<String> = gateway.config().lines().map(str::to_owned).collect();
        let line = |line: String| if line.starts_with("workers = ") { format!("workers = {workers}") } else { line };
        gateway.write_config(&text.into_iter().map(|text| line(text) + "\n").collect::<String>());
        let mut old = gateway.succeed();
        fresh.wait_for_more(50);
        assert_eq!(old.wait().unwrap().code(), Some(0), "{}", gateway.stderr());
        load.wait_for_more(50);
    }
    for load in [load, fresh] {
        let answers = load.stop();
        assert_eq!(answers["/in"].keys().collect::<Vec<_>>(), [&200], "{answers:?}");
    }
    let log = gateway.stderr();
    assert_eq!(log.matches("stopping, because another process has taken over").count(), 3, "{log}");
    assert_eq!(log.matches("stopped; every request was finished").count(), 3, "{log}");
    for workers in ["(2 workers)", "(3 workers)", "(1 workers)"] {
        assert!(log.contains(workers), "{workers} in {log}");
    }
    assert_eq!(gateway.admin("GET /readyz").status, 200);
}

/// N8: a request that the old process has begun is answered by it, and whoever cannot take over changes nothing.
#[test]
fn a_successor_that_fails_leaves_the_old_process_as_it_was() {
    let upstream = Upstream::start();
    let mut gateway = with_socket(Gateway::prepare("", &config(&upstream)), 1);
    let good = gateway.config();
    gateway.write_config(&good.replace("contract = \"native\"", "contract = \"nativ\""));
    let output = gateway.cli(&["serve", "--takeover"], "");
    assert_eq!(output.status.code(), Some(78));
    // One that is handed everything and cannot have one more address that it needs.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let more = format!("[[listener]]\nname = \"more\"\naddress = \"{address}\"\n\n[admin]");
    gateway.write_config(&good.replace("[admin]", &more));
    let output = gateway.cli(&["serve", "--takeover"], "");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    until("the word of it", || gateway.stderr().contains("a process that was to take over has not: it ended").then_some(()));
    assert_eq!(gateway.get("/in", &[]).status, 200);
    gateway.write_config(&good);
    upstream.reply(Reply::Slow(Duration::from_secs(1)));
    let mut slow = Client::connect(gateway.address);
    slow.send("GET /in HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request", || (upstream.count() == 2).then_some(()));
    let mut old = gateway.succeed();
    assert_eq!(slow.receive().status, 200);
    assert_eq!(old.wait().unwrap().code(), Some(0));
    upstream.reply(Reply::Ok);
    assert_eq!(gateway.get("/in", &[]).status, 200);
}

/// Without a process to take over from, the start is an ordinary one; without the socket's path it is refused.
#[test]
fn a_takeover_from_nobody_is_a_start() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::prepare("", &config(&upstream));
    let output = gateway.cli(&["serve", "--takeover"], "");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("--takeover needs `server.upgrade_socket`"), "{said}");
    gateway.write_config(&gateway.config().replace("workers = 1\n", "workers = 1\nupgrade_socket = \"upgrade.sock\"\n"));
    gateway.spawn_with(&["--takeover"]);
    gateway.wait_until_ready();
    assert_eq!(gateway.get("/in", &[]).status, 200);
    assert!(gateway.stderr().contains("nobody hands sockets over"), "{}", gateway.stderr());
}

/// Sockets that systemd has bound are served, by as many workers as there are; who connected before the start is served too.
#[test]
fn sockets_of_systemd_are_served() {
    let upstream = Upstream::start();
    let gateway = Gateway::prepare("", &config(&upstream));
    gateway.write_config(&gateway.config().replace("workers = 1\n", "workers = 2\n"));
    let run = |gateway: &Gateway, addresses: &[String]| {
        let mut command = Command::new("systemd-socket-activate");
        addresses.iter().for_each(|address| {
            command.args(["-l", address]);
        });
        command.arg(env!("CARGO_BIN_EXE_gateward")).args(["serve", "--config", "gateway.toml"]);
        command.current_dir(gateway.folder.path()).stdout(std::process::Stdio::null());
        command.stderr(std::fs::File::create(gateway.folder.path().join("stderr.log")).unwrap()).spawn().unwrap()
    };
    let mut child = run(&gateway, &[gateway.address.to_string(), gateway.admin.to_string()]);
    let mut early = until("the socket", || Client::try_connect(gateway.address));
    early.send("GET /in HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(early.receive().status, 200);
    for _ in 0..20 {
        assert_eq!(gateway.get("/in", &[]).status, 200);
    }
    assert_eq!(gateway.admin("GET /readyz").status, 200);
    child.kill().unwrap();
    child.wait().unwrap();
    // A socket that no listener has the address of is said, and nothing is served.
    let other = crate::servers::free_address();
    let mut child = run(&gateway, &[other.to_string()]);
    let _client = until("the socket", || Client::try_connect(other));
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let log = gateway.stderr();
    assert!(log.contains(&format!("sockets were passed for {other}, and no listener of the config has that address")), "{log}");
}

/// systemd hears that the gateway is ready, reloads, is ready again and stops.
#[test]
fn the_service_manager_is_told() {
    let upstream = Upstream::start();
    let gateway = Gateway::prepare("", &config(&upstream));
    let path = gateway.folder.path().join("notify.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let heard = || {
        let mut buffer = [0; 512];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let mut gateway = gateway.limited(&format!("export NOTIFY_SOCKET={} WATCHDOG_USEC=3000000", path.display()));
    gateway.spawn();
    let mut all = vec![heard()];
    gateway.wait_until_ready();
    assert_eq!(gateway.admin("POST /reload").status, 200);
    gateway.signal("TERM");
    while !all.last().unwrap().contains("STOPPING=1") {
        all.push(heard());
    }
    assert_eq!(gateway.wait(), Some(0));
    let is_alive = |word: &String| word.trim() == "WATCHDOG=1";
    assert!(all.iter().any(is_alive), "{all:?}");
    all.retain(|word| !is_alive(word));
    let words: Vec<&str> = all.iter().map(|word| word.lines().next().unwrap()).collect();
    assert_eq!(words, ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]);
    assert!(all[1].contains("\nMONOTONIC_USEC="), "{all:?}");
}
