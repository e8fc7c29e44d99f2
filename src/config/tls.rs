//! `tls` of a listener: certificates, and what is asked of clients.

use std::path::PathBuf;

use crate::config::decode::{section, words};
use crate::config::report::{Located, Report};

section! {
    /// `tls` of a listener.
    pub struct ListenerTls {
        /// Which one a client gets is told by the name that it asks for; the first is for all other names.
        certificates: Vec<CertificatePair>,
        /// The least version of TLS.
        min_version: TlsVersion = TlsVersion::V12,
        /// Whether a client shows a certificate: "off", "optional", or "required"; with a `client_ca_file` it is required by
        /// default. One that cannot be verified is refused in any case. Who may do what is said by `accept` of the routes.
        client_auth: Option<ClientAuth> = None,
        /// The authorities (PEM) whose client certificates are taken.
        client_ca_file: Option<Located<PathBuf>> = None,
        /// Revocation lists (PEM) of these authorities.
        client_crl_file: Option<Located<PathBuf>> = None,
    }
}

section! {
    /// A certificate and its key. Both files are read again when they change.
    pub struct CertificatePair {
        /// The certificate (PEM), then those between it and its authority.
        cert_file: Located<PathBuf>,
        /// Its private key (PEM).
        key_file: Located<PathBuf>,
    }
}

words! {
    /// Versions of TLS.
    pub enum TlsVersion { V12 = "1.2", V13 = "1.3" }
}

words! {
    /// Whether a client must show a certificate.
    pub enum ClientAuth { Off = "off", Optional = "optional", Required = "required" }
}

words! {
    /// Names in a client certificate: of its subject alternative names (RFC 5280, section 4.2.1.6), or its common name.
    pub enum CertificateName { Uri = "uri", Dns = "dns", Email = "email", CommonName = "common_name" }
}

impl ListenerTls {
    /// What is asked of clients: authorities without a word about it mean that a certificate is required.
    pub fn client_auth(&self) -> ClientAuth {
        self.client_auth.unwrap_or(if self.client_ca_file.is_some() { ClientAuth::Required } else { ClientAuth::Off })
    }

    /// Whether both say the same, wherever they stand. What their files hold may differ.
    pub fn is_same(&self, other: &Self) -> bool {
        let says = |tls: &Self| {
            let path = |file: &Option<Located<PathBuf>>| file.as_ref().map(|file| file.value.clone());
            let pair = |pair: &CertificatePair| (pair.cert_file.value.clone(), pair.key_file.value.clone());
            let pairs: Vec<_> = tls.certificates.iter().map(pair).collect();
            (pairs, tls.min_version, tls.client_auth(), path(&tls.client_ca_file), path(&tls.client_crl_file))
        };
        says(self) == says(other)
    }

    /// Reports what is wrong within the section. What is wrong with its files is found by whoever reads them.
    pub fn check(&self, report: &mut Report) {
        if self.certificates.is_empty() && report.is_sound(self.place, "certificates") {
            let help = "expected e.g. `certificates = [{ cert_file = \"tls/api.pem\", key_file = \"tls/api.key\" }]`";
            report.error_with_help(
                report.at(self.place, "certificates"),
                "there is no certificate: no handshake would succeed",
                help,
            );
        }
        let off = self.client_auth() == ClientAuth::Off;
        match (&self.client_ca_file, &self.client_crl_file) {
            (None, _) if !off => {
                let help = "name the authorities that sign the clients' certificates";
                report.error_with_help(report.at(self.place, "client_auth"), "`client_auth` wants a `client_ca_file`", help);
            }
            (Some(file), _) if off => {
                let why = "`client_ca_file` is not used while `client_auth` is \"off\"";
                report.error_with_help(file.place, why, "expected \"optional\" or \"required\"");
            }
            (None, Some(file)) => report.error(file.place, "`client_crl_file` is not used without a `client_ca_file`"),
            (None | Some(_), None) | (Some(_), Some(_)) => {}
        }
    }
}
