//! Login name and password to a session with its tokens.
//!
//! Unknown, disabled and wrong are one answer after one hash of one cost: nobody learns from here who has an account.

use std::sync::Arc;

use crate::contract::{Endpoint, Input, Inputs};
use crate::identity::{Account, Digest, Secret, SessionId, canonical_login};
use crate::issuer::{Call, Issuer, Outcome, RefreshToken};
use crate::limiter::{Spending, Spent, Subject};
use crate::observe::AuditAction;
use crate::password::Verdict;
use crate::random;
use crate::rejection::{Denial, Rejection};
use crate::store::{Change, Session};

/// Longest password, in bytes: hashing time must not grow with what a stranger sends.
const MAX_PASSWORD_BYTES: usize = 1024;

impl Issuer {
    pub(super) async fn login(&self, endpoint: &Endpoint, inputs: &Inputs, call: &Call) -> Result<Outcome, Rejection> {
        let name = inputs.text(Input::LoginName).unwrap_or_default();
        let password = Secret::new(inputs.text(Input::LoginPassword).unwrap_or_default());
        if password.expose().len() > MAX_PASSWORD_BYTES {
            let field = endpoint.fields.name_of(Input::LoginPassword).unwrap_or_default().to_owned();
            return Err(Denial::FieldInvalid { field, reason: format!("is longer than {MAX_PASSWORD_BYTES} bytes") }.into());
        }
        // Counted before the hash: a hundred tries at once are a hundred tries.
        let attempts = self.spend_attempts(name, call)?;
        let account = self.check_password(name, password, call).await?;
        let outcome = self.open_session(account.clone(), call).await?;
        self.check_still_valid(name, &account).await?;
        let refunded = attempts.iter().filter(|spent| spent.counted.counts_failures_only());
        refunded.for_each(|spent| spent.refund(&self.limiter));
        Ok(outcome)
    }

    fn spend_attempts(&self, name: &str, call: &Call) -> Result<Vec<Spent>, Rejection> {
        let account = canonical_login(name);
        let subject = Subject {
            realm: &self.api.facts.realm,
            route: &call.route,
            client_ip: call.client,
            headers: &call.headers,
            account: Some(&account),
            key: None,
            tenant: None,
        };
        let mut spent = Vec::new();
        for quota in &call.attempts {
            spent.extend(quota.spend(&self.limiter, &subject, call.now.tick, Spending::Spend)?);
        }
        Ok(spent)
    }

    async fn check_password(&self, name: &str, password: Secret, call: &Call) -> Result<Arc<Account>, Rejection> {
        let record = self.store.login_record(&self.api.facts.realm, name).await?;
        let active = record.as_ref().filter(|record| record.account.is_active());
        let stored = active.and_then(|record| record.password.clone());
        let verdict = self.passwords.verify(password.clone(), stored).await?;
        match (record, verdict) {
            (None, _) => Err(Denial::LoginUnknown.into()),
            (Some(record), _) if !record.account.is_active() => {
                Err(Denial::LoginDisabled { account: record.account.id.clone() }.into())
            }
            (Some(record), Verdict::Wrong) => Err(Denial::LoginPassword { account: record.account.id.clone() }.into()),
            (Some(record), Verdict::Right { outdated }) => {
                if outdated && let Some(replaces) = record.password {
                    self.rehash(&record.account, replaces, password, call).await;
                }
                Ok(record.account)
            }
        }
    }

    /// While the password was checked, it may have been changed or the account disabled. A change that is committed from
    /// here on ends the session, which it finds; one that came before is seen here, and the session's tokens go to nobody.
    async fn check_still_valid(&self, name: &str, account: &Account) -> Result<(), Rejection> {
        let now = self.store.login_record(&self.api.facts.realm, name).await?;
        let same = |now: &Account| now.is_active() && now.sessions_valid_from == account.sessions_valid_from;
        match now.is_some_and(|record| same(&record.account)) {
            true => Ok(()),
            false => Err(Denial::LoginPassword { account: account.id.clone() }.into()),
        }
    }

    /// Brings a stored hash up to the current parameters. The login stands even when that fails.
    async fn rehash(&self, account: &Account, replaces: Secret, password: Secret, call: &Call) {
        let change = match self.passwords.hash(password).await {
            Ok(hash) => {
                Change::Rehash { realm: self.api.facts.realm.clone(), account: account.id.clone(), password: hash, replaces }
            }
            Err(error) => return tracing::warn!(%error, request_id = call.request_id, "a password could not be rehashed"),
        };
        if let Err(error) = self.store.write(change, None).await {
            tracing::warn!(%error, request_id = call.request_id, "a rehashed password could not be stored");
        }
    }

    async fn open_session(&self, account: Arc<Account>, call: &Call) -> Result<Outcome, Rejection> {
        let (facts, now, ttl) = (&self.api.facts, call.now.wall, self.api.tokens.refresh_ttl);
        let id = SessionId::new(self.api.ids.session.mint());
        let text = Secret::new(random::token());
        let session = Session {
            id: id.clone(),
            realm: facts.realm.clone(),
            api: facts.name.clone(),
            account: account.id.clone(),
            refresh: Digest::of(text.expose()),
            // A clock that was set back must not put the session before the moment from which sessions count.
            created_at: now.max(account.sessions_valid_from),
            expires_at: now.plus(ttl),
            ended_at: None,
        };
        let access = self.grant(&account, &id, session.expires_at, now)?;
        let refresh = RefreshToken { text, ttl, expires_at: session.expires_at };
        let event = self.event(AuditAction::Login, account.id.to_string(), id.to_string(), call);
        self.store(Change::OpenSession(session), event).await?;
        Ok(Outcome {
            account: Some(account),
            access: Some(access),
            refresh: Some(refresh),
            session: Some(id),
            ..Outcome::default()
        })
    }
}
