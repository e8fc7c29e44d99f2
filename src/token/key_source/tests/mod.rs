//! Key sources against real sockets.

mod discovered;

use std::thread;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::task::yield_now;
use tokio::time::{advance, timeout};

use super::*;
use crate::observe::samples::Kept;
use crate::outbound::Trust;
use crate::outbound::scripted::{Reply, Server};

const ISSUER: &str = "https://login.test";
const DAY: Duration = Duration::from_hours(24);

/// A set with a key for each of these names.
fn jwks(kids: &[&str]) -> String {
    let key = |kid| {
        let pair = Ed25519KeyPair::generate().unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x })
    };
    json!({ "keys": kids.iter().map(key).collect::<Vec<_>>() }).to_string()
}

/// Says these bodies in turn, and the last one from then on.
fn saying(bodies: &[&str]) -> impl FnMut(&str) -> Reply + Send + 'static {
    let mut rest: Vec<String> = bodies.iter().rev().map(|&body| body.to_owned()).collect();
    move |_| match rest.len() {
        1 => Reply::ok(&rest[0]),
        _ => Reply::ok(rest.pop().unwrap()),
    }
}

/// A good set the first time, and status 500 from then on.
fn failing_after(first: &str) -> impl FnMut(&str) -> Reply + Send + 'static {
    let mut first = Some(first.to_owned());
    move |_| first.take().map_or_else(|| Reply::with("500 Internal Server Error", "", ""), Reply::ok)
}

fn fetching(place: KeyPlace) -> Fetching {
    Fetching {
        place,
        client: Client::new(&Trust { ca_file: None, allow_private: true }).unwrap(),
        algorithms: vec![JwsAlgorithm::EdDsa],
        refresh_interval: Duration::from_mins(10),
        max_stale: DAY,
    }
}

fn source(server: &Server) -> Arc<KeySource> {
    KeySource::fetched(ISSUER, fetching(KeyPlace::Url(server.url("http", "/keys?secret=1"))))
}

fn keys(source: &KeySource) -> Arc<Keys> {
    source.current(clock::now().wall).unwrap()
}

fn miss(source: &KeySource, kid: &str) -> Miss {
    source.miss(kid, clock::now().tick)
}

/// Runs the loop while `test` runs, and sees it end afterwards.
async fn with_loop<T>(source: &Arc<KeySource>, test: impl Future<Output = T>) -> T {
    let (stop, stopping) = watch::channel(false);
    let test = async {
        let outcome = test.await;
        stop.send(true).unwrap();
        outcome
    };
    let both = async { tokio::join!(source.clone().run(stopping), test).1 };
    timeout(Duration::from_secs(20), both).await.expect("the loop stops when it is told to")
}

async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        // waits for: the condition
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn keys_are_fetched_and_shown_without_their_secrets() {
    let mut body: serde_json::Value = serde_json::from_str(&jwks(&["a"])).unwrap();
    body["keys"].as_array_mut().unwrap().push(json!({ "kty": "XYZ", "kid": "x" }));
    let server = Server::http(saying(&[&body.to_string()]));
    let source = source(&server);
    assert_eq!(source.refresh_now().await, Ok(()));
    let found = keys(&source);
    assert_eq!((found.set.knows("a"), found.set.knows("x"), found.generation), (true, false, 1));
    let now = clock::now();
    let status = source.status(now);
    assert_eq!((status.issuer.as_str(), status.usable, status.generation), (ISSUER, true, Some(1)));
    assert_eq!(status.url, Some(server.url("http", "/keys")));
    assert_eq!(status.keys, [KeyLine { kid: "a".to_owned(), algorithms: vec!["EdDSA"] }]);
    assert!(matches!(status.skipped.as_slice(), [why] if why.starts_with("key \"x\": ")), "{:?}", status.skipped);
    assert_eq!(status.fetched_at, Some(found.fetched_at.rfc3339()));
    assert_eq!(status.usable_until, Some(found.fetched_at.plus(DAY).rfc3339()));
    let next = Timestamp::parse_rfc3339(&status.next_refresh.unwrap()).unwrap();
    let minutes = |count| now.wall.plus(Duration::from_mins(count));
    assert!(minutes(8) < next && next < minutes(12), "{next}");
    assert_eq!(status.last_error, None);
}

#[tokio::test]
async fn the_generation_grows_only_with_a_set_that_differs() {
    let (one, two) = (jwks(&["a"]), jwks(&["a", "b"]));
    let server = Server::http(saying(&[&one, &one, &two, &two, &one]));
    let source = source(&server);
    let mut generations = Vec::new();
    for _ in 0..5 {
        source.refresh_now().await.unwrap();
        generations.push(keys(&source).generation);
    }
    assert_eq!(generations, [1, 1, 2, 2, 3]);
}

/// G4 G8
#[tokio::test]
async fn an_answer_without_keys_leaves_the_old_ones() {
    let many = jwks(&["k"; 101]);
    let vast = format!("{}{}", " ".repeat(512 << 10), jwks(&["a"]));
    let unread = "the key set is no JSON object that can be read in one way only";
    let bad = [
        ("<!doctype html><title>Sign in</title>", unread),
        ("{\"keys\":[", unread),
        ("{\"keys\":[],\"keys\":[]}", unread),
        ("{}", "the key set has no list `keys` (RFC 7517, section 5)"),
        (&many, "the key set lists 101 keys; at most 100 are read"),
        (&vast, "the answer of localhost has more than 524288 bytes"),
    ];
    let good = jwks(&["a"]);
    let bodies: Vec<&str> = std::iter::once(good.as_str()).chain(bad.iter().map(|(body, _)| *body)).collect();
    let server = Server::http(saying(&bodies));
    let source = source(&server);
    source.refresh_now().await.unwrap();
    let before = keys(&source);
    for (body, expected) in bad {
        assert_eq!(source.refresh_now().await, Err(expected.to_owned()), "{:.80}", body);
        assert_eq!(source.status(clock::now()).last_error.as_deref(), Some(expected));
        assert!(Arc::ptr_eq(&before, &keys(&source)));
    }
}

/// G4: a set without a key for us is an answer: what the issuer takes back is not gone on with, and what its tokens are worth
/// nobody can say.
#[tokio::test]
async fn an_issuer_can_take_its_keys_back() {
    let good = jwks(&["a"]);
    let server = Server::http(saying(&[&good, "{\"keys\":[]}", &good]));
    let source = source(&server);
    source.refresh_now().await.unwrap();
    let before = keys(&source);
    assert_eq!(source.refresh_now().await, Err("no key of the key set can be used ()".to_owned()));
    let none = source.current(clock::now().wall).unwrap_err();
    assert!(none.detail.contains("the issuer shows none that can be used"), "{}", none.detail);
    source.refresh_now().await.unwrap();
    assert!(keys(&source).generation > before.generation);
}

/// G7: the old keys go on to the hard limit, and what comes after is no verdict on a token.
#[tokio::test]
async fn keys_end_when_they_are_too_old() {
    let server = Server::http(failing_after(&jwks(&["a"])));
    let source = source(&server);
    let none = |why: &str| Err(NoKeys { detail: format!("no keys of the issuer {ISSUER}: {why}") });
    let outcome = |now| source.current(now).map(|keys| keys.generation);
    let start = clock::now().wall;
    assert_eq!(outcome(start), none("none were fetched yet. The first fetch is not over"));
    assert!(!source.status(clock::now()).usable);
    source.refresh_now().await.unwrap();
    assert_eq!(source.refresh_now().await, Err("localhost answered 500 Internal Server Error".to_owned()));
    let fetched_at = keys(&source).fetched_at;
    assert_eq!(outcome(fetched_at.plus(DAY)), Ok(1));
    let late = fetched_at.plus(DAY + Duration::from_millis(1));
    let why = format!("those of {fetched_at} are too old. Last failure: localhost answered 500 Internal Server Error");
    assert_eq!(outcome(late), none(&why));
    let now = clock::now();
    let is_usable = |wall| source.status(Now { wall, ..now }).usable;
    assert_eq!((is_usable(fetched_at.plus(DAY)), is_usable(late)), (true, false));
}

/// G7: what a request asks is answered while a host swallows everything; nothing here can wait.
#[tokio::test]
async fn during_a_fetch_that_hangs_the_old_keys_are_there() {
    let mut first = Some(jwks(&["a"]));
    let server = Server::http(move |_| first.take().map_or(Reply::Silence, Reply::ok));
    let source = source(&server);
    source.refresh_now().await.unwrap();
    tokio::select! {
        biased;
        outcome = source.refresh_now() => panic!("{outcome:?}"),
        () = until(|| server.count() == 2) => {
            assert!(keys(&source).set.knows("a"));
            assert_eq!(miss(&source, "b"), Miss::Pending, "it may bring this one");
        }
    }
    // Whoever asked for it has gone: it is no longer under way, and the next one is not held up.
    assert!(source.remote.as_ref().unwrap().turn.try_lock().is_ok_and(|_| true), "somebody still holds the turn");
    assert_eq!(miss(&source, "b"), Miss::Pending);
    assert_eq!(source.remote.as_ref().unwrap().progress().schedule.due().1, Cause::Kid);
}

/// G1
#[tokio::test]
async fn ten_thousand_made_up_kids_have_one_fetch_made_and_good_keys_stay() {
    let server = Server::http(failing_after(&jwks(&["a"])));
    let source = source(&server);
    with_loop(&source, async {
        until(|| source.current(clock::now().wall).is_ok()).await;
        for number in 0..10_000 {
            assert_eq!(miss(&source, &format!("made-up-{number}")), Miss::Pending);
            if number % 100 == 0 {
                yield_now().await;
            }
        }
        until(|| source.status(clock::now()).last_error.is_some()).await;
        for number in 0..1000 {
            assert_eq!(miss(&source, &format!("again-{number}")), Miss::Pending);
            yield_now().await;
        }
        assert_eq!(keys(&source).generation, 1);
        assert!(keys(&source).set.knows("a"));
    })
    .await;
    assert_eq!(server.count(), 2);
}

/// F15: the new key is asked for once, and nobody is told that it does not exist; the old one is gone with that.
#[tokio::test]
async fn a_changed_key_is_fetched_once_however_many_ask() {
    let server = Server::http(saying(&[&jwks(&["old"]), &jwks(&["new"])]));
    let source = source(&server);
    with_loop(&source, async {
        until(|| source.current(clock::now().wall).is_ok()).await;
        let askers: Vec<_> = (0..8)
            .map(|_| {
                let source = source.clone();
                thread::spawn(move || {
                    let mut answers = Vec::new();
                    while !keys(&source).set.knows("new") {
                        answers.push(miss(&source, "new"));
                    }
                    answers
                })
            })
            .collect();
        until(|| askers.iter().all(thread::JoinHandle::is_finished)).await;
        for asker in askers {
            let answers = asker.join().unwrap();
            assert!(answers.iter().all(|answer| *answer == Miss::Pending), "one of {} said unknown", answers.len());
        }
        assert_eq!((keys(&source).set.knows("old"), keys(&source).generation), (false, 2));
        assert_eq!(miss(&source, "old"), Miss::Unknown, "fresh keys do not have it");
    })
    .await;
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn a_kid_that_the_issuer_does_not_have_is_unknown_after_one_fetch() {
    let server = Server::http(saying(&[&jwks(&["a"])]));
    let source = source(&server);
    with_loop(&source, async {
        until(|| source.current(clock::now().wall).is_ok()).await;
        assert_eq!(miss(&source, "b"), Miss::Pending);
        until(|| miss(&source, "b") == Miss::Unknown).await;
        assert_eq!(miss(&source, "b"), Miss::Unknown);
    })
    .await;
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn keys_are_fetched_again_by_themselves() {
    let server = Server::http(saying(&[&jwks(&["a"]), &jwks(&["b"])]));
    let place = KeyPlace::Url(server.url("http", "/keys"));
    let source = KeySource::fetched(ISSUER, Fetching { refresh_interval: Duration::from_millis(20), ..fetching(place) });
    with_loop(&source, until(|| server.count() >= 4)).await;
    assert!(keys(&source).set.knows("b"));
}

/// G3 G7: an hour with an issuer that is not to be asked at all.
#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_ever_more_seldom() {
    let source = KeySource::fetched(ISSUER, fetching(KeyPlace::Url("https://169.254.169.254/latest".to_owned())));
    let begun = || source.remote.as_ref().unwrap().progress().schedule.begun();
    with_loop_paused(&source, async {
        until(|| begun() > 0).await;
        advance(Duration::from_millis(500)).await;
        assert_eq!(begun(), 1);
        for _ in 0..3600 {
            advance(Duration::from_secs(1)).await;
            yield_now().await;
        }
    })
    .await;
    // 1, 2, 4, 8, 16, 32 s, and a minute from then on, each ten percent more or less.
    assert!((59..=73).contains(&begun()), "{}", begun());
    let expected = "169.254.169.254 has the address 169.254.169.254, which is link-local: nothing is fetched from there";
    assert_eq!(source.status(clock::now()).last_error.as_deref(), Some(expected));
}

/// As `with_loop`, without a limit of time: the clock of the test jumps.
async fn with_loop_paused(source: &Arc<KeySource>, test: impl Future<Output = ()>) {
    let (_stop, stopping) = watch::channel(false);
    tokio::select! {
        () = source.clone().run(stopping) => panic!("the loop ended"),
        () = test => {}
    }
}

#[tokio::test]
async fn whoever_waits_for_a_fetch_that_began_after_the_call_makes_none() {
    let server = Server::http(saying(&[&jwks(&["a"])]));
    let source = source(&server);
    let refresh = || source.refresh_now();
    let outcomes = tokio::join!(refresh(), refresh(), refresh(), refresh());
    assert_eq!(outcomes, (Ok(()), Ok(()), Ok(()), Ok(())));
    // The first one had begun when the others asked: one more is made, for the three of them.
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn fixed_keys_are_there_and_ask_nobody() {
    let source = KeySource::fixed(ISSUER, KeySet::parse(jwks(&["a"]).as_bytes(), &[JwsAlgorithm::EdDsa]).unwrap());
    assert_eq!(keys(&source).generation, 1);
    assert_eq!(source.current(clock::now().wall.plus(DAY * 10_000)).map(|keys| keys.generation), Ok(1));
    assert_eq!(miss(&source, "b"), Miss::Unknown);
    assert_eq!(source.refresh_now().await, Err(format!("the keys of {ISSUER} are in the config; nothing is fetched")));
    let (_stop, stopping) = watch::channel(false);
    source.clone().run(stopping).await;
    let status = source.status(clock::now());
    assert_eq!((status.usable, status.usable_until, status.next_refresh, status.url), (true, None, None, None));
}

/// G7
#[tokio::test]
async fn a_change_of_state_is_logged_once() {
    let kept = Kept::default();
    let sink = kept.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || sink.clone()).with_ansi(false).without_time().finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (one, two) = (jwks(&["a"]), jwks(&["a", "b"]));
    let server = Server::http(saying(&[&one, &one, "<html>", "<html>", &one, &two]));
    let source = source(&server);
    for _ in 0..6 {
        let _ = source.refresh_now().await;
    }
    let fetched_at = |line: &str| line.split(' ').filter(|word| word.starts_with("20")).count();
    let text = kept.text();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("key_source")).collect();
    let [first, fails, again, other] = lines.as_slice() else { panic!("{text}") };
    assert!(first.contains("INFO") && first.contains("the issuer's keys are new: 1 can be used"), "{first}");
    assert!(fails.contains("WARN") && fails.contains("the issuer's keys cannot be fetched; those of 20"), "{fails}");
    assert_eq!(fetched_at(fails), 2, "{fails}");
    assert!(again.contains("INFO") && again.contains("can be fetched again: 1 can be used, the same as before"), "{again}");
    assert!(other.contains("the issuer's keys are new: 2 can be used") && other.contains("generation=2"), "{other}");
    assert!(lines.iter().all(|line| line.contains(ISSUER) && !line.contains("secret")), "{text}");
}
