//! The certificates of a `ca_file`.

use std::fs;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Whom a connection with TLS believes, instead of the system's authorities.
pub struct Authorities {
    pub(super) roots: RootCertStore,
    pem: Vec<u8>,
}

impl Authorities {
    /// # Errors
    /// Says which file, and what is wrong with it.
    pub fn read(file: &Path) -> Result<Self, String> {
        let wrong = |why: String| format!("`ca_file` {}: {why}", file.display());
        let pem = fs::read(file).map_err(|error| wrong(format!("it cannot be read: {error}")))?;
        let mut roots = RootCertStore::empty();
        for (index, certificate) in CertificateDer::pem_slice_iter(&pem).enumerate() {
            let number = index.saturating_add(1);
            let certificate = certificate.map_err(|error| wrong(format!("certificate {number} is no PEM: {error}")))?;
            roots.add(certificate).map_err(|error| wrong(format!("certificate {number} is no certificate: {error}")))?;
        }
        if roots.is_empty() {
            return Err(wrong("it holds no certificate; expected PEM, `-----BEGIN CERTIFICATE-----`".to_owned()));
        }
        Ok(Self { roots, pem })
    }

    /// The text of the file.
    pub fn into_pem(self) -> Vec<u8> {
        self.pem
    }
}
