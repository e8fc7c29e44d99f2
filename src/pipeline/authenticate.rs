//! Who does the credential stand for? Verifies it against keys and the directory; never reads a header, and never waits:
//! everything it needs is in memory.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::contract::Api;
use crate::identity::{Account, Caller, CredentialKind, Principal, Secret, SessionId};
use crate::pipeline::credential::Credential;
use crate::pipeline::exchange::Exchange;
use crate::rejection::{Denial, Failure, Rejection, Stage};
use crate::store::Store;
use crate::token::{KeyFormat, Verifier};

/// What one API accepts.
pub struct Authenticator {
    pub tokens: Verifier,
    pub keys: KeyFormat,
    pub store: Store,
}

impl Authenticator {
    /// Verifies the credential that was found, if any.
    ///
    /// # Errors
    /// The denials of stage `authenticate`.
    pub fn verify(&self, api: &Api, credential: Option<&Credential>, exchange: &mut Exchange) -> Result<Caller, Rejection> {
        let Some(credential) = credential else { return Ok(Caller::Anonymous) };
        let principal = Arc::new(self.judge(api, credential.kind, &credential.text, exchange.now.wall)?);
        exchange.notes.principal = Some(principal.clone());
        exchange.note(Stage::Authenticate, || describe(&principal));
        Ok(Caller::Known(principal))
    }

    /// Who a credential stands for now.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn judge(&self, api: &Api, kind: CredentialKind, text: &Secret, now: Timestamp) -> Result<Principal, Rejection> {
        match kind {
            CredentialKind::Jwt => Ok(self.verify_token(api, text.expose(), now)?),
            CredentialKind::ApiKey => self.verify_key(api, text.expose(), now),
        }
    }

    fn verify_token(&self, api: &Api, token: &str, now: Timestamp) -> Result<Principal, Denial> {
        let claims = self.tokens.verify(token, now)?;
        let text = |name: &str| claims.all.get(name).and_then(serde_json::Value::as_str);
        let environment = text("env").ok_or(Denial::TokenClaim { claim: "env".into() })?;
        if environment != &*api.facts.environment {
            return Err(Denial::EnvironmentForeign { found: environment.to_owned() });
        }
        let session = SessionId::new(claims.session.as_deref().ok_or(Denial::TokenClaim { claim: "sid".into() })?);
        let account = self.active_account(api, &claims.subject)?;
        let directory = self.store.directory();
        // The epoch is the moment from which the account's sessions count: a password change or a disabled account moves
        // it, and with it every earlier token dies, to the millisecond and on every node.
        let epoch =
            claims.all.get("epoch").and_then(serde_json::Value::as_u64).ok_or(Denial::TokenClaim { claim: "epoch".into() })?;
        if epoch != account.sessions_valid_from.0 || directory.session_ended(&api.facts.realm, session.as_str()) {
            return Err(Denial::SessionEnded { session });
        }
        Ok(Principal {
            account,
            kind: CredentialKind::Jwt,
            key: None,
            session: Some(session),
            credential_id: claims.id.ok_or(Denial::TokenClaim { claim: "jti".into() })?.into(),
            expires_at: Some(claims.expires_at),
        })
    }

    fn verify_key(&self, api: &Api, text: &str, now: Timestamp) -> Result<Principal, Rejection> {
        if let Some(found) = api.tokens.key_prefix.foreign_environment(text) {
            return Err(Denial::EnvironmentForeign { found: found.to_owned() }.into());
        }
        let id = api.ids.api_key.with(self.keys.parse(text)?);
        let directory = self.store.directory();
        let Some(key) = directory.key(&api.facts.realm, &id) else { return Err(self.unknown_key(now)) };
        if !key.digest.matches(text) {
            return Err(Denial::KeyUnknown.into());
        }
        if key.revoked_at.is_some() {
            return Err(Denial::KeyRevoked { key: key.id.clone() }.into());
        }
        if key.expires_at.is_some_and(|at| at <= now) {
            return Err(Denial::KeyExpired { key: key.id.clone() }.into());
        }
        if key.environment != api.facts.environment {
            return Err(Denial::EnvironmentForeign { found: key.environment.to_string() }.into());
        }
        let account = self.active_account(api, key.owner.as_str())?;
        Ok(Principal {
            account,
            kind: CredentialKind::ApiKey,
            session: None,
            credential_id: key.id.0.clone(),
            expires_at: key.expires_at,
            key: Some(key),
        })
    }

    /// While the store cannot be read, a key that another process made may be good and not known here: that is our
    /// failure, and no word about the key.
    fn unknown_key(&self, now: Timestamp) -> Rejection {
        let known_until = self.store.directory().followed_at();
        match known_until.plus(FRESH) < now {
            true => Failure::StoreUnavailable { detail: format!("nothing was heard of new keys since {known_until}") }.into(),
            false => Denial::KeyUnknown.into(),
        }
    }

    fn active_account(&self, api: &Api, id: &str) -> Result<Arc<Account>, Denial> {
        let id = crate::identity::AccountId::new(id);
        match self.store.directory().account(&api.facts.realm, &id) {
            None => Err(Denial::AccountGone { account: id.to_string() }),
            Some(account) if !account.is_active() => Err(Denial::AccountDisabled { account: id }),
            Some(account) => Ok(account),
        }
    }
}

/// How old the directory may be for an unknown key to be called unknown. It is brought up to date twice a second.
const FRESH: Duration = Duration::from_secs(5);

fn describe(principal: &Principal) -> String {
    let until = principal.expires_at.map_or_else(|| "without expiry".to_owned(), |at| format!("valid until {at}"));
    format!(
        "{} {} of account {} ({}), {until}",
        principal.kind, principal.credential_id, principal.account.id, principal.account.username
    )
}
