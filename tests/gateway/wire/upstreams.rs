//! Upstreams that fail, many at a time: what it costs, and what is left of it.

use crate::support::{Gateway, Played, Script, Talk, client_of, in_parallel, until};
use crate::wire::answers::{Heard, heard};

/// Plays the fault that the request's path names.
fn fail(mut played: Played) {
    let Some(head) = played.head() else { return };
    match head.split(['/', ' ']).nth(2).unwrap() {
        "reset-at-once" => played.reset(),
        "reset-in-head" => {
            played.say("HTTP/1.1 200 OK\r\nContent-Le");
            played.reset();
        }
        "reset-in-body" => {
            played.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            played.reset();
        }
        "reset-in-chunk" => {
            played.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf");
            played.reset();
        }
        "silent" => assert_eq!(played.rest(), Some(String::new())),
        "silent-in-body" => {
            played.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            assert_eq!(played.rest(), Some(String::new()));
        }
        "endless-head" => flood(&mut played, "X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", "HTTP/1.1 200 OK\r\n"),
        "endless-value" => flood(&mut played, "aaaaaaaaaaaaaaaa", "HTTP/1.1 200 OK\r\nX-A: "),
        "endless-interim" => flood(&mut played, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", ""),
        "endless-extension" => flood(&mut played, "aaaaaaaaaaaaaaaa", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;"),
        "endless-trailers" => {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
            flood(&mut played, "X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", head);
        }
        other => panic!("no fault is called {other}"),
    }
}

/// Until the gateway has had enough, and at most a GiB.
fn flood(played: &mut Played, piece: &str, start: &str) {
    let block = piece.repeat((64 << 10) / piece.len());
    let mut going = played.say(start);
    let mut sent = 0;
    while going {
        going = played.say(&block);
        sent += block.len();
        assert!(sent < 1 << 30, "the gateway read it all");
    }
}

/// N15: each fault of an upstream is a 502, a 504 or an answer that breaks off; hundreds of them leave no memory and no
/// connection behind.
#[test]
fn failing_upstreams_leave_nothing_behind() {
    let script = Script::start(fail);
    let route = "[[api.route]]\nname = \"all\"\npath = \"/{fault}\"\nmethods = [\"GET\"]\npublic = true\n";
    let api = |host: &str, upstream: &str| {
        format!(
            "[[api]]\nname = \"{host}\"\nhosts = [\"{host}\"]\nupstream = \"{upstream}\"\ncontract = \"native\"\nendpoints = \"none\"\n{route}"
        )
    };
    let gateway = Gateway::start(&format!(
        "[[upstream]]\nname = \"u\"\nservers = [\"{}\"]\ntimeouts = {{ response = \"2s\", idle = \"500ms\" }}\n{}{}",
        script.url(),
        api("a", "u"),
        api("gone", "http://127.0.0.1:1"),
    ));
    let bad_gateway = |heard: &Heard| *heard == Heard::BadGateway;
    let cut = |heard: &Heard| *heard == Heard::Cut;
    let timed_out = |heard: &Heard| matches!(heard, Heard::Whole(504, _));
    let quiet: [Fault; 7] = [
        ("gone", "refused", bad_gateway),
        ("a", "reset-at-once", bad_gateway),
        ("a", "reset-in-head", bad_gateway),
        ("a", "reset-in-body", cut),
        ("a", "reset-in-chunk", cut),
        ("a", "silent", timed_out),
        ("a", "silent-in-body", cut),
    ];
    // One at a time: while one floods, the others are not to be timed.
    let floods: [Fault; 5] = [
        ("a", "endless-head", bad_gateway),
        ("a", "endless-value", bad_gateway),
        ("a", "endless-interim", timed_out),
        ("a", "endless-extension", cut),
        ("a", "endless-trailers", cut),
    ];
    let ask = |index, (host, fault, is_right): &Fault| {
        let request = format!("GET /{fault} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let heard = heard(&Talk::to(gateway.address).from(client_of(index)).answers(request.as_bytes()));
        (!is_right(&heard)).then(|| format!("{fault}: {heard:?}"))
    };
    let before = (gateway.resident_kib(), gateway.open_files());
    let all_quiet: Vec<Fault> = quiet.into_iter().cycle().take(quiet.len() * 30).collect();
    let mut wrong: Vec<String> = in_parallel(&all_quiet, ask).into_iter().flatten().collect();
    wrong.extend(floods.into_iter().cycle().take(floods.len() * 2).filter_map(|fault| ask(0, &fault)));
    assert_eq!(wrong, Vec::<String>::new());
    let after = gateway.resident_kib();
    assert!(after < before.0 + 32 * 1024, "{} KiB grew to {after} KiB", before.0);
    until("the end of every connection", || (gateway.open_files() <= before.1).then_some(()));
}

/// The API, the fault and what the client is to hear.
type Fault = (&'static str, &'static str, fn(&Heard) -> bool);
