//! Audit events: who did what to which account, session or key, from where, and whether it was done.

use std::net::IpAddr;

use crate::clock::Timestamp;

/// One line of the audit trail. It is stored in the same transaction as the change that it tells of, so that neither
/// exists without the other; a refused login is stored alone.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    pub at: Timestamp,
    pub realm: String,
    pub action: AuditAction,
    pub done: bool,
    /// Who acted: an account id, or the login name that was tried, or `operator` for the command line.
    pub actor: String,
    /// What was acted on: the id of an account, a session or a key, or how many keys were imported.
    pub object: String,
    pub client_ip: Option<IpAddr>,
    pub request_id: Option<String>,
    /// The reason code of a refusal.
    pub reason: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditAction {
    Login,
    Refresh,
    Logout,
    KeyCreate,
    KeyImport,
    KeyRevoke,
    AccountCreate,
    AccountDisable,
    AccountEnable,
    PasswordChange,
}

impl AuditAction {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Refresh => "refresh",
            Self::Logout => "logout",
            Self::KeyCreate => "key_create",
            Self::KeyImport => "key_import",
            Self::KeyRevoke => "key_revoke",
            Self::AccountCreate => "account_create",
            Self::AccountDisable => "account_disable",
            Self::AccountEnable => "account_enable",
            Self::PasswordChange => "password_change",
        }
    }
}
