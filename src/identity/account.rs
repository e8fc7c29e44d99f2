//! An account: a person or a program with a name in a realm.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::clock::Timestamp;

/// The id that clients and upstreams see. Imported accounts keep the upstream's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub Arc<str>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Active,
    Disabled,
}

/// A role in one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub tenant: Arc<str>,
    pub role: Arc<str>,
}

/// What the gateway knows of an account. The password hash is not here: it stays in the store.
#[derive(Clone, Debug)]
pub struct Account {
    pub id: AccountId,
    /// The directory that the account lives in; ids and login names are unique within it.
    pub realm: Arc<str>,
    pub username: String,
    pub email: Option<String>,
    pub display_name: Option<String>,
    pub status: Status,
    /// Roles that hold outside any tenant.
    pub roles: Vec<Arc<str>>,
    pub tenants: Vec<Membership>,
    /// What an API shows of its users and the gateway has no use for.
    pub attributes: BTreeMap<String, String>,
    pub created_at: Timestamp,
    /// Sessions and tokens issued before this moment are dead: raised when a password changes or the account is disabled.
    pub sessions_valid_from: Timestamp,
}

impl Account {
    pub fn is_active(&self) -> bool {
        self.status == Status::Active
    }

    /// The roles in one tenant; several only where another issuer says so.
    pub fn roles_in<'a>(&'a self, tenant: &str) -> impl Iterator<Item = &'a Arc<str>> {
        self.tenants.iter().filter(move |membership| &*membership.tenant == tenant).map(|membership| &membership.role)
    }
}

/// The one form in which login names are compared and counted: no surrounding blanks, lower case. `Bob`, ` bob` and
/// `BOB` are one account and one counter.
pub fn canonical_login(name: &str) -> String {
    name.trim().to_lowercase()
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Disabled].into_iter().find(|status| status.as_str() == text)
    }
}

impl AccountId {
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_login_name_are_one_account() {
        for spelling in ["bob", "Bob", " bob", "BOB\t"] {
            assert_eq!(canonical_login(spelling), "bob");
        }
        assert_ne!(canonical_login("bob@x"), "bob");
    }
}
