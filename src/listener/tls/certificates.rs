//! The certificates of one listener, and which of them is shown to whom.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::clock::Timestamp;
use crate::listener::tls::{Expiry, Pair, TlsFault};

/// Certificates by the names that they are for. A name that stands in two of them belongs to the first; a name that stands
/// in none, and a client that asks for none, get the first of all.
pub struct Certificates {
    all: Vec<Certificate>,
    /// Lower case, without trailing dot.
    exact: HashMap<String, usize>,
    /// `*.example.com` as `example.com`: it is for names with exactly one label more (RFC 6125, section 6.4.3).
    wildcard: HashMap<String, usize>,
}

struct Certificate {
    key: Arc<CertifiedKey>,
    expiry: Expiry,
}

impl Certificates {
    pub fn new(pairs: &[Pair], provider: &CryptoProvider, now: Timestamp, faults: &mut Vec<TlsFault>) -> Self {
        let mut read = Self { all: Vec::new(), exact: HashMap::new(), wildcard: HashMap::new() };
        for pair in pairs {
            if let Some((key, names, not_after)) = pair.read(provider, now, faults) {
                read.add(key, names, not_after);
            }
        }
        read
    }

    fn add(&mut self, key: CertifiedKey, names: Vec<String>, not_after: Timestamp) {
        let index = self.all.len();
        let name = names.first().cloned().unwrap_or_else(|| "?".to_owned());
        for name in names {
            match name.strip_prefix("*.") {
                Some(parent) => self.wildcard.entry(parent.to_owned()).or_insert(index),
                None => self.exact.entry(name).or_insert(index),
            };
        }
        self.all.push(Certificate { key: Arc::new(key), expiry: Expiry { name, not_after } });
    }

    /// Which certificate a name gets.
    pub fn index_for(&self, name: Option<&str>) -> usize {
        let Some(name) = name.filter(|_| self.all.len() > 1) else { return 0 };
        let name = plain(name);
        let below = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(&name).or_else(below).copied().unwrap_or(0)
    }

    pub fn expiries(&self) -> Vec<Expiry> {
        self.all.iter().map(|certificate| certificate.expiry.clone()).collect()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let index = self.index_for(hello.server_name());
        self.all.get(index).map(|certificate| certificate.key.clone())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|certificate| &certificate.expiry)).finish()
    }
}

/// As names are compared: DNS knows no case, and a trailing dot only says that a name is whole.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl Pair {
    /// The chain with its key, the names that it is for, and its end.
    fn read(
        &self,
        provider: &CryptoProvider,
        now: Timestamp,
        faults: &mut Vec<TlsFault>,
    ) -> Option<(CertifiedKey, Vec<String>, Timestamp)> {
        let (certificate, key) = (self.certificate.bytes(faults), self.key.bytes(faults));
        let judge = || -> Result<_, TlsFault> {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.unwrap_or_default()).collect();
            let chain = chain.map_err(|error| self.certificate.fault(format_args!("it is no PEM: {error}")))?;
            let first = chain.first().ok_or_else(|| self.certificate.fault(NO_CERTIFICATE))?;
            let (names, not_after) = facts(first, now).map_err(|why| self.certificate.fault(why))?;
            // rustls says more of a key than is to be seen, so its words are not passed on.
            let key = PrivateKeyDer::from_pem_slice(key.unwrap_or_default()).map_err(|_| self.key.fault(NO_KEY))?;
            let is_foreign = |error: &Error| *error == Error::InconsistentKeys(InconsistentKeys::KeyMismatch);
            let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match is_foreign(&error) {
                true => {
                    let certificate = self.certificate.path.display();
                    self.key.fault(format_args!("it is not the key of the certificate in {certificate}"))
                }
                false => self.key.fault(NO_KEY),
            })?;
            Ok((key, names, not_after))
        };
        // Of a file that cannot be read nothing more is to be said.
        (certificate.is_some() && key.is_some()).then(|| judge().map_err(|fault| faults.push(fault)).ok()).flatten()
    }
}

/// The names of a certificate and its end, if it is valid now.
fn facts(certificate: &CertificateDer<'_>, now: Timestamp) -> Result<(Vec<String>, Timestamp), String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| format!("it holds no certificate: {error}"))?;
    let moment = |time: &x509_parser::time::ASN1Time| Timestamp::from_seconds(u64::try_from(time.timestamp()).unwrap_or(0));
    let (not_before, not_after) = (moment(&parsed.validity().not_before), moment(&parsed.validity().not_after));
    if now > not_after {
        return Err(format!("the certificate has expired at {not_after}"));
    }
    if now < not_before {
        return Err(format!("the certificate is not valid before {not_before}"));
    }
    let extension = parsed.subject_alternative_name().map_err(|error| format!("its names cannot be read: {error}"))?;
    let alternatives = extension.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let names =
        alternatives.iter().filter_map(|name| if let GeneralName::DNSName(name) = name { Some(plain(name)) } else { None });
    Ok((names.collect(), not_after))
}

const NO_CERTIFICATE: &str = "it holds no certificate; expected PEM, `-----BEGIN CERTIFICATE-----`";
const NO_KEY: &str = "it holds no private key that can be used; expected PEM, e.g. `-----BEGIN PRIVATE KEY-----`";

#[cfg(test)]
mod tests {
    use super::*;

    fn of(certificates: &[&[&str]]) -> Certificates {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let mut read = Certificates { all: Vec::new(), exact: HashMap::new(), wildcard: HashMap::new() };
        for names in certificates {
            let made = rcgen::generate_simple_self_signed(vec!["any.test".to_owned()]).unwrap();
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
            let key = CertifiedKey::from_der(vec![made.cert.der().clone()], key, &provider).unwrap();
            read.add(key, names.iter().map(|name| plain(name)).collect(), Timestamp(0));
        }
        read
    }

    /// N4: in any case, with or without the dot at the end.
    #[test]
    fn names_are_compared_as_dns_does() {
        let certificates = of(&[&["first.test"], &["Other.Test.", "*.Wild.test"]]);
        for name in ["other.test", "OTHER.test", "other.test.", "a.wild.test", "A.WILD.TEST."] {
            assert_eq!(certificates.index_for(Some(name)), 1, "{name}");
        }
        for name in ["first.test", "wild.test", "b.a.wild.test", "*.wild.test.x", "", ".", "unknown.test"] {
            assert_eq!(certificates.index_for(Some(name)), 0, "{name}");
        }
        assert_eq!(certificates.index_for(None), 0);
    }

    #[test]
    fn an_exact_name_wins_over_a_wildcard_and_an_earlier_certificate_over_a_later_one() {
        let certificates = of(&[&["*.test"], &["a.test", "b.test"], &["a.test", "*.test"]]);
        assert_eq!(["a.test", "b.test", "c.test"].map(|name| certificates.index_for(Some(name))), [1, 1, 0]);
    }
}
