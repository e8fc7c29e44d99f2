//! The accounts of a realm by all names that `--owner` takes, for files with many owners.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{anyhow, bail};

use crate::identity::{Account, AccountId, canonical_login};

pub struct Owners {
    by_id: HashMap<AccountId, Arc<Account>>,
    by_username: HashMap<String, Arc<Account>>,
    /// `None`: several accounts share the email, and it names none of them.
    by_email: HashMap<String, Option<Arc<Account>>>,
}

impl Owners {
    pub fn new(accounts: Vec<Account>) -> Self {
        let mut owners = Self { by_id: HashMap::new(), by_username: HashMap::new(), by_email: HashMap::new() };
        for account in accounts.into_iter().map(Arc::new) {
            owners.by_id.insert(account.id.clone(), account.clone());
            owners.by_username.insert(canonical_login(&account.username), account.clone());
            if let Some(email) = account.email.as_deref().map(canonical_login) {
                owners.by_email.entry(email).and_modify(|shared| *shared = None).or_insert(Some(account));
            }
        }
        owners
    }

    /// The account with this login name, email or id.
    pub fn find(&self, name: &str) -> anyhow::Result<&Account> {
        let login = canonical_login(name);
        let by_login = self.by_username.get(&login).or_else(|| self.by_email.get(&login)?.as_ref());
        match (by_login, self.by_id.get(&AccountId::new(name))) {
            (Some(one), Some(other)) if one.id != other.id => {
                bail!("the owner is the name of account {} and the id of {} ({})", one.id, other.id, other.username)
            }
            (Some(account), _) | (None, Some(account)) => Ok(account),
            (None, None) => Err(anyhow!("there is no account with the owner's name, email or id")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::identity::Status;

    fn account(id: &str, username: &str, email: Option<&str>) -> Account {
        Account {
            id: AccountId::new(id),
            realm: "r".into(),
            username: username.to_owned(),
            email: email.map(str::to_owned),
            display_name: None,
            status: Status::Active,
            roles: Vec::new(),
            tenants: Vec::new(),
            attributes: Default::default(),
            created_at: Timestamp::default(),
            sessions_valid_from: Timestamp::default(),
        }
    }

    #[test]
    fn owners_are_found_as_logins_are_and_by_their_id() {
        let owners = Owners::new(vec![
            account("u1", "Ann", Some("team@example.com")),
            account("u2", "bob", Some("TEAM@example.com")),
            account("u3", "zoe", Some("Zoe@example.com")),
            account("u4", "u3", None),
        ]);
        let found = |name: &str| owners.find(name).map(|account| account.id.to_string()).ok();
        for name in [" ANN ", "ann", "u1"] {
            assert_eq!(found(name).as_deref(), Some("u1"), "{name}");
        }
        assert_eq!(found("zoe@EXAMPLE.com").as_deref(), Some("u3"));
        for nobody in ["team@example.com", "U1", "", "an"] {
            assert_eq!(found(nobody), None, "{nobody}");
        }
        let told = owners.find("u3").err().unwrap().to_string();
        assert_eq!(told, "the owner is the name of account u4 and the id of u3 (zoe)");
    }
}
