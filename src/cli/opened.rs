//! The config and the store, for commands that work on the store directly, whether a server runs or not.

use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::runtime::Builder;

use crate::app::load::Ready;
use crate::cli::load::Invocation;
use crate::cli::outcome::Usage;
use crate::clock::{self, Timestamp};
use crate::config::report::nearest;
use crate::identity::{Account, AccountId, canonical_login};
use crate::observe::{AuditAction, AuditEvent};
use crate::store::{Change, Store};

pub struct Opened {
    pub ready: Ready,
    pub store: Store,
    /// When the command began.
    pub now: Timestamp,
}

/// Opens the store of the config, does the work and closes the store again.
pub fn with_store<T>(invocation: &Invocation, work: impl AsyncFnOnce(&Opened) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let ready = invocation.load()?;
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let store = Store::open(ready.store_options(), runtime.handle().clone()).await?;
        let opened = Opened { ready, store, now: clock::now().wall };
        let outcome = work(&opened).await;
        opened.store.close().await;
        outcome
    })
}

impl Opened {
    /// The realm that was named, or the only one there is.
    ///
    /// # Errors
    /// [`Usage`] where one of several must be named; another error for a name that is no realm.
    pub fn realm(&self, named: Option<&str>) -> anyhow::Result<Arc<str>> {
        let realms: Vec<&str> = self.ready.realms().into_iter().collect();
        match (named, realms.as_slice()) {
            (None, [only]) => Ok((*only).into()),
            (None, _) => Err(Usage(format!("say which realm with --realm: {}", realms.join(", "))).into()),
            (Some(name), _) if realms.contains(&name) => Ok(name.into()),
            (Some(name), _) => bail!("{}", unknown("realm", name, &realms)),
        }
    }

    /// The account with this login name, email or id.
    pub async fn account(&self, realm: &str, name: &str) -> anyhow::Result<Arc<Account>> {
        let by_login = self.store.login_record(realm, name).await?.map(|record| record.account);
        let by_id = self.store.directory().account(realm, &AccountId::new(name));
        match (by_login, by_id) {
            (Some(one), Some(other)) if one.id != other.id => {
                bail!("`{name}` is the name of account {} and the id of {} ({})", one.id, other.id, other.username)
            }
            (Some(account), _) | (None, Some(account)) => Ok(account),
            (None, None) => {
                let accounts = self.store.accounts(Some(realm)).await?;
                let names: Vec<String> = accounts.iter().map(|account| canonical_login(&account.username)).collect();
                let guess = nearest(&canonical_login(name), &names.iter().map(String::as_str).collect::<Vec<_>>());
                let guess = guess.map_or_else(String::new, |guess| format!("; did you mean `{guess}`?"));
                bail!("there is no account `{name}` in realm {realm}{guess}")
            }
        }
    }

    /// Writes a change together with its audit event.
    pub async fn write(&self, change: Change, realm: &str, action: AuditAction, object: &str) -> anyhow::Result<()> {
        let event = AuditEvent {
            at: self.now,
            realm: realm.to_owned(),
            action,
            done: true,
            actor: OPERATOR.to_owned(),
            object: object.to_owned(),
            client_ip: None,
            request_id: None,
            reason: None,
        };
        Ok(self.store.write(change, Some(event)).await?)
    }
}

/// `what` has no member `name`: names the nearest, and all of them.
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let list = if known.is_empty() { "there is none".to_owned() } else { format!("known: {}", known.join(", ")) };
    match nearest(name, known) {
        Some(guess) => format!("unknown {what} `{name}`; did you mean `{guess}`? {list}"),
        None => format!("unknown {what} `{name}`; {list}"),
    }
}

/// Who acts, in the audit trail.
const OPERATOR: &str = "operator";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let known = ["admin", "viewer"];
        assert_eq!(unknown("role", "amdin", &known), "unknown role `amdin`; did you mean `admin`? known: admin, viewer");
        assert_eq!(unknown("role", "root", &known), "unknown role `root`; known: admin, viewer");
        assert_eq!(unknown("role", "root", &[]), "unknown role `root`; there is none");
    }
}
