//! The inputs of llhttp's own tests, a strict parser's: what it takes and what it refuses, and what the gateway does.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::{Upstream, vectors};
use crate::wire::{Outcome, Said, open_to_all, send_all};

/// Where the gateway and llhttp differ: the input, how many requests the gateway forwards, and why.
const DIFFERENCES: &[(&str, usize, &str)] = &[
    // llhttp takes each; how many the input holds is not in the vectors.
    ("`keep-alive` / Restarting when keep-alive is explicitly", 2, TWO),
    ("Should parse multiple events", 3, "it holds three requests"),
    // llhttp refuses these for what follows a sound request. The request is served, what follows is not.
    ("`keep-alive` / No restart when keep-alive is off (1.0)", 1, AFTER_CLOSE),
    ("`keep-alive` / Resetting flags when keep-alive is off (1.0, lenient)", 1, AFTER_CLOSE),
    ("`close` / CRLF between requests, explicit `close` (lenient)", 1, AFTER_CLOSE),
    ("Second request header value (lenient)", 1, "only the second request is wrong"),
    // llhttp knows a list of methods; here the route decides.
    ("ICE protocol and GET method / HTTP protocol and ANNOUNCE method", 1, METHOD),
    ("ICE protocol and GET method / Invalid method", 1, METHOD),
    // No extension has a meaning here, and none is forwarded: they are passed over, whatever they hold.
    ("`chunked` / No extension after semicolon", 1, EXTENSION),
    ("`chunked` / Unbalanced chunk extensions quoting", 1, EXTENSION),
    // The input ends in the middle of the body, and llhttp has not been told that it ended.
    ("Spaces in `Content-Length` (surrounding)", 0, HALF),
    ("Spaces in `Content-Length` (surrounding) / Tabs in `Content-Length` (surrounding)", 0, HALF),
    ("Content-Length reset when no body is received", 0, HALF),
    ("It should be unsafe to finish after incomplete PUT request", 0, HALF),
    ("`chunked` / Parsing and setting flag", 0, HALF),
    ("It should be unsafe to finish inside of the header", 0, "completed, the last line has no colon"),
    // The gateway is stricter.
    ("REPORT request / CONNECT request", 0, CONNECT),
    ("REPORT request / CONNECT request with CAPS", 0, CONNECT),
    ("REPORT request / CONNECT with body", 0, CONNECT),
    ("Underscore in hostname", 0, CONNECT),
    ("REPORT request / M-SEARCH request", 0, "`*` is no path"),
    ("REPORT request / PRI request HTTP2", 0, "the beginning of an HTTP/2 connection (C16)"),
    ("REPORT request / SOURCE request with ICE", 0, NO_HTTP),
    ("REPORT request / OPTIONS request with RTSP", 0, NO_HTTP),
    ("REPORT request / ANNOUNCE request with RTSP", 0, NO_HTTP),
    ("No HTTP version", 0, "HTTP/0.9 (C16)"),
    ("curl GET", 0, HOST),
    ("Firefox GET", 0, HOST),
    ("Quotes in URI", 0, "RFC 3986 has no `\"` in a path"),
    ("Host terminated by a query string", 0, OTHER_HOST),
    ("`host:port` terminated by a query string", 0, OTHER_HOST),
    ("`host:port` terminated by a space", 0, OTHER_HOST),
    ("`host:port` and basic auth", 0, USER),
    ("URL / Complex URL with basic auth from node.js url parser doc", 0, USER),
    ("URL / Proxy basic auth with url encoded space", 0, USER),
    ("URL / Proxy basic auth with unreserved chars", 0, USER),
    ("URL / IPv6 address with Zone ID", 0, ZONE),
    ("URL / IPv6 address with Zone ID, but `%` is not percent-encoded", 0, ZONE),
    ("Fragment in URI", 0, FRAGMENT),
    ("URL / Absolute URL", 0, FRAGMENT),
    ("URL / Relative URL", 0, FRAGMENT),
    ("URL / URL fragment", 0, FRAGMENT),
    ("URL / Complex URL fragment", 0, FRAGMENT),
    ("URL / Complex URL from node.js url parser doc", 0, FRAGMENT),
    ("POST with `chunked` as last transfer-encoding", 0, CODINGS),
    ("POST with `chunked` as last transfer-encoding (multiple headers)", 0, CODINGS),
];

const TWO: &str = "it holds two requests";
const AFTER_CLOSE: &str = "what follows the last request of a connection is not read";
const METHOD: &str = "a route may have any method";
const EXTENSION: &str = "chunk extensions end at the line's end";
const HALF: &str = "half a request is never a whole one";
const CONNECT: &str = "the gateway is no tunnel";
const NO_HTTP: &str = "no HTTP";
const HOST: &str = "the Host is no host with a port";
const OTHER_HOST: &str = "the target names another host than the Host line";
const USER: &str = "no user name in a target (RFC 9110, section 4.2.4)";
const ZONE: &str = "a zone means something on one machine only (RFC 9844)";
const FRAGMENT: &str = "a fragment is never sent (A4)";
const CODINGS: &str = "a coding beside `chunked` would not reach the upstream (C2)";

/// Refused for their bodies, whose heads had been forwarded by then: the upstream sees them break off.
const BROKEN_OFF: &[&str] = &[
    "Content-Length reset when no body is received",
    "Invalid OBS fold after chunked value / Chunk data not terminated by CRLF",
    "Invalid OBS fold after chunked value / Chunk data not terminated by CRLF (lenient)",
    "It should be unsafe to finish after incomplete PUT request",
    "Missing last-chunk",
    "Spaces in `Content-Length` (surrounding)",
    "Spaces in `Content-Length` (surrounding) / Tabs in `Content-Length` (surrounding)",
    "`chunked` / Parsing and setting flag",
];

struct Input {
    name: String,
    bytes: Vec<u8>,
    /// How many requests are to be forwarded.
    expected: usize,
}

/// The rows whose type begins with `kind`; those without a type are bare URLs.
pub fn rows(vectors: &Value, kind: &str) -> Vec<(String, Vec<u8>, bool)> {
    let row = |row: &Value| {
        let kind = row["meta"]["type"].as_str().unwrap_or("url");
        // 21 to 23 are pauses. What only a lenient mode takes is to be refused.
        let refused = !matches!(row["error"]["code"].as_u64(), None | Some(21..=23)) || kind.contains("lenient");
        (kind.to_owned(), row["name"].as_str().unwrap().to_owned(), row["input_b64"].as_str().unwrap().to_owned(), refused)
    };
    let rows = vectors["tests"].as_array().unwrap().iter().map(row);
    rows.filter(|(found, ..)| found.starts_with(kind))
        .map(|(_, name, bytes, refused)| (name, STANDARD.decode(bytes).unwrap(), refused))
        .collect()
}

/// The inputs stop where llhttp has seen enough. Here they get their end, and the Host that llhttp does not ask for.
fn completed(bytes: &[u8]) -> Vec<u8> {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).chain("\r\n\r\n".chars()).collect();
    if text.to_lowercase().contains("host:") {
        return latin(&text);
    }
    latin(&text.replace(" HTTP/1.1\r\n", " HTTP/1.1\r\nHost: a\r\n").replace(" HTTP/1.0\r\n", " HTTP/1.0\r\nHost: a\r\n"))
}

fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|letter| u8::try_from(letter).unwrap()).collect()
}

fn asking_for(url: &[u8]) -> Vec<u8> {
    let url = String::from_utf8(url.to_vec()).unwrap();
    let authority = url.split_once("://").map_or("a", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap());
    let host = authority.rsplit('@').next().unwrap();
    format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

/// The same for those who only want what is sent.
pub fn named_inputs(vectors: &Value) -> Vec<(String, Vec<u8>)> {
    inputs(vectors).into_iter().map(|input| (input.name, input.bytes)).collect()
}

fn inputs(vectors: &Value) -> Vec<Input> {
    let requests = rows(vectors, "request").into_iter().map(|(name, bytes, refused)| (name, completed(&bytes), refused));
    let urls = rows(vectors, "url").into_iter().map(|(name, url, refused)| (format!("URL / {name}"), asking_for(&url), refused));
    let input = |(name, bytes, refused): (String, Vec<u8>, bool)| {
        let different = DIFFERENCES.iter().find(|(known, ..)| *known == name).map(|(_, count, _)| *count);
        let expected = different.unwrap_or(usize::from(!refused));
        assert!(different != Some(usize::from(!refused)), "{name}: no difference");
        Input { name, bytes, expected }
    };
    requests.chain(urls).map(input).collect()
}

fn told(outcome: &Outcome) -> String {
    let lines: Vec<&str> = outcome.forwarded.iter().map(|request| request.start.as_str()).collect();
    format!("answered {:?}, forwarded {lines:?}", outcome.statuses)
}

/// C9: what llhttp refuses is refused, what it takes is forwarded as one request that can only be read in one way; and
/// it is the same however the bytes are cut.
#[test]
fn the_gateway_reads_what_a_strict_parser_reads() {
    let Some(vectors) = vectors("llhttp/llhttp_tests.json") else { return };
    let inputs = inputs(&vectors);
    let names: BTreeSet<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    let listed = DIFFERENCES.iter().map(|(name, ..)| *name);
    assert_eq!(listed.filter(|name| !names.contains(name)).collect::<Vec<_>>(), Vec::<&str>::new());

    let upstream = Upstream::start();
    let gateway = open_to_all(&upstream.url());
    let send = |cut: fn(&[u8]) -> Said| {
        let all: Vec<Said> = inputs.iter().map(|input| cut(&input.bytes)).collect();
        send_all(&gateway, &upstream, &all)
    };
    let whole = send(Said::at_once);
    let pieces = send(Said::in_pieces);
    let (mut wrong, mut broken_off) = (Vec::new(), BTreeSet::new());
    for (input, (outcome, again)) in inputs.iter().zip(whole.iter().zip(&pieces)) {
        let (good, bad) = outcome.statuses.split_at_checked(input.expected).unwrap_or_default();
        let right = outcome.forwarded.len() == input.expected
            && good.len() == input.expected
            && good.iter().all(|status| *status == 200)
            && bad.iter().all(|status| matches!(status, 400 | 408));
        if !right {
            wrong.push(format!("{}: {} expected, {}", input.name, input.expected, told(outcome)));
        }
        if told(again) != told(outcome) {
            wrong.push(format!("{}: at once {}, in pieces {}", input.name, told(outcome), told(again)));
        }
        if !outcome.cut.is_empty() {
            broken_off.insert(input.name.as_str());
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(broken_off.into_iter().collect::<Vec<_>>(), BROKEN_OFF);
}
