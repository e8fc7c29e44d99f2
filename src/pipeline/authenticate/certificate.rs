//! Client certificates: who one stands for, and whether it still does.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::config::CertificateAccounts;
use crate::contract::Api;
use crate::identity::{Account, AccountId, CredentialKind, Foreign, Principal, Status};
use crate::listener::ClientCertificate;
use crate::pipeline::authenticate::Authenticator;
use crate::rejection::{Denial, Rejection};

impl Authenticator {
    /// Who a certificate stands for now. Its signature and its authority were verified when the connection began, which may
    /// be long ago.
    ///
    /// # Errors
    /// [`Denial::CertificateExpired`], [`Denial::CertificateSubject`], and what is wrong with its account.
    pub(super) fn certificate(&self, api: &Api, certificate: &ClientCertificate, now: Timestamp) -> Result<Principal, Rejection> {
        let serial = || certificate.serial.clone();
        if !(certificate.not_before..=certificate.not_after).contains(&now) {
            return Err(Denial::CertificateExpired { serial: serial() }.into());
        }
        let subject = certificate.subject(&self.certificates.subject);
        let subject = subject.ok_or_else(|| Denial::CertificateSubject { serial: serial() })?;
        let (account, counted_as) = match self.certificates.accounts {
            CertificateAccounts::Store => (self.active_account(api, subject, now)?, None),
            CertificateAccounts::Certificate => {
                // The upstream knows accounts by their ids: a subject that has none must not look like one that has.
                if self.store.directory().account(&api.facts.realm, &AccountId::new(subject)).is_some() {
                    return Err(Denial::SubjectTaken { issuer: AUTHORITIES.into(), subject: subject.to_owned() }.into());
                }
                (Arc::new(stranger(api, subject, certificate.not_before)), Some(format!("{AUTHORITIES}\0{subject}").into()))
            }
        };
        let foreign = Foreign { issuer: AUTHORITIES.into(), counted_as, tenant: None, scopes: None, roles_bound: true };
        Ok(Principal {
            account,
            kind: CredentialKind::ClientCertificate,
            key: None,
            session: None,
            foreign: Some(Arc::new(foreign)),
            credential_id: certificate.serial.as_str().into(),
            expires_at: Some(certificate.not_after),
        })
    }
}

/// Somebody of whom nothing is known but the subject of a certificate.
fn stranger(api: &Api, subject: &str, since: Timestamp) -> Account {
    Account {
        id: AccountId::new(subject),
        realm: api.facts.realm.clone(),
        username: subject.to_owned(),
        email: None,
        display_name: None,
        status: Status::Active,
        tenants: Vec::new(),
        roles: Vec::new(),
        attributes: std::collections::BTreeMap::new(),
        created_at: since,
        sessions_valid_from: Timestamp::default(),
    }
}

/// What stands for the issuer of a certificate, beside the issuers of tokens.
const AUTHORITIES: &str = "client_certificate";
