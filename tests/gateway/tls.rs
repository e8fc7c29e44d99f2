//! TLS as a client sees it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustls::version::{TLS12, TLS13};

use crate::support::{Authority, Caller, Gateway, Issued, Upstream, pause_for, until};

const OPEN: &str = "[[api.route]]\nname = \"open\"\npath = \"/open\"\npublic = true\n";

/// The members of a `tls` section for pairs of files with these names, and what else stands in it.
fn section(names: &[&str], more: &str) -> String {
    let pairs: Vec<String> =
        names.iter().map(|name| format!("{{ cert_file = \"{name}.pem\", key_file = \"{name}.key\" }}")).collect();
    format!("tls = {{ certificates = [{}]{more} }}\n", pairs.join(", "))
}

fn api(upstream: &Upstream) -> String {
    format!("[[api]]\ncontract = \"native\"\nupstream = \"{}\"\n{OPEN}", upstream.url())
}

fn prepare(upstream: &Upstream, pairs: &[(&str, &Issued)], listener: &str) -> Gateway {
    let names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
    let gateway = Gateway::prepare(&format!("{}{listener}", section(&names, "")), &api(upstream));
    pairs.iter().for_each(|(name, issued)| issued.save(gateway.folder.path(), name));
    gateway
}

fn start(upstream: &Upstream, pairs: &[(&str, &Issued)]) -> Gateway {
    let mut gateway = prepare(upstream, pairs, "");
    gateway.restart();
    gateway
}

#[test]
fn a_request_by_tls_reaches_the_upstream() {
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let gateway = start(&upstream, &[("api", &authority.server(&["api.test"]))]);
    for versions in [&[&TLS13], &[&TLS12]] {
        let caller = Caller::with(&authority, None, versions, &["http/1.1"]);
        let mut secured = caller.connect(gateway.address, "api.test").unwrap();
        assert_eq!(secured.stream.conn.protocol_version(), Some(versions[0].version));
        assert_eq!(secured.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let (status, text) = secured.get("api.test", "/open").unwrap();
        assert_eq!((status, text.ends_with("{\"ok\":true}")), (200, true), "{text}");
        let last = upstream.last().to_lowercase();
        assert!(last.contains("x-forwarded-proto: https\r\n") && last.contains("proto=https"), "{last}");
    }
    assert_eq!(upstream.count(), 2);
    // In clear text nobody is answered.
    let mut plain = TcpStream::connect(gateway.address).unwrap();
    plain.write_all(b"GET /open HTTP/1.1\r\nHost: api.test\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // A client that knows no protocol of ours is told so by ALPN.
    let foreign = Caller::with(&authority, None, &[&TLS13], &["spdy/3"]);
    let refused = foreign.connect(gateway.address, "api.test").err().unwrap();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    assert_eq!(upstream.count(), 2);
}

/// N4: the certificate is that of the name that is asked for, whatever its case; a wildcard is for one label more.
#[test]
fn the_name_that_is_asked_for_chooses_the_certificate() {
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let (first, other) = (authority.server(&["first.test"]), authority.server(&["other.test", "*.wild.test"]));
    let gateway = start(&upstream, &[("first", &first), ("other", &other)]);
    // What is shown is looked at, not judged: an unknown name gets the first.
    let shown = |name: &str| {
        let secured = Caller::of(&authority).connect(gateway.address, name);
        secured.map(|secured| if secured.shows("other.test") { "other" } else { "first" })
    };
    for name in ["first.test", "FIRST.test"] {
        assert_eq!(shown(name), Ok("first"), "{name}");
    }
    for name in ["other.test", "Other.Test", "a.wild.test", "A.Wild.TEST"] {
        assert_eq!(shown(name), Ok("other"), "{name}");
    }
    for name in ["wild.test", "a.b.wild.test", "unknown.test"] {
        let refused = shown(name).unwrap_err();
        assert!(refused.contains("not valid for name"), "{name}: {refused}");
    }
    let nameless = Caller::of(&authority).but(|config| config.enable_sni = false);
    assert!(nameless.connect(gateway.address, "first.test").unwrap().shows("first.test"));
}

/// N4: a request goes by the connection of its own host, or it is sent back.
#[test]
fn a_host_with_another_certificate_is_misdirected() {
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let (first, other) = (authority.server(&["first.test", "also.test"]), authority.server(&["*.other.test"]));
    let gateway = start(&upstream, &[("first", &first), ("other", &other)]);
    let caller = Caller::of(&authority);
    let status = |name: &str, host: &str| caller.connect(gateway.address, name).unwrap().get(host, "/open").unwrap().0;
    for (name, host, expected) in [
        ("first.test", "first.test", 200),
        ("first.test", "ALSO.test:443", 200),
        ("first.test", "unknown.test", 200),
        ("first.test", "a.other.test", 421),
        ("first.test", "A.Other.TEST.", 421),
        ("a.other.test", "b.other.test", 200),
        ("a.other.test", "first.test", 421),
        ("a.other.test", "unknown.test", 421),
        ("a.other.test", "x.a.other.test", 421),
    ] {
        assert_eq!(status(name, host), expected, "{name} {host}");
    }
    let nameless = Caller::of(&authority).but(|config| config.enable_sni = false);
    let mut secured = nameless.connect(gateway.address, "first.test").unwrap();
    let (status, text) = secured.get("a.other.test", "/open").unwrap();
    assert_eq!((status, text.contains("\"code\":\"misdirected\"")), (421, true), "{text}");
    let refused = || gateway.log().into_iter().find(|line| line["reason"] == "host_misdirected");
    assert_eq!(until("the log line", refused)["stage"], "listener");
}

/// N4: a session goes on where it began; its ticket is worth nothing at another name or another gateway.
#[test]
fn a_session_is_resumed_for_its_own_name_only() {
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let (first, other) = (authority.server(&["first.test"]), authority.server(&["other.test"]));
    let gateway = start(&upstream, &[("first", &first), ("other", &other)]);
    let second = start(&upstream, &[("first", &first)]);
    for versions in [&[&TLS13], &[&TLS12]] {
        let caller = Caller::with(&authority, None, versions, &[]).careless();
        let ask = |gateway: &Gateway, name: &str| {
            let mut secured = caller.connect(gateway.address, name).unwrap();
            // The ticket of TLS 1.3 comes with the answer.
            assert_eq!(secured.get(name, "/open").unwrap().0, 200);
            secured.is_resumed()
        };
        assert!(!ask(&gateway, "first.test"));
        assert!(ask(&gateway, "first.test"));
        assert!(!ask(&gateway, "other.test"));
        assert!(ask(&gateway, "other.test"));
        assert!(!ask(&second, "first.test"));
    }
}

/// N3: who stalls in the handshake is closed when its time is over, and holds up nobody else.
#[test]
fn a_stalled_handshake_ends_in_time_and_a_slow_one_does_not() {
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let mut gateway = prepare(&upstream, &[("api", &authority.server(&["api.test"]))], "timeouts = { handshake = \"1s\" }\n");
    gateway.restart();
    let hello = client_hello(&authority);
    let mut stalled: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(gateway.address).unwrap()).collect();
    for (number, socket) in stalled.iter_mut().enumerate() {
        socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        socket.write_all(&hello[..number]).unwrap();
    }
    let mut secured = Caller::of(&authority).connect(gateway.address, "api.test").unwrap();
    assert_eq!(secured.get("api.test", "/open").unwrap().0, 200);
    for socket in &mut stalled {
        let mut rest = Vec::new();
        assert_eq!(socket.read_to_end(&mut rest).map_err(|error| error.kind()), Ok(0));
    }
    // One byte in each segment, and one byte in each record, are slow and right.
    let mut records: Vec<u8> = Vec::new();
    for byte in &hello[5..] {
        records.extend([0x16, 3, 1, 0, 1, *byte]);
    }
    for bytes in [hello, records] {
        let mut socket = TcpStream::connect(gateway.address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        for byte in bytes.chunks(6) {
            socket.write_all(byte).unwrap();
        }
        let mut record = [0; 1];
        socket.read_exact(&mut record).unwrap();
        assert_eq!(record[0], 0x16, "no handshake record");
    }
}

/// What a client says first.
fn client_hello(authority: &Authority) -> Vec<u8> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let caller = Caller::of(authority);
    let said = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut head = [0; 5];
        socket.read_exact(&mut head).unwrap();
        let mut rest = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        socket.read_exact(&mut rest).unwrap();
        [head.to_vec(), rest].concat()
    });
    assert!(caller.connect(address, "api.test").is_err_and(|error| !error.is_empty()));
    said.join().unwrap()
}

/// Whether openssl gets through the handshake, and what it prints.
fn openssl(gateway: &Gateway, arguments: &[&str]) -> (bool, String) {
    let address = gateway.address.to_string();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address, "-servername", "api.test"]).args(arguments);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (!text.contains("Cipher is (NONE)") && !text.contains("no peer certificate available"), text)
}

/// N5: TLS 1.2 and 1.3 with forward secrecy and authenticated encryption, and nothing older or weaker.
#[test]
fn old_versions_and_weak_ciphers_are_refused() {
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let gateway = start(&upstream, &[("api", &authority.server(&["api.test"]))]);
    const ANY: &str = "ALL:@SECLEVEL=0";
    for version in ["-tls1", "-tls1_1"] {
        let (through, text) = openssl(&gateway, &[version, "-cipher", ANY]);
        assert!(!through, "{version}: {text}");
    }
    for cipher in
        ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "AES128-GCM-SHA256", "ADH-AES256-SHA256", "PSK-AES128-GCM-SHA256"]
    {
        let (through, text) = openssl(&gateway, &["-tls1_2", "-cipher", &format!("{cipher}:@SECLEVEL=0")]);
        assert!(!through, "{cipher}: {text}");
    }
    for cipher in ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"] {
        let (through, text) = openssl(&gateway, &["-tls1_2", "-cipher", cipher]);
        assert!(through, "{cipher}: {text}");
        assert!(text.contains("Secure Renegotiation IS supported"), "{text}");
        assert!(text.contains("Compression: NONE"), "{text}");
        assert!(text.contains("Extended master secret: yes"), "{text}");
    }
    let (through, text) = openssl(&gateway, &["-tls1_3"]);
    assert!(through && text.contains("TLSv1.3"), "{text}");
}

/// N5: where TLS 1.2 is not wanted, it is not spoken.
#[test]
fn the_least_version_may_be_raised() {
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let api_certificate = authority.server(&["api.test"]);
    let mut gateway = Gateway::prepare(&section(&["api"], ", min_version = \"1.3\""), &api(&upstream));
    api_certificate.save(gateway.folder.path(), "api");
    gateway.restart();
    let refused = Caller::with(&authority, None, &[&TLS12], &[]).connect(gateway.address, "api.test").err().unwrap();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
    assert_eq!(Caller::of(&authority).connect(gateway.address, "api.test").unwrap().get("api.test", "/open").unwrap().0, 200);
}

/// N9: new files are taken over while connections go on; bad ones change nothing and are said once.
#[test]
fn changed_certificates_are_taken_over_and_bad_ones_are_not() {
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let gateway = start(&upstream, &[("api", &authority.server(&["api.test", "first.test"]))]);
    let folder = gateway.folder.path();
    let shows = |name: &str| Caller::of(&authority).connect(gateway.address, "api.test").unwrap().shows(name);
    let mut before = Caller::of(&authority).connect(gateway.address, "api.test").unwrap();
    assert!(shows("first.test"));
    let second = authority.server(&["api.test", "second.test"]);
    // Half of it: the certificate without its key.
    fs::write(folder.join("api.pem"), &second.certificate).unwrap();
    let refusals = || gateway.stderr().matches("changed certificates cannot be used").count();
    until("the refusal", || (refusals() == 1).then_some(()));
    assert!(gateway.stderr().contains("api.key: it is not the key of the certificate in"), "{}", gateway.stderr());
    assert!(shows("first.test"));
    // waits for: another look at the same files, which says nothing new
    pause_for(Duration::from_millis(2500));
    assert_eq!(refusals(), 1);
    fs::write(folder.join("api.key"), &second.key).unwrap();
    until("the new certificate", || shows("second.test").then_some(()));
    assert_eq!(before.get("api.test", "/open").unwrap().0, 200);
    // Torn off in the middle.
    fs::write(folder.join("api.pem"), &second.certificate.as_bytes()[..second.certificate.len() / 2]).unwrap();
    until("the refusal", || (refusals() == 2).then_some(()));
    assert!(shows("second.test"));
    // As a mounted secret changes: a link that leads to another folder.
    let third = authority.server(&["api.test", "third.test"]);
    fs::create_dir(folder.join("v3")).unwrap();
    third.save(&folder.join("v3"), "api");
    for file in ["api.pem", "api.key"] {
        std::os::unix::fs::symlink(folder.join("v3").join(file), folder.join("link")).unwrap();
        fs::rename(folder.join("link"), folder.join(file)).unwrap();
    }
    until("the third certificate", || shows("third.test").then_some(()));
}

#[test]
fn the_end_of_each_certificate_is_shown_and_a_near_one_is_said() {
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let far = authority.issue(&["far.test"], |params| params.not_after = rcgen::date_time_ymd(2100, 1, 1));
    let near = authority.issue(&["near.test"], |params| params.not_after = soon(3600));
    let gateway = start(&upstream, &[("far", &far), ("near", &near)]);
    assert!((gateway.metric("gateward_certificate_expiry_seconds{name=\"far.test\"}") - 4_102_444_800.0).abs() < 1.0);
    assert!(gateway.metric("gateward_certificate_expiry_seconds{name=\"near.test\"}") < 4_000_000_000.0);
    until("the warning", || gateway.stderr().contains("a certificate ends soon").then_some(()));
    let said = gateway.stderr();
    assert!(said.contains("near.test") && !said.contains("far.test"), "{said}");
}

/// So many seconds from now.
#[expect(clippy::disallowed_methods, reason = "a certificate ends by the wall clock, as the gateway reads it")]
pub fn soon(seconds: i64) -> time::OffsetDateTime {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    time::OffsetDateTime::from_unix_timestamp(i64::try_from(now.as_secs()).unwrap() + seconds).unwrap()
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let (good, other) = (authority.server(&["api.test"]), authority.server(&["other.test"]));
    let old = authority.issue(&["api.test"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let early = authority.issue(&["api.test"], |params| params.not_before = rcgen::date_time_ymd(2100, 1, 1));
    let crossed = Issued { certificate: good.certificate.clone(), key: other.key };
    let no_key = Issued { certificate: good.certificate.clone(), key: "nothing".to_owned() };
    let no_certificate = Issued { certificate: "nothing".to_owned(), key: good.key.clone() };
    for (issued, why) in [
        (&crossed, "api.key: it is not the key of the certificate in api.pem"),
        (&old, "api.pem: the certificate has expired at 2020-01-01T00:00:00Z"),
        (&early, "api.pem: the certificate is not valid before 2100-01-01T00:00:00Z"),
        (&no_key, "api.key: it holds no private key that can be used; expected PEM"),
        (&no_certificate, "api.pem: it holds no certificate; expected PEM"),
    ] {
        let mut gateway = prepare(&upstream, &[("api", issued)], "");
        let output = gateway.cli(&["check"], "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(why) && said.contains("gateway.toml:8:"), "{said}");
        assert_eq!(output.status.code(), Some(78), "{said}");
        let (code, said) = gateway.run_to_end();
        assert!(said.contains(why) && code != Some(0), "{code:?} {said}");
    }
    let gateway = prepare(&upstream, &[], "");
    let said = String::from_utf8_lossy(&gateway.cli(&["check"], "").stderr).into_owned();
    assert!(said.contains("there is no certificate"), "{said}");
    let gateway = Gateway::prepare(&section(&["none"], ""), &api(&upstream));
    let said = String::from_utf8_lossy(&gateway.cli(&["check"], "").stderr).into_owned();
    assert!(said.contains("none.pem: it cannot be read: No such file or directory"), "{said}");
    assert!(said.contains("none.key: it cannot be read"), "{said}");
}

/// N9: a reload takes another certificate over and keeps the sessions of listeners that it does not touch; one whose files
/// cannot be used is refused as a whole.
#[test]
fn a_reload_keeps_the_sessions_of_a_listener_that_stays_as_it_was() {
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let gateway = start(&upstream, &[("first", &authority.server(&["api.test", "first.test"]))]);
    authority.server(&["api.test", "second.test"]).save(gateway.folder.path(), "second");
    let caller = Caller::of(&authority);
    let ask = || {
        let mut secured = caller.connect(gateway.address, "api.test").unwrap();
        (secured.get("api.test", "/open").unwrap().0, secured.is_resumed(), secured.shows("second.test"))
    };
    assert_eq!([ask(), ask()], [(200, false, false), (200, true, false)]);
    assert_eq!(gateway.reload_with(|text| text.replace("/open", "/{name}")).status, 200);
    assert_eq!(ask(), (200, true, false));
    let refused = gateway.reload_with(|text| text.replace("first.pem", "none.pem"));
    assert!(refused.status != 200 && refused.body.contains("none.pem: it cannot be read"), "{refused:?}");
    assert_eq!(ask(), (200, true, false));
    let second = |text: String| text.replace("none.pem", "second.pem").replace("first.key", "second.key");
    assert_eq!(gateway.reload_with(second).status, 200);
    assert_eq!(ask(), (200, false, true));
}
