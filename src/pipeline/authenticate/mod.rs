//! Who does the credential stand for? Verifies it against keys and the directory; never reads a header, and never waits:
//! everything it needs is in memory.
//!
//! A token whose signature was verified is remembered whole. What is remembered is what the token says and whose keys said
//! so: its times, those keys, the account and the session are looked at again each time, and what it may do is decided
//! elsewhere, for each request.

mod certificate;
mod cold;
mod foreign;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde_json::Value;

use crate::clock::{Now, Timestamp};
use crate::config::ApiCertificate;
use crate::contract::Api;
use crate::identity::{Account, AccountId, ApiKey, Caller, CredentialKind, Digest, Principal, SessionId};
use crate::limiter::Spending;
use crate::pipeline::credential::Credential;
use crate::pipeline::exchange::Exchange;
use crate::rejection::{Denial, Failure, Rejection, Stage};
use crate::store::Store;
use crate::token::{Claims, Held, KeyFormat, KeyName, VerifiedCache, Verifier, issuer_of, signer_of};

pub use cold::ColdLimit;
pub use foreign::{ClaimNames, ForeignIssuer};

/// What one API accepts.
pub struct Authenticator {
    /// The API's own tokens.
    pub tokens: Verifier,
    /// Those of others.
    pub issuers: Arc<[ForeignIssuer]>,
    pub keys: KeyFormat,
    pub store: Store,
    pub verified: Arc<VerifiedCache<Arc<Verified>>>,
    /// How many tokens one client may have verified.
    pub cold: ColdLimit,
    /// Who a client certificate stands for.
    pub certificates: ApiCertificate,
}

/// A token whose signature was verified.
pub struct Verified {
    claims: Claims,
    signer: Signer,
    /// Who the token stood for the last time. It is asked again each time whether that still holds.
    principal: ArcSwapOption<Principal>,
}

impl Verified {
    fn new(claims: Claims, signer: Signer) -> Self {
        Self { claims, signer, principal: ArcSwapOption::empty() }
    }

    fn remember(&self, principal: Principal) -> Arc<Principal> {
        let principal = Arc::new(principal);
        self.principal.store(Some(principal.clone()));
        principal
    }
}

impl Held for Arc<Verified> {
    fn held_bytes(&self) -> u64 {
        self.claims.held_bytes().saturating_add(PRINCIPAL)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signer {
    /// We did. Another key of ours comes with a cache of its own.
    Own,
    /// The issuer at this place of the list, with the keys of this generation.
    Foreign { issuer: usize, generation: u64 },
}

impl Authenticator {
    /// Verifies the credential that was found, if any.
    ///
    /// # Errors
    /// The denials of stage `authenticate`, [`Denial::OverLimit`], and [`Failure::KeysUnavailable`].
    pub fn verify(
        &self,
        api: &Api,
        credential: Option<&Credential>,
        exchange: &mut Exchange,
        spending: Spending,
    ) -> Result<Caller, Rejection> {
        let Some(credential) = credential else { return Ok(Caller::Anonymous) };
        let (client, now) = (exchange.client, exchange.now);
        let admit = || self.cold.spend(client, now.tick, spending);
        let principal = match credential {
            Credential::Text { kind, text, .. } => self.principal(api, *kind, text.expose(), now, admit)?,
            Credential::Certificate(certificate) => Arc::new(self.certificate(api, certificate, now.wall)?),
        };
        exchange.notes.principal = Some(principal.clone());
        exchange.note(Stage::Authenticate, || describe(&principal));
        Ok(Caller::Known(principal))
    }

    /// Who a credential stands for now.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn judge(&self, api: &Api, kind: CredentialKind, text: &str, now: Now) -> Result<Arc<Principal>, Rejection> {
        self.principal(api, kind, text, now, || Ok(()))
    }

    fn principal(
        &self,
        api: &Api,
        kind: CredentialKind,
        text: &str,
        now: Now,
        admit: impl FnOnce() -> Result<(), Denial>,
    ) -> Result<Arc<Principal>, Rejection> {
        match kind {
            CredentialKind::Jwt => self.token(api, text, now, admit),
            CredentialKind::ApiKey => Ok(Arc::new(self.verify_key(api, text, now.wall)?)),
            // No text is one.
            CredentialKind::ClientCertificate => Err(Denial::CredentialKindRefused { kind }.into()),
        }
    }

    fn token(
        &self,
        api: &Api,
        token: &str,
        now: Now,
        admit: impl FnOnce() -> Result<(), Denial>,
    ) -> Result<Arc<Principal>, Rejection> {
        let verified = match self.verified.get(token).filter(|verified| self.is_current(verified, now)) {
            Some(verified) => verified,
            None => {
                // What no key of ours could have signed is refused without a signature being looked at: it costs nothing.
                if self.could_be_signed(token, now) {
                    admit()?;
                }
                let verified = Arc::new(self.verify_token(api, token, now)?);
                self.verified.put(token, verified.clone());
                verified
            }
        };
        match verified.signer {
            Signer::Own => self.own_principal(api, &verified, now.wall),
            Signer::Foreign { issuer, .. } => {
                let issuer = self.issuers.get(issuer).ok_or(Denial::TokenIssuer)?;
                issuer.principal(
                    api,
                    &verified,
                    |subject| self.active_account(api, subject, now.wall),
                    |subject| self.store.directory().account(&api.facts.realm, &AccountId::new(subject)).is_some(),
                )
            }
        }
    }

    /// Whether a token that was verified before would be so again: its time has come and is not over, and its signer's keys
    /// are the same.
    fn is_current(&self, verified: &Verified, now: Now) -> bool {
        let (leeway, keys) = match verified.signer {
            Signer::Own => (Duration::ZERO, true),
            Signer::Foreign { issuer, generation } => match self.issuers.get(issuer) {
                Some(issuer) => (issuer.profile.leeway, issuer.generation(now.wall) == Some(generation)),
                None => (Duration::ZERO, false),
            },
        };
        keys && verified.claims.not_before <= now.wall.plus(leeway) && now.wall < verified.claims.expires_at.plus(leeway)
    }

    /// The signature and the claims. Whose keys are tried is told by the `iss` that the token claims: it is compared again
    /// once the signature holds.
    fn verify_token(&self, api: &Api, token: &str, now: Now) -> Result<Verified, Rejection> {
        let own = || Ok(Verified::new(self.tokens.verify(token, now.wall)?, Signer::Own));
        if self.issuers.is_empty() {
            return own();
        }
        let claimed = issuer_of(token);
        let mut last = None;
        if claimed.as_deref() == Some(&*api.facts.public_url) {
            match own() {
                // An API may have signed tokens under this name before it had a gateway: they are those of an issuer without
                // name, with a secret of its own.
                Err(Rejection::Denied(
                    denial @ (Denial::TokenKeyUnknown { .. } | Denial::TokenAlgorithm { .. } | Denial::TokenSignature),
                )) => last = Some(denial.into()),
                judged => return judged,
            }
        }
        let named = |issuer: &ForeignIssuer| issuer.profile.issuer.is_some() && issuer.profile.issuer == claimed;
        let unnamed = |issuer: &ForeignIssuer| issuer.profile.issuer.is_none();
        let has_named = self.issuers.iter().any(named);
        for (index, issuer) in self.issuers.iter().enumerate() {
            // Those that no `iss` tells apart have a secret of their own: it tells.
            if !(if has_named { named(issuer) } else { unnamed(issuer) }) {
                continue;
            }
            match issuer.verify(token, now) {
                Ok((claims, generation)) => {
                    return Ok(Verified::new(claims, Signer::Foreign { issuer: index, generation }));
                }
                Err(rejection) => last = Some(rejection),
            }
        }
        last.map_or_else(own, Err)
    }

    /// Whether there is a key that the token's header could name.
    fn could_be_signed(&self, token: &str, now: Now) -> bool {
        let Some((kid, alg)) = signer_of(token) else { return false };
        let fits =
            |issuer: &ForeignIssuer| issuer.keys.current(now.wall).is_ok_and(|keys| keys.set.answers(kid.as_deref(), &alg));
        self.tokens.knows(kid.as_deref(), &alg) || self.issuers.iter().any(fits)
    }

    /// The account of a token of our own, as it is now.
    fn own_principal(&self, api: &Api, verified: &Verified, now: Timestamp) -> Result<Arc<Principal>, Rejection> {
        let claims = &verified.claims;
        let missing = |claim: &'static str| Denial::TokenClaim { claim: claim.into() };
        let environment = claims.all.get("env").and_then(Value::as_str).ok_or_else(|| missing("env"))?;
        if environment != &*api.facts.environment {
            return Err(Denial::EnvironmentForeign { found: environment.to_owned() }.into());
        }
        let session = claims.session.as_deref().ok_or_else(|| missing("sid"))?;
        let account = self.active_account(api, &claims.subject, now)?;
        let directory = self.store.directory();
        // The epoch is the moment from which the account's sessions count: a password change or a disabled account moves
        // it, and with it every earlier token dies, to the millisecond and on every node.
        let epoch = claims.all.get("epoch").and_then(Value::as_u64).ok_or_else(|| missing("epoch"))?;
        let ended = || Denial::SessionEnded { session: SessionId::new(session) };
        if directory.session_ended(&api.facts.realm, session) || epoch < account.sessions_valid_from.0 {
            return Err(ended().into());
        }
        // We signed it, so it is of an account that was changed since it was read here.
        if epoch > account.sessions_valid_from.0 {
            return Err(self.unless_unheard(ended(), now));
        }
        if let Some(principal) = verified.principal.load_full()
            && Arc::ptr_eq(&principal.account, &account)
        {
            return Ok(principal);
        }
        Ok(verified.remember(Principal {
            account,
            kind: CredentialKind::Jwt,
            key: None,
            session: Some(SessionId::new(session)),
            foreign: None,
            credential_id: claims.id.as_deref().ok_or_else(|| missing("jti"))?.into(),
            expires_at: Some(claims.expires_at),
        }))
    }

    fn verify_key(&self, api: &Api, text: &str, now: Timestamp) -> Result<Principal, Rejection> {
        if let Some(found) = api.tokens.foreign_environment(text) {
            return Err(Denial::EnvironmentForeign { found: found.to_owned() }.into());
        }
        let key = self.find_key(api, text, now)?;
        if key.revoked_at.is_some() {
            return Err(Denial::KeyRevoked { key: key.id.clone() }.into());
        }
        if key.expires_at.is_some_and(|at| at <= now) {
            return Err(Denial::KeyExpired { key: key.id.clone() }.into());
        }
        if key.environment != api.facts.environment {
            return Err(Denial::EnvironmentForeign { found: key.environment.to_string() }.into());
        }
        let account = self.active_account(api, key.owner.as_str(), now)?;
        Ok(Principal {
            account,
            kind: CredentialKind::ApiKey,
            session: None,
            foreign: None,
            credential_id: key.id.0.clone(),
            expires_at: key.expires_at,
            key: Some(key),
        })
    }

    /// The key that has this text, whether it may be used or not.
    ///
    /// # Errors
    /// [`Denial::KeyMalformed`], [`Denial::KeyChecksum`], [`Denial::KeyUnknown`] and [`Failure::StoreUnavailable`].
    pub fn find_key(&self, api: &Api, text: &str, now: Timestamp) -> Result<Arc<ApiKey>, Rejection> {
        let (directory, realm) = (self.store.directory(), &api.facts.realm);
        let by_id = match self.keys.name(text)? {
            KeyName::Id(part) => directory.key(realm, &api.ids.api_key.with(part)),
            KeyName::Digest => None,
        };
        let digest = Digest::of(text);
        // A key of our form that was made by another gateway has an id here that its text does not hold.
        let Some(key) = by_id.or_else(|| directory.key_by_digest(realm, &digest)) else {
            return Err(self.unless_unheard(Denial::KeyUnknown, now));
        };
        match key.digest.is(&digest) {
            true => Ok(key),
            false => Err(Denial::KeyUnknown.into()),
        }
    }

    /// While the store cannot be read, a key or an account that another process made or changed may be good and not known
    /// here: that is our failure, and no word about the credential.
    fn unless_unheard(&self, denial: Denial, now: Timestamp) -> Rejection {
        let known_until = self.store.directory().followed_at();
        match known_until.plus(FRESH) < now {
            true => {
                Failure::StoreUnavailable { detail: format!("nothing was heard of others' changes since {known_until}") }.into()
            }
            false => denial.into(),
        }
    }

    fn active_account(&self, api: &Api, id: &str, now: Timestamp) -> Result<Arc<Account>, Rejection> {
        let id = AccountId::new(id);
        match self.store.directory().account(&api.facts.realm, &id) {
            None => Err(self.unless_unheard(Denial::AccountGone { account: id.to_string() }, now)),
            Some(account) if !account.is_active() => Err(Denial::AccountDisabled { account: id }.into()),
            Some(account) => Ok(account),
        }
    }
}

/// How old the directory may be for what it does not hold to be called unknown. It is brought up to date twice a second.
const FRESH: Duration = Duration::from_secs(5);
/// About what a principal that is remembered with its token takes, in bytes.
const PRINCIPAL: u64 = 1024;

fn describe(principal: &Principal) -> String {
    let until = principal.expires_at.map_or_else(|| "without expiry".to_owned(), |at| format!("valid until {at}"));
    let issuer = principal.foreign.as_ref().map_or_else(String::new, |foreign| format!(" of issuer {}", foreign.issuer));
    format!(
        "{} {}{issuer} of account {} ({}), {until}",
        principal.kind, principal.credential_id, principal.account.id, principal.account.username
    )
}
