//! TLS between the gateway and an upstream.

use rcgen::date_time_ymd;

use crate::support::{Authority, Gateway, Issued, TlsUpstream};

/// A gateway that speaks TLS to `port` of localhost and believes `authority`.
fn gateway(authority: &Authority, upstream: &TlsUpstream, more: &str, own: Option<&Issued>) -> Gateway {
    let port = upstream.address.port();
    let mut gateway = Gateway::prepare(
        "",
        &format!(
            "[[upstream]]\nname = \"u\"\nservers = [\"https://127.0.0.1:{port}\"]\n\
             tls = {{ ca_file = \"ca.pem\", server_name = \"nodes.test\"{more} }}\n\
             [[api]]\nupstream = \"u\"\ncontract = \"native\"\n\
             [[api.route]]\nname = \"hello\"\npath = \"/hello\"\npublic = true\n"
        ),
    );
    std::fs::write(gateway.folder.path().join("ca.pem"), &authority.pem).unwrap();
    if let Some(own) = own {
        own.save(gateway.folder.path(), "own");
    }
    gateway.restart();
    gateway
}

#[test]
fn a_server_is_believed_by_its_authority_and_its_name() {
    let authority = Authority::new("ours");
    let upstream = TlsUpstream::tls(&authority.server(&["nodes.test"]), None);
    let gateway = gateway(&authority, &upstream, "", None);
    for _ in 0..3 {
        let answer = gateway.post("/hello", &[], "hi");
        assert_eq!((answer.status, answer.body.contains("got hi")), (200, true), "{answer:?}");
    }
    assert_eq!((upstream.count(), upstream.connections()), (3, 1));
}

#[test]
fn a_server_that_is_not_believed_is_not_asked() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let expired = ours.issue(&["nodes.test"], |params| params.not_after = date_time_ymd(2001, 1, 1));
    for (shown, why) in [
        (theirs.server(&["nodes.test"]), "UnknownIssuer"),
        (ours.server(&["other.test"]), "not valid for name \"nodes.test\""),
        (expired, "expired"),
    ] {
        let upstream = TlsUpstream::tls(&shown, None);
        let gateway = gateway(&ours, &upstream, "", None);
        let answer = gateway.get("/hello", &[]);
        assert_eq!((answer.status, gateway.why(&answer)), (502, "failed forward upstream_unreachable".to_owned()));
        let line = gateway.logged(&answer);
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.contains("TLS: ") && detail.contains(why), "{detail}");
        assert!(upstream.count() == 0);
    }
}

#[test]
fn a_server_that_wants_a_certificate_is_shown_ours() {
    let authority = Authority::new("ours");
    let upstream = TlsUpstream::tls(&authority.server(&["nodes.test"]), Some(&authority));
    let without = gateway(&authority, &upstream, "", None);
    assert_eq!((without.get("/hello", &[]).status, upstream.count()), (502, 0));
    let own = authority.client("spiffe://test/gateway");
    let with = gateway(&authority, &upstream, ", cert_file = \"own.pem\", key_file = \"own.key\"", Some(&own));
    assert_eq!((with.get("/hello", &[]).status, upstream.count()), (200, 1));
}

#[test]
fn files_that_cannot_be_used_are_told_before_anything_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (one, other) = (Authority::new("a").client("spiffe://test/a"), Authority::new("b").client("spiffe://test/b"));
    one.save(folder.path(), "one");
    other.save(folder.path(), "other");
    for (tls, why) in [
        ("ca_file = \"absent.pem\"", "absent.pem: it cannot be read"),
        ("ca_file = \"one.key\"", "one.key: it holds no certificate"),
        ("ca_file = \"one.pem\", cert_file = \"one.pem\", key_file = \"one.pem\"", "one.pem: it holds no private key"),
        ("ca_file = \"one.pem\", cert_file = \"one.pem\", key_file = \"other.key\"", "it is not the key of the certificate"),
        ("ca_file = \"one.pem\", cert_file = \"one.pem\"", "`cert_file` wants a `key_file`"),
        ("ca_file = \"one.pem\", server_name = \"a b\"", "`a b` is no host name"),
    ] {
        let text = format!(
            "[[upstream]]\nname = \"u\"\nservers = [\"https://nodes.test\"]\ntls = {{ {tls} }}\n\
             [[api]]\nupstream = \"u\"\ncontract = \"native\"\n"
        );
        std::fs::write(file("gateway.toml"), text).unwrap();
        let checked =
            std::process::Command::new(env!("CARGO_BIN_EXE_gateward")).arg("check").arg(file("gateway.toml")).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(!checked.status.success() && said.contains(why), "{tls}: {said}");
    }
}
