//! Login name and password to a session with its tokens.
//!
//! Unknown, disabled and wrong are one answer after one hash of one cost: nobody learns from here who has an account.

use std::sync::Arc;

use crate::contract::{Endpoint, Input, Inputs};
use crate::identity::{Account, Digest, Secret, SessionId, canonical_login};
use crate::issuer::{Call, Issuer, Outcome, RefreshToken};
use crate::limiter::{Counting, Spending, Spent, Subject};
use crate::observe::AuditAction;
use crate::password::Verdict;
use crate::random;
use crate::rejection::{Denial, Rejection};
use crate::store::{Change, LoginRecord, Session};

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
        let record = self.store.login_record(&self.api.facts.realm, name).await?;
        // By the account where there is one, so that its name and its email are not two counters; and before the hash: a
        // hundred tries at once are a hundred tries.
        let counted = record.as_ref().map_or_else(|| canonical_login(name), |record| record.account.id.to_string());
        let attempts = self.spend_attempts(&counted, call).await?;
        let account = self.check_password(record, password, call).await?;
        let outcome = self.open_session(account.clone(), call).await?;
        self.check_still_valid(name, &account).await?;
        let refunded = attempts.iter().filter(|spent| spent.counted.counts_failures_only());
        refunded.for_each(|spent| spent.refund(&self.limiter));
        Ok(outcome)
    }

    async fn spend_attempts(&self, account: &str, call: &Call) -> Result<Vec<Spent>, Rejection> {
        let subject = Subject {
            realm: &self.api.facts.realm,
            route: &call.route,
            client_ip: call.client,
            headers: &call.headers,
            account: Some(account),
            key: None,
            tenant: None,
        };
        let (mut attempts, mut waited) = (Vec::new(), call.waited);
        for quota in &call.attempts {
            let counting = quota.spend(&self.limiter, &subject, call.now.tick, Spending::Spend, &mut waited).await;
            if let Counting::Done(spent) = counting.map_err(|refusal| refusal.rejection())? {
                attempts.push(spent);
            }
        }
        Ok(attempts)
    }

    async fn check_password(
        &self,
        record: Option<LoginRecord>,
        password: Secret,
        call: &Call,
    ) -> Result<Arc<Account>, Rejection> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::time::Duration;

    use bytes::Bytes;
    use http::HeaderMap;
    use tokio::runtime::Handle;

    use super::*;
    use crate::clock::{self, Timestamp};
    use crate::config::report::Report;
    use crate::config::value::Quota;
    use crate::config::{Algorithm, Count, KeyPart, Mode, OnOutage, StoreUrl, parse};
    use crate::contract::{Limit, Operation, Surroundings, compile};
    use crate::identity::{AccountId, Status};
    use crate::limiter::{Counted, Limiter, Memory, Waited};
    use crate::password::Passwords;
    use crate::store::{Store, StoreOptions};
    use crate::token::{KeyFormat, SigningKey};

    async fn issuer(folder: &Path) -> Issuer {
        let config = "[[api]]\nupstream = \"http://127.0.0.1:9000\"\ncontract = \"native\"\n";
        let (mut report, environment) = (Report::default(), |_: &str| None);
        let loaded = parse(config, Path::new("gateway.toml"), &environment, &mut report).unwrap();
        let around = Surroundings { folder, environment: &environment };
        let api = Arc::new(compile(&loaded.config.apis[0], &around, &mut report).unwrap());
        let options =
            StoreOptions { url: StoreUrl::Sqlite(folder.join("gateward.db")), encryption_key_file: folder.join("gateward.key") };
        let algorithm = api.tokens.algorithm;
        Issuer {
            store: Store::open(options, Handle::current()).await.unwrap(),
            passwords: Arc::new(Passwords::start(1, 4)),
            signing: Arc::new(SigningKey::load(algorithm, &SigningKey::generate(algorithm)).unwrap()),
            keys: KeyFormat { prefix: "gw_live_".to_owned(), also: Vec::new(), family: "gw_".to_owned(), foreign: Vec::new() },
            limiter: Arc::new(Limiter::Memory(Memory::new(1000))),
            api,
        }
    }

    async fn add(issuer: &Issuer, id: &str, username: &str, email: &str) {
        let account = Account {
            id: AccountId::new(id),
            realm: issuer.api.facts.realm.clone(),
            username: username.to_owned(),
            email: Some(email.to_owned()),
            display_name: None,
            status: Status::Active,
            roles: Vec::new(),
            tenants: Vec::new(),
            attributes: BTreeMap::new(),
            created_at: Timestamp::default(),
            sessions_valid_from: Timestamp::default(),
        };
        let password = issuer.passwords.hash(Secret::new("correct horse")).await.unwrap();
        issuer.store.write(Change::AddAccount { account, password: Some(password) }, None).await.unwrap();
    }

    fn failures(count: u32) -> Arc<Counted> {
        let limit = Limit {
            name: "failures".into(),
            per: vec![KeyPart::Account],
            else_per: Vec::new(),
            quota: Quota { count, window: Duration::from_secs(3600) },
            burst: 1,
            algorithm: Algorithm::FixedWindow,
            count: Count::Failures,
            on_outage: OnOutage::Local,
            mode: Mode::Enforce,
        };
        Arc::new(Counted::new("native", Arc::new(limit)))
    }

    async fn log_in(issuer: &Issuer, limit: &Arc<Counted>, name: &str, password: &str) -> String {
        let (_, endpoint) = issuer.api.endpoint(Operation::Login).unwrap();
        let body = serde_json::json!({ "username": name, "password": password }).to_string();
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        let call = Call {
            principal: None,
            captures: Vec::new(),
            query: None,
            headers,
            body: Bytes::from(body),
            client: "192.0.2.1".parse().unwrap(),
            now: clock::now(),
            request_id: "r".to_owned(),
            route: "login".into(),
            attempts: vec![limit.clone()],
            waited: Waited::default(),
        };
        let answered = issuer.answer(endpoint, call).await;
        answered.map_or_else(|rejection| rejection.code().to_owned(), |response| response.status().as_u16().to_string())
    }

    /// I2: however the account is named, its failures are counted in one place, and those of others in another.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_names_of_one_account_share_a_counter() {
        let folder = tempfile::tempdir().unwrap();
        let issuer = issuer(folder.path()).await;
        add(&issuer, "u1", "bob", "bob@example.com").await;
        add(&issuer, "u2", "eve", "eve@example.com").await;
        let limit = failures(3);
        for (name, password, expected) in [
            ("bob", "wrong", "login_password"),
            (" BOB@example.com", "wrong", "login_password"),
            ("Bob", "correct horse", "200"),
            ("bob@EXAMPLE.com", "wrong", "login_password"),
            ("bob", "correct horse", "over_limit"),
            ("bob@example.com", "correct horse", "over_limit"),
            ("eve@example.com", "correct horse", "200"),
            ("nobody", "wrong", "login_unknown"),
        ] {
            assert_eq!(log_in(&issuer, &limit, name, password).await, expected, "{name} {password}");
        }
    }
}
