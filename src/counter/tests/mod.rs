//! The counters on real servers: what they answer, how fast they give up, and that they come back by themselves.

#![expect(clippy::disallowed_methods, reason = "tests start tasks of their own, and measure what a caller waits")]

mod messages;
mod several;
mod trouble;

use std::path::{Path, PathBuf};
use std::time::Instant;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::*;
use crate::config::report::{Located, Place, Report};
use crate::servers::{Redis, free_address};

const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than any call here needs, on any machine.
const TIMEOUT: &str = "500ms";

/// Counts the calls of a key; the argument is added.
fn count() -> Script {
    Script::new("return {redis.call('INCRBY', KEYS[1], ARGV[1]), 7}")
}

/// The section that a config file with this URL has.
fn section(url: &str, timeout: &str) -> config::Counters {
    let text = format!(
        "counters = {{ url = \"{url}\", timeout = \"{timeout}\", nodes = 3 }}\n[[api]]\nupstream = \"http://127.0.0.1:9000\"\ncontract = \"native\"\n"
    );
    let mut report = Report::default();
    let loaded = config::parse(&text, Path::new("gateway.toml"), &|_| None, &mut report);
    assert!(report.is_clean(), "{report}");
    loaded.unwrap().config.counters
}

fn start_at(url: &str) -> Counters {
    Counters::start(&section(url, TIMEOUT), Handle::current(), &Metrics::default()).unwrap().unwrap()
}

async fn until_up(counters: &Counters) {
    until("the counters", || counters.is_up()).await;
}

async fn until_away(counters: &Counters) {
    until("the absence of the counters", || !counters.is_up()).await;
}

async fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let polling = async {
        while !seen() {
            // waits for: what a task of the counters does; the whole wait is bounded below
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), polling).await.unwrap_or_else(|_| panic!("not seen: {what}"));
}

async fn connected(url: &str) -> Counters {
    let counters = start_at(url);
    until_up(&counters).await;
    counters
}

fn answer(values: [i64; 2], generation: u64) -> Result<Answer, Unavailable> {
    Ok(Answer { values: values.to_vec(), generation })
}

#[tokio::test]
async fn a_script_runs_on_its_key_and_is_sent_again_to_a_server_that_forgot_it() {
    let redis = Redis::start();
    let counters = connected(&redis.url()).await;
    assert_eq!((counters.nodes(), counters.timeout()), (3, Duration::from_millis(500)));
    assert_eq!(counters.run(&count(), b"gw:a", &[2], PATIENCE).await, answer([2, 7], 1));
    assert_eq!(counters.run(&count(), b"gw:a", &[-5], PATIENCE).await, answer([-3, 7], 1));
    assert_eq!(redis.command(&["SCRIPT", "FLUSH"]), "OK");
    assert_eq!(counters.run(&count(), b"gw:a", &[1 << 53], PATIENCE).await, answer([(1 << 53) - 3, 7], 1));
    assert_eq!(redis.command(&["GET", "gw:a"]), ((1_u64 << 53) - 3).to_string());
    counters.close().await;
}

#[tokio::test]
async fn a_user_and_a_database_of_the_url_are_used() {
    let redis = Redis::start();
    redis.command(&["ACL", "SETUSER", "gw", "on", ">p@ss/1", "~gw:*", "&gw:*", "+@all"]);
    let address = redis.address;
    let counters = connected(&format!("redis://gw:p%40ss%2F1@{address}/3")).await;
    assert_eq!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await, answer([1, 7], 1));
    assert_eq!(redis.command(&["-n", "3", "GET", "gw:a"]), "1");
    counters.close().await;
    redis.command(&["CONFIG", "SET", "requirepass", "alone"]);
    let counters = connected(&format!("redis://:alone@{address}")).await;
    assert_eq!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await, answer([1, 7], 1));
    counters.close().await;
}

#[tokio::test]
async fn what_cannot_be_connected_to_is_said_without_the_password() {
    let redis = Redis::start();
    redis.command(&["ACL", "SETUSER", "gw", "on", ">right", "~gw:*", "&gw:*", "+@all", "-evalsha"]);
    let address = redis.address;
    let nobody = free_address();
    for (url, why) in [
        (format!("redis://gw:hunter2@{address}"), "the server refuses with WRONGPASS"),
        (format!("redis://gw:right@{address}"), "the server refuses with NOPERM"),
        (format!("redis://gw:hunter2@{nobody}"), "Connection refused (os error 111)"),
        (format!("redis+sentinel://{nobody}/main"), &format!("the sentinel {nobody}: Connection refused (os error 111)")),
        (format!("redis+sentinel://{address}/main"), &format!("the sentinel {address}: the server refuses with ERR")),
        (format!("redis+cluster://{address}"), "the server refuses with ERR"),
    ] {
        let counters = start_at(&url);
        let mut supervisor = supervisor(&counters, &url, None).unwrap();
        let cause = supervisor.connect(1, &Script::new("return {1}")).await.map(|_| ()).unwrap_err();
        assert_eq!(cause.to_string(), why, "{url}");
        assert_eq!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await, Err(Unavailable::Away));
        counters.close().await;
    }
}

/// One more supervisor for the same counters, whose tries a test sees.
fn supervisor(counters: &Counters, url: &str, ca_file: Option<&Path>) -> Result<Supervisor, OpenError> {
    let CountersUrl::Redis(url) = section(url, TIMEOUT).url else { panic!("{url} is no Redis") };
    Ok(Supervisor { dialer: Dialer::new(&url, ca_file)?, shared: counters.inner.shared.clone() })
}

/// A server with TLS on a port of its own, and the certificate that it is trusted by.
fn start_with_tls(folder: &TempDir) -> (Redis, String, PathBuf) {
    let file = |name: &str| folder.path().join(name);
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(file("cert.pem"), cert.pem()).unwrap();
    std::fs::write(file("key.pem"), signing_key.serialize_pem()).unwrap();
    let port = free_address().port();
    let (certificate, key) = (file("cert.pem").display().to_string(), file("key.pem").display().to_string());
    let options = ["--tls-auth-clients", "no", "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let redis =
        Redis::start_with(&[&["--tls-port", &port.to_string(), "--tls-ca-cert-file", &certificate], &options[..]].concat());
    (redis, format!("rediss://localhost:{port}"), file("cert.pem"))
}

#[tokio::test]
async fn tls_believes_the_certificates_of_the_ca_file_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let (_redis, url, certificate) = start_with_tls(&folder);
    let mut config = section(&url, TIMEOUT);
    config.ca_file = Some(Located::new(certificate.clone(), Place::default()));
    let counters = Counters::start(&config, Handle::current(), &Metrics::default()).unwrap().unwrap();
    until_up(&counters).await;
    assert_eq!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await, answer([1, 7], 1));
    counters.close().await;

    let stranger = generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    std::fs::write(folder.path().join("stranger.pem"), stranger).unwrap();
    let strangers = folder.path().join("stranger.pem");
    for ca_file in [None, Some(strangers.as_path())] {
        let mut supervisor = supervisor(&counters, &url, ca_file).unwrap();
        let cause = supervisor.connect(1, &Script::new("return {1}")).await.map(|_| ()).unwrap_err().to_string();
        assert!(cause.starts_with("invalid peer certificate: "), "{cause}");
    }
    let by_address = url.replace("localhost", "127.0.0.1");
    let mut supervisor = supervisor(&counters, &by_address, Some(&certificate)).unwrap();
    let cause = supervisor.connect(1, &Script::new("return {1}")).await.map(|_| ()).unwrap_err().to_string();
    assert!(cause.starts_with("invalid peer certificate: certificate not valid for name"), "{cause}");
}

#[tokio::test]
async fn a_file_without_certificates_is_an_error_of_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.pem");
    std::fs::write(&file, "nothing").unwrap();
    let mut config = section("rediss://localhost", TIMEOUT);
    config.ca_file = Some(Located::new(file.clone(), Place::default()));
    let error = Counters::start(&config, Handle::current(), &Metrics::default()).map(|_| ()).unwrap_err();
    let why = "it holds no certificate; expected PEM, `-----BEGIN CERTIFICATE-----`";
    assert_eq!(error.to_string(), format!("[counters]: `ca_file` {}: {why}", file.display()));
}

#[tokio::test]
async fn memory_is_not_shared() {
    let counters = Counters::start(&config::Counters::default(), Handle::current(), &Metrics::default()).unwrap();
    assert!(counters.is_none());
}

/// How many clients a server has, redis-cli itself left out.
fn clients(redis: &Redis) -> usize {
    redis.command(&["CLIENT", "LIST"]).lines().filter(|line| !line.contains("cmd=client|list")).count()
}

#[tokio::test]
async fn the_connection_ends_when_the_counters_are_closed_or_dropped() {
    let redis = Redis::start();
    let counters = connected(&redis.url()).await;
    let clone = counters.clone();
    assert_eq!(clients(&redis), 1);
    counters.close().await;
    until("no client after close", || clients(&redis) == 0).await;
    assert_eq!(clone.run(&count(), b"gw:a", &[1], PATIENCE).await, Err(Unavailable::Away));

    let counters = connected(&redis.url()).await;
    assert_eq!(clients(&redis), 1);
    drop(counters);
    until("no client after the last clone", || clients(&redis) == 0).await;
}

#[tokio::test]
async fn metrics_show_whether_they_are_up_what_was_waited_and_what_became_of_calls() {
    let mut redis = Redis::start();
    let metrics = Metrics::default();
    let config = section(&redis.url(), TIMEOUT);
    let counters = Counters::start(&config, Handle::current(), &metrics).unwrap().unwrap();
    until_up(&counters).await;
    assert_eq!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await, answer([1, 7], 1));
    redis.command(&["LPUSH", "gw:list", "1"]);
    let refused = Unavailable::Refused { code: "WRONGTYPE".to_owned() };
    assert_eq!(counters.run(&count(), b"gw:list", &[1], PATIENCE).await, Err(refused));
    assert!(metrics.render().unwrap().contains("gateward_counters_up 1.0\n"));
    redis.kill();
    until_away(&counters).await;
    assert_eq!(counters.run(&count(), b"gw:a", &[1], PATIENCE).await, Err(Unavailable::Away));
    let page = metrics.render().unwrap();
    for line in [
        "gateward_counters_up 0.0\n",
        "gateward_counters_wait_seconds_count 2\n",
        "gateward_counters_calls_total{outcome=\"answered\"} 1\n",
        "gateward_counters_calls_total{outcome=\"away\"} 1\n",
        "gateward_counters_calls_total{outcome=\"refused\"} 1\n",
        "gateward_counters_calls_total{outcome=\"lost\"} 0\n",
    ] {
        assert!(page.contains(line), "{line}{page}");
    }
    counters.close().await;
}
