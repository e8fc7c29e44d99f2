//! What was forwarded, judged by its bytes: odd requests through a gateway that lets everybody in, to an upstream that
//! reads as strictly as one can.

mod answers;
mod behind;
mod bodies;
mod heads;
mod llhttp;
mod mutations;
mod upstreams;

use crate::support::{Gateway, Message, Talk, Upstream, client_of, in_parallel, index_of};

/// In front of `upstream`, with a public route for every path and almost every method, and little patience.
fn open_to_all(upstream: &str) -> Gateway {
    Gateway::start_with(
        "timeouts = { header = \"500ms\", idle = \"500ms\", body_progress = \"500ms\" }",
        &format!(
            "[[upstream]]\nname = \"u\"\nservers = [\"{}\"]\ntimeouts = {{ response = \"1s\", idle = \"300ms\" }}\n\
             [[api]]\nupstream = \"u\"\ncontract = \"native\"\nendpoints = \"none\"\n\
             [[api.route]]\nname = \"all\"\npath = \"/**\"\nmethods = {METHODS:?}\npublic = true\n\
             [[api.route]]\nname = \"delete\"\npath = \"/in\"\nmethods = [\"DELETE\"]\npublic = true\n",
            upstream
        ),
    )
}

/// A route for every path that also had DELETE would be refused, because it lets everybody do everything.
const METHODS: &[&str] = &[
    "ANNOUNCE", "GET", "HEAD", "LINK", "M-SEARCH", "MKCOLA", "OPTIONS", "PATCH", "POST", "PRI", "PURGE", "PUT", "QUERY",
    "REPORT", "SEARCH", "SOURCE", "UNLINK",
];

/// What a client sends on a connection of its own.
struct Said {
    bytes: Vec<u8>,
    /// Where the pieces end that it comes in.
    cuts: Vec<usize>,
}

/// What became of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    statuses: Vec<u16>,
    /// The requests that the upstream has read because of it.
    forwarded: Vec<Message>,
    /// Beginnings of requests that the upstream has seen, and then the end of the connection.
    cut: Vec<String>,
}

impl Said {
    fn at_once(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), cuts: Vec::new() }
    }

    /// In pieces that end between CR and LF, and in the middle of what is long.
    fn in_pieces(bytes: &[u8]) -> Self {
        let ends = (1..bytes.len()).filter(|at| bytes[at - 1] == b'\r' || at % 64 == 0).take(16).collect();
        Self { bytes: bytes.to_vec(), cuts: ends }
    }
}

/// The status of each answer, all of which are of the gateway's making: it gives each an id, and hyper would not.
fn own_statuses(talk: Talk<'_>, bytes: &[u8]) -> Vec<u16> {
    let what = String::from_utf8_lossy(bytes);
    let answers = talk.answers(bytes).unwrap_or_else(|wrong| panic!("{wrong}: {what:?}"));
    for answer in answers.iter().filter(|answer| answer.status() >= 200) {
        assert_eq!(answer.values("x-request-id").len(), 1, "{what:?} was answered by {answer:?}");
    }
    answers.iter().map(Message::status).collect()
}

/// Sends them all, many at a time. Whose request is whose is told by the address of the client. What is no answer fails
/// the test.
fn send_all(gateway: &Gateway, upstream: &Upstream, all: &[Said]) -> Vec<Outcome> {
    upstream.forget();
    let mut outcomes = in_parallel(all, |index, said| {
        let talk = Talk::to(gateway.address).from(client_of(index)).cut_at(&said.cuts);
        Outcome { statuses: own_statuses(talk, &said.bytes), ..Outcome::default() }
    });
    upstream.wait_until_left();
    for request in upstream.messages() {
        outcomes[index_of(request.values("x-real-ip")[0])].forwarded.push(request);
    }
    for beginning in upstream.unfinished() {
        let client = beginning.split("x-real-ip: ").nth(1).unwrap().lines().next().unwrap();
        outcomes[index_of(client)].cut.push(beginning);
    }
    outcomes
}
