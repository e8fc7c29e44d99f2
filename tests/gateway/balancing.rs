//! Several servers of one upstream: who gets a request, who is passed over, and what is too much for all of them.

use crate::support::{Client, Gateway, Load, Reply, Upstream, until};

const GET: &str = "GET /in HTTP/1.1\r\nHost: a\r\n\r\n";

fn gateway(upstreams: &[&Upstream], settings: &str) -> Gateway {
    let servers: Vec<String> = upstreams.iter().map(|upstream| format!("\"{}\"", upstream.url())).collect();
    Gateway::start(&format!(
        "[[upstream]]\nname = \"u\"\nservers = [{}]\n{settings}\n\
         [[api]]\nupstream = \"u\"\ncontract = \"native\"\n[[api.route]]\nname = \"in\"\npath = \"/in\"\npublic = true\n",
        servers.join(", ")
    ))
}

/// The value of a metric of one server.
fn of_server(gateway: &Gateway, metric: &str, upstream: &Upstream) -> f64 {
    let page = gateway.admin("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").body;
    let series = format!("{metric}{{upstream=\"u\",server=\"{}\"}} ", upstream.url());
    page.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or_else(|| panic!("{series}: {page}")).parse().unwrap()
}

/// N15: the server that has a request to answer gets no other one while there is one without.
#[test]
fn a_server_that_is_slow_gets_no_more_while_another_is_free() {
    let (slow, free) = (Upstream::start(), Upstream::start());
    slow.reply(Reply::Silence);
    let gateway = gateway(&[&slow, &free], "");
    let mut waiting = Vec::new();
    for sent in 1..=40 {
        let mut client = Client::connect(gateway.address);
        client.send(GET);
        until("the request", || (slow.count() + free.count() == sent).then_some(()));
        match slow.count() > waiting.len() {
            true => waiting.push(client),
            false => assert_eq!(client.receive().status, 200),
        }
    }
    assert_eq!((slow.count(), free.count()), (1, 39));
    assert_eq!(of_server(&gateway, "gateward_upstream_in_flight", &slow), 1.0);
    assert_eq!(of_server(&gateway, "gateward_upstream_in_flight", &free), 0.0);
}

/// N15: what is too much for an upstream is refused at once and reaches no server; places come back.
#[test]
fn requests_above_the_limit_are_refused_at_once() {
    let upstream = Upstream::start();
    upstream.reply(Reply::Silence);
    let gateway = gateway(&[&upstream], "limits = { requests = 2 }\ntimeouts = { response = \"2s\" }");
    let mut clients = [Client::connect(gateway.address), Client::connect(gateway.address)];
    clients.iter_mut().for_each(|client| client.send(GET));
    until("both requests", || (upstream.count() == 2).then_some(()));
    let refused = gateway.get("/in", &[]);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(gateway.why(&refused), "failed forward upstream_full");
    assert_eq!(clients.each_mut().map(|client| client.receive().status), [504, 504]);
    upstream.reply(Reply::Ok);
    assert_eq!([gateway.get("/in", &[]).status, gateway.get("/in", &[]).status], [200, 200]);
    assert_eq!(upstream.count(), 4);
}

/// N15: five failures in a row put a server out, for all workers; the other one has the requests then.
#[test]
fn a_server_that_fails_over_and_over_is_put_out() {
    let (broken, sound) = (Upstream::start(), Upstream::start());
    broken.reply(Reply::Bytes(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let gateway = gateway(&[&broken, &sound], "balance = \"round_robin\"");
    let statuses: Vec<u16> = (0..60).map(|_| gateway.get("/in", &[]).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 5, "{statuses:?}");
    assert_eq!((broken.count(), sound.count()), (5, 55));
    assert_eq!(of_server(&gateway, "gateward_upstream_up", &broken), 0.0);
    assert_eq!(of_server(&gateway, "gateward_upstream_up", &sound), 1.0);
    assert_eq!(of_server(&gateway, "gateward_upstream_ejections_total", &broken), 1.0);
    assert!(gateway.stderr().contains("fails and is passed over"), "{}", gateway.stderr());
}

/// E8 N15: what may be repeated is sent to another server when one hangs up; with no attempts it is not, and a POST never.
#[test]
fn a_request_is_sent_again_only_as_often_as_allowed() {
    for (attempts, method, fails) in [(1, "GET", false), (0, "GET", true), (1, "POST", true)] {
        let (rude, sound) = (Upstream::start(), Upstream::start());
        rude.reply(Reply::BytesThenClose(Vec::new()));
        let settings = format!("balance = \"round_robin\"\nretries = {{ attempts = {attempts} }}");
        let gateway = gateway(&[&rude, &sound], &settings);
        let failed = (0..30).filter(|_| gateway.request(method, "/in", &[], "").status != 200).count();
        assert_eq!((rude.count(), failed), (5, if fails { 5 } else { 0 }), "{attempts} {method}");
    }
}

/// N15: one of three servers ends under load, and no request that may be repeated fails.
#[test]
fn the_end_of_one_of_three_servers_fails_no_request() {
    let upstreams = [Upstream::start(), Upstream::start(), Upstream::start()];
    let gateway = gateway(&upstreams.each_ref(), "");
    let load = Load::start(&[gateway.address; 4], &["/in"]);
    load.wait_for("/in", 200, 200);
    let [first, others @ ..] = &upstreams;
    // Whoever has a connection sees it end without an answer, and nobody gets a new one.
    first.reply(Reply::BytesThenClose(Vec::new()));
    first.stop();
    load.wait_for_more(400);
    let seen = load.stop();
    assert_eq!(seen["/in"].keys().copied().collect::<Vec<_>>(), [200], "{seen:?}");
    assert!(first.count() > 0 && others.iter().all(|other| other.count() > 0));
}
