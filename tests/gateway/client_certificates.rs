//! Client certificates: who is let into a connection, and who into a route.

use std::fs;

use rcgen::{CertificateRevocationListParams, DnType, KeyIdMethod, RevokedCertParams, SanType, SerialNumber};
use rustls::version::{TLS12, TLS13};

use crate::support::{Authority, Caller, Gateway, Issued, Upstream, pause_for, until};
use crate::tls::soon;

const ROUTES: &str = "[[api.route]]\nname = \"open\"\npath = \"/open\"\npublic = true\n\
                      [[api.route]]\nname = \"machines\"\npath = \"/machines\"\naccept = [\"client_certificate\"]\n\
                      [[api.route]]\nname = \"both\"\npath = \"/both\"\naccept = [\"api_key\", \"client_certificate\"]\n\
                      [[api.route]]\nname = \"people\"\npath = \"/people\"\naccept = [\"jwt\", \"api_key\"]\n\
                      [[api.route]]\nname = \"operators\"\npath = \"/operators\"\naccept = [\"client_certificate\"]\nrole = \"admin\"\n";

struct Setup {
    gateway: Gateway,
    upstream: Upstream,
    /// Signs the gateway's certificate and those of clients.
    authority: Authority,
}

fn prepare(tls: &str, credentials: &str) -> Setup {
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let tls = format!(
        "tls = {{ certificates = [{{ cert_file = \"api.pem\", key_file = \"api.key\" }}], client_ca_file = \"clients.pem\"{tls} }}\n"
    );
    let api = format!("[[api]]\ncontract = \"native\"\nupstream = \"{}\"\n{credentials}{ROUTES}", upstream.url());
    let gateway = Gateway::prepare(&tls, &api);
    authority.server(&["api.test"]).save(gateway.folder.path(), "api");
    fs::write(gateway.folder.path().join("clients.pem"), &authority.pem).unwrap();
    Setup { gateway, upstream, authority }
}

fn start(tls: &str, credentials: &str) -> Setup {
    let mut setup = prepare(tls, credentials);
    setup.gateway.restart();
    setup
}

impl Setup {
    /// The status of a GET with this certificate and these lines, or why there was no connection.
    fn ask(&self, own: Option<&Issued>, path: &str, lines: &str) -> Result<u16, String> {
        let caller = match own {
            Some(own) => Caller::showing(&self.authority, own),
            None => Caller::of(&self.authority),
        };
        let mut secured = caller.connect(self.gateway.address, "api.test")?;
        secured.get_with("api.test", path, lines).map(|(status, _)| status)
    }
}

/// N4: whoever shows no certificate that the listener's authorities have signed gets no connection.
#[test]
fn a_required_certificate_is_looked_at_before_anything_else() {
    let setup = start("", "");
    let good = setup.authority.client("spiffe://test/billing");
    assert_eq!(setup.ask(Some(&good), "/open", ""), Ok(200));
    let stranger = Authority::new("ours").client("spiffe://test/billing");
    let expired = setup.authority.client_with(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let early = setup.authority.client_with(|params| params.not_before = rcgen::date_time_ymd(2100, 1, 1));
    let of_a_server = setup.authority.issue(&["api.test"], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    for (own, why) in [
        (None, "CertificateRequired"),
        (Some(&stranger), "received fatal alert"),
        (Some(&expired), "CertificateExpired"),
        (Some(&early), "received fatal alert"),
        (Some(&of_a_server), "received fatal alert"),
    ] {
        let refused = setup.ask(own, "/open", "").unwrap_err();
        assert!(refused.contains(why), "{why}: {refused}");
    }
    for versions in [&[&TLS12], &[&TLS13]] {
        let caller = Caller::with(&setup.authority, None, versions, &[]);
        let connected = caller.connect(setup.gateway.address, "api.test");
        let refused = connected.and_then(|mut secured| secured.get("api.test", "/open")).unwrap_err();
        assert!(refused.contains("fatal alert"), "{refused}");
    }
    assert_eq!(setup.upstream.count(), 1);
}

#[test]
fn a_certificate_counts_where_a_route_names_it() {
    let setup = start(", client_auth = \"optional\"", "");
    let good = setup.authority.client("spiffe://test/billing");
    let said = |name: &str| format!("{name}: {}", setup.upstream.last().to_lowercase());
    for (own, path, expected) in [
        (None, "/open", 200),
        (None, "/machines", 401),
        (None, "/both", 401),
        (Some(&good), "/machines", 200),
        (Some(&good), "/both", 200),
        (Some(&good), "/people", 401),
        (Some(&good), "/operators", 403),
    ] {
        assert_eq!(setup.ask(own, path, ""), Ok(expected), "{path}");
        if expected == 200 && path != "/open" {
            let head = said(path);
            assert!(head.contains("x-auth-user-id: spiffe://test/billing\r\n"), "{head}");
            assert!(head.contains("x-auth-method: client_certificate\r\n"), "{head}");
        }
    }
    let line = until("the log line", || {
        setup.gateway.log().into_iter().find(|line| line["route"] == "machines" && line["status"] == 200)
    });
    assert!(line["credential"].as_str().unwrap().starts_with("client_certificate:"), "{line}");
    assert_eq!(line["account"], "spiffe://test/billing");
    // What the request itself says comes first, and is not passed over when it is wrong.
    assert_eq!(setup.ask(Some(&good), "/both", "X-API-Key: wrong\r\n"), Ok(401));
    // Where certificates alone count, a header is no credential.
    assert_eq!(setup.ask(Some(&good), "/machines", "Authorization: Basic YTpi\r\n"), Ok(200));
    let head = said("/machines");
    assert!(!head.contains("authorization"), "{head}");
    let stranger = Authority::new("ours").client("spiffe://test/billing");
    assert!(setup.ask(Some(&stranger), "/open", "").unwrap_err().contains("fatal alert"));
    // A connection that goes on knows its client still.
    let caller = Caller::showing(&setup.authority, &good);
    let status = |_| {
        let mut secured = caller.connect(setup.gateway.address, "api.test").unwrap();
        (secured.get("api.test", "/machines").unwrap().0, secured.is_resumed())
    };
    assert_eq!([0, 1].map(status), [(200, false), (200, true)]);
}

#[test]
fn a_clients_own_word_about_a_certificate_never_arrives() {
    let setup = start(", client_auth = \"optional\"", "");
    let forged = "X-SSL-Client-Verify: SUCCESS\r\nX-Client-Cert: forged\r\nClient-Cert: :forged:\r\nClient-Cert-Chain: :forged:\r\n\
                  SSL-Client-Subject-DN: CN=forged\r\nX-Forwarded-Client-Cert: URI=forged\r\nX-SSL-Cert: forged\r\n";
    assert_eq!(setup.ask(None, "/open", forged), Ok(200));
    let head = setup.upstream.last().to_lowercase();
    assert!(!head.contains("forged") && !head.contains("success"), "{head}");
}

#[test]
fn the_subject_is_the_first_kind_of_name_that_there_is() {
    let credentials = "[api.credentials.certificate]\nsubject = [\"dns\", \"common_name\"]\n";
    let setup = start("", credentials);
    let named = |names: Vec<SanType>, common: Option<&str>| {
        let own = setup.authority.client_with(|params| {
            params.subject_alt_names = names;
            if let Some(common) = common {
                params.distinguished_name.push(DnType::CommonName, common);
            }
        });
        let status = setup.ask(Some(&own), "/machines", "").unwrap();
        let head = setup.upstream.last();
        let id = head.lines().find_map(|line| line.to_lowercase().strip_prefix("x-auth-user-id: ").map(str::to_owned));
        if status == 200 { id.unwrap() } else { status.to_string() }
    };
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let uri = SanType::URI("spiffe://test/billing".try_into().unwrap());
    assert_eq!(named(vec![uri.clone(), dns("Billing.test")], Some("Billing")), "billing.test");
    assert_eq!(named(vec![uri.clone()], Some("billing clerk")), "billing clerk");
    assert_eq!(named(vec![uri], None), "401");
    assert_eq!(named(vec![dns("a.test"), dns("b.test")], Some("billing")), "401");
    let refused = || setup.gateway.log().into_iter().filter(|line| line["reason"] == "certificate_subject").count();
    until("two log lines", || (refused() == 2).then_some(()));
}

#[test]
fn a_certificate_may_stand_for_an_account_of_the_realm() {
    let setup = start("", "[api.credentials.certificate]\nsubject = [\"common_name\"]\naccounts = \"store\"\n");
    let id = setup.gateway.add_user("ann", "correct horse battery", &["admin"]);
    let own = |name: &str| setup.authority.client_with(|params| params.distinguished_name.push(DnType::CommonName, name));
    let (ann, nobody) = (own(&id), own("nobody"));
    until("the account", || (setup.ask(Some(&ann), "/operators", "") == Ok(200)).then_some(()));
    assert!(setup.upstream.last().to_lowercase().contains(&format!("x-auth-user-id: {id}\r\n").to_lowercase()));
    assert_eq!(setup.ask(Some(&nobody), "/operators", ""), Ok(401));
    // Where certificates are not of accounts, none may look like one.
    let other = start("", "[api.credentials.certificate]\nsubject = [\"common_name\"]\n");
    let id = other.gateway.add_user("ann", "correct horse battery", &[]);
    let taken = other.authority.client_with(|params| params.distinguished_name.push(DnType::CommonName, id.as_str()));
    until("the account", || (other.ask(Some(&taken), "/machines", "") == Ok(401)).then_some(()));
    let line = until("the log line", || other.gateway.log().into_iter().find(|line| line["status"] == 401));
    assert_eq!(line["reason"], "subject_taken");
}

/// N14: a certificate ends by the wall clock, also on a connection that began before.
#[test]
fn a_certificate_that_ends_is_refused_on_its_open_connection() {
    let setup = start("", "");
    let short = setup.authority.client_with(|params| {
        params.subject_alt_names.push(SanType::URI("spiffe://test/short".try_into().unwrap()));
        params.not_after = soon(3);
    });
    let caller = Caller::showing(&setup.authority, &short);
    let mut open = caller.connect(setup.gateway.address, "api.test").unwrap();
    assert_eq!(setup.ask(Some(&short), "/machines", ""), Ok(200));
    // waits for: the end of the certificate
    pause_for(std::time::Duration::from_secs(5));
    assert_eq!(open.get("api.test", "/machines").unwrap().0, 401);
    assert!(setup.ask(Some(&short), "/machines", "").is_err_and(|error| error.contains("CertificateExpired")));
    let line = until("the log line", || setup.gateway.log().into_iter().find(|line| line["status"] == 401));
    assert_eq!(line["reason"], "certificate_expired");
}

#[test]
fn a_revoked_certificate_is_refused_and_a_new_list_is_taken_over() {
    let setup = {
        let mut setup = prepare(", client_crl_file = \"revoked.pem\"", "");
        fs::write(setup.gateway.folder.path().join("revoked.pem"), list(&setup.authority, &[7])).unwrap();
        setup.gateway.restart();
        setup
    };
    let numbered = |serial: u8| {
        setup.authority.client_with(|params| {
            params.serial_number = Some(SerialNumber::from_slice(&[serial]));
            params.subject_alt_names.push(SanType::URI("spiffe://test/billing".try_into().unwrap()));
        })
    };
    let (seven, eight) = (numbered(7), numbered(8));
    assert!(setup.ask(Some(&seven), "/machines", "").is_err_and(|error| error.contains("CertificateRevoked")));
    assert_eq!(setup.ask(Some(&eight), "/machines", ""), Ok(200));
    let nine = numbered(9);
    let open = |own: &Issued| Caller::showing(&setup.authority, own).connect(setup.gateway.address, "api.test").unwrap();
    let (mut revoked, mut kept) = (open(&eight), open(&nine));
    fs::write(setup.gateway.folder.path().join("revoked.pem"), list(&setup.authority, &[7, 8])).unwrap();
    until("the new list", || setup.ask(Some(&eight), "/machines", "").err().filter(|error| error.contains("CertificateRevoked")));
    // It holds for connections that are open too.
    assert_eq!(revoked.get("api.test", "/machines").unwrap().0, 401);
    assert_eq!(kept.get("api.test", "/machines").unwrap().0, 200);
}

fn list(authority: &Authority, serials: &[u8]) -> String {
    let revoked = |serial: &u8| RevokedCertParams {
        serial_number: SerialNumber::from_slice(&[*serial]),
        revocation_time: rcgen::date_time_ymd(2025, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2025, 1, 1),
        next_update: rcgen::date_time_ymd(2100, 1, 1),
        crl_number: SerialNumber::from_slice(&[1]),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&authority.issuer).unwrap().pem().unwrap()
}

/// N4: the connection that a decision is asked for by is the proxy's: its certificate and its name say nothing of the client.
#[test]
fn the_certificate_of_a_proxy_that_asks_is_no_clients() {
    let decisions = crate::servers::free_address();
    let pairs = "{ cert_file = \"api.pem\", key_file = \"api.key\" }, { cert_file = \"other.pem\", key_file = \"other.key\" }";
    let listener = format!(
        "[[listener]]\nname = \"decisions\"\naddress = \"{decisions}\"\ndecides_for = \"public\"\n\
         trusted_proxies = [\"127.0.0.1/32\"]\ntls = {{ certificates = [{pairs}], client_ca_file = \"clients.pem\" }}\n"
    );
    let (authority, upstream) = (Authority::new("ours"), Upstream::start());
    let tls =
        "tls = { certificates = [{ cert_file = \"api.pem\", key_file = \"api.key\" }], client_ca_file = \"clients.pem\" }\n";
    let api = format!("{listener}[[api]]\ncontract = \"native\"\nupstream = \"{}\"\n{ROUTES}", upstream.url());
    let mut gateway = Gateway::prepare(tls, &api);
    let folder = gateway.folder.path();
    authority.server(&["api.test"]).save(folder, "api");
    authority.server(&["other.test"]).save(folder, "other");
    fs::write(folder.join("clients.pem"), &authority.pem).unwrap();
    gateway.restart();
    let proxy = Caller::showing(&authority, &authority.client("spiffe://test/proxy"));
    let decide = |path: &str, host: &str| {
        let told = format!(
            "X-Forwarded-Method: GET\r\nX-Forwarded-Uri: {path}\r\nX-Forwarded-Host: {host}\r\nX-Forwarded-For: 203.0.113.9\r\n"
        );
        proxy.connect(decisions, "api.test").unwrap().get_with("api.test", "/decisions", &told).unwrap().0
    };
    assert_eq!([decide("/open", "api.test"), decide("/open", "other.test")], [200, 200]);
    assert_eq!(decide("/machines", "api.test"), 401);
    // The same certificate on a connection of its own is somebody's.
    let mut own = proxy.connect(gateway.address, "api.test").unwrap();
    assert_eq!(own.get("api.test", "/machines").unwrap().0, 200);
}

#[test]
fn a_route_that_takes_certificates_wants_a_listener_that_asks_for_them() {
    let upstream = Upstream::start();
    let api = format!("[[api]]\ncontract = \"native\"\nupstream = \"{}\"\n{ROUTES}", upstream.url());
    let gateway = Gateway::prepare("", &api);
    let said = String::from_utf8_lossy(&gateway.cli(&["check"], "").stderr).into_owned();
    let why = "the route `machines` accepts client certificates, and the listener `public` asks for none";
    assert!(said.contains(why), "{said}");
}
