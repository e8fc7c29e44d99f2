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
        "[[upstream]]\nname = \"u\"\nservers = [\"{}\"]\ntimeouts = {{ response = \"1s\", idle = \"500ms\" }}\n{}{}",
        script.url(),
        api("a", "u"),
        api("gone", "http://127.0.0.1:1"),
    ));
    let timed_out = |status: &Heard| matches!(status, Heard::Whole(504, _));
    let faults: [(&str, &str, fn(&Heard) -> bool); 12] = [
        ("gone", "refused", |heard| *heard == Heard::BadGateway),
        ("a", "reset-at-once", |heard| *heard == Heard::BadGateway),
        ("a", "reset-in-head", |heard| *heard == Heard::BadGateway),
        ("a", "reset-in-body", |heard| *heard == Heard::Cut),
        ("a", "reset-in-chunk", |heard| *heard == Heard::Cut),
        ("a", "silent", timed_out),
        ("a", "silent-in-body", |heard| *heard == Heard::Cut),
        ("a", "endless-head", |heard| *heard == Heard::BadGateway),
        ("a", "endless-value", |heard| *heard == Heard::BadGateway),
        ("a", "endless-interim", timed_out),
        ("a", "endless-extension", |heard| *heard == Heard::Cut),
        ("a", "endless-trailers", |heard| *heard == Heard::Cut),
    ];
    let asked: Vec<_> = faults.iter().cycle().take(faults.len() * 20).collect();
    let before = (gateway.resident_kib(), gateway.open_files());
    let wrong: Vec<String> = in_parallel(&asked, |index, (host, fault, is_right)| {
        let request = format!("GET /{fault} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let heard = heard(Talk::to(gateway.address).from(client_of(index)).answers(request.as_bytes()));
        (!is_right(&heard)).then(|| format!("{fault}: {heard:?}"))
    })
    .into_iter()
    .flatten()
    .collect();
    assert_eq!(wrong, Vec::<String>::new());
    let after = gateway.resident_kib();
    assert!(after < before.0 + 32 * 1024, "{} KiB grew to {after} KiB", before.0);
    until("the end of every connection", || (gateway.open_files() <= before.1).then_some(()));
}
