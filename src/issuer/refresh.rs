//! A refresh token to a new access token of the same session. The refresh token stays as it is until the session ends.

use crate::contract::{Input, Inputs};
use crate::identity::Digest;
use crate::issuer::{Call, Issuer, Outcome};
use crate::observe::AuditAction;
use crate::rejection::{Denial, Rejection};
use crate::store::Change;

impl Issuer {
    pub(super) async fn refresh(&self, inputs: &Inputs, call: &Call) -> Result<Outcome, Rejection> {
        let (facts, now) = (&self.api.facts, call.now.wall);
        let digest = Digest::of(inputs.text(Input::Refresh).unwrap_or_default());
        let session = self.store.session_by_refresh(&facts.realm, &digest).await?;
        // Another API of the same realm has tokens of another audience: its sessions are unknown here.
        let session = session.filter(|session| session.api == facts.name).ok_or(Denial::RefreshUnknown)?;
        if session.ended_at.is_some() {
            return Err(Denial::SessionEnded { session: session.id }.into());
        }
        if session.expires_at <= now {
            return Err(Denial::RefreshExpired { session: session.id }.into());
        }
        let account = self.store.directory().account(&facts.realm, &session.account);
        let account = account.ok_or_else(|| Denial::AccountGone { account: session.account.to_string() })?;
        if !account.is_active() {
            return Err(Denial::AccountDisabled { account: session.account }.into());
        }
        if session.created_at < account.sessions_valid_from {
            return Err(Denial::SessionEnded { session: session.id }.into());
        }
        let access = self.grant(&account, &session.id, session.expires_at, now)?;
        let event = self.event(AuditAction::Refresh, account.id.to_string(), session.id.to_string(), call);
        self.store(Change::AuditOnly, event).await?;
        Ok(Outcome { account: Some(account), access: Some(access), session: Some(session.id), ..Outcome::default() })
    }
}
