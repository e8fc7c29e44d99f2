//! Certificates of clients: whose are taken, and what they say.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::clock::Timestamp;
use crate::config::{CertificateName as NameKind, ClientAuth, ListenerTls};
use crate::listener::tls::{Files, TlsFault};

/// What a client's certificate says. Its signature was verified, and that it is for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Every name in it that can be a subject, in the order of the certificate.
    pub names: Vec<(NameKind, String)>,
    /// In hexadecimal.
    pub serial: String,
    pub not_before: Timestamp,
    /// From then on it is refused, also on a connection that began before.
    pub not_after: Timestamp,
}

impl ClientCertificate {
    /// `None` when it is no certificate that can be read.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let extension = parsed.subject_alternative_name().ok()?;
        let alternatives = extension.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let mut names: Vec<(NameKind, String)> = alternatives.iter().filter_map(alternative).collect();
        let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(|name| (NameKind::CommonName, name.to_owned())));
        // A name goes into headers and logs.
        names.retain(|(_, name)| {
            !name.is_empty() && name.len() <= MOST_BYTES && name.bytes().all(|b| matches!(b, b'!'..=b'~' | b' '))
        });
        let moment = |time: &x509_parser::time::ASN1Time| Timestamp::from_seconds(u64::try_from(time.timestamp()).unwrap_or(0));
        Some(Self {
            names,
            serial: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: moment(&parsed.validity().not_before),
            not_after: moment(&parsed.validity().not_after),
        })
    }

    /// The subject: the first kind of `order` that the certificate has. `None` when it has none of them, or two names of
    /// that kind: then nobody can say which of them is meant.
    pub fn subject(&self, order: &[NameKind]) -> Option<&str> {
        let of_kind = |kind: NameKind| self.names.iter().filter(move |(known, _)| *known == kind).map(|(_, name)| name.as_str());
        let kind = order.iter().find(|kind| of_kind(**kind).next().is_some())?;
        let mut names = of_kind(*kind);
        names.next().filter(|_| names.next().is_none())
    }
}

fn alternative(name: &GeneralName<'_>) -> Option<(NameKind, String)> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of names are an open set; those that are no subjects are left")]
    match name {
        GeneralName::URI(uri) => Some((NameKind::Uri, (*uri).to_owned())),
        GeneralName::DNSName(name) => Some((NameKind::Dns, name.to_ascii_lowercase())),
        GeneralName::RFC822Name(name) => Some((NameKind::Email, (*name).to_owned())),
        _ => None,
    }
}

/// Whom the listener takes client certificates from.
pub fn verifier(
    config: &ListenerTls,
    files: &Files,
    provider: &Arc<CryptoProvider>,
    faults: &mut Vec<TlsFault>,
) -> Arc<dyn ClientCertVerifier> {
    let none = WebPkiClientVerifier::no_client_auth();
    let auth = config.client_auth();
    let Some(file) = files.client_ca.as_ref().filter(|_| auth != ClientAuth::Off) else { return none };
    let Some(pem) = file.bytes(faults) else { return none };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let added = certificate.map_err(|error| format!("it is no PEM: {error}"));
        let added = added.and_then(|root| roots.add(root).map_err(|error| format!("it holds no certificate: {error}")));
        if let Err(why) = added {
            faults.push(file.fault(why));
            return none;
        }
    }
    let mut lists = Vec::new();
    if let Some(file) = &files.client_crl {
        let Some(pem) = file.bytes(faults) else { return none };
        let read: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
        match read {
            Ok(read) if !read.is_empty() => lists = read,
            Ok(_) | Err(_) => {
                faults.push(file.fault("it holds no revocation list; expected PEM, `-----BEGIN X509 CRL-----`"));
                return none;
            }
        }
    }
    // Lists of all authorities are rarely at hand; one that is there counts, for the client's own certificate.
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .with_crls(lists)
        .only_check_end_entity_revocation()
        .allow_unknown_revocation_status();
    if auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().unwrap_or_else(|error| {
        faults.push(file.fault(format_args!("no client certificate can be verified with it: {error}")));
        none
    })
}

/// Longest name that is somebody.
const MOST_BYTES: usize = 256;
