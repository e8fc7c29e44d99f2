//! Ends the session of the token that asks, and that of a refresh token of the same account where one is sent along.

use crate::contract::{Input, Inputs};
use crate::identity::{Digest, SessionId};
use crate::issuer::{Call, Issuer, Outcome};
use crate::observe::AuditAction;
use crate::rejection::Rejection;
use crate::store::Change;

impl Issuer {
    pub(super) async fn logout(&self, inputs: &Inputs, call: &Call) -> Result<Outcome, Rejection> {
        let principal = call.caller()?;
        let mut sessions: Vec<SessionId> = principal.session.iter().cloned().collect();
        if let Some(text) = inputs.text(Input::Refresh) {
            let named = self.store.session_by_refresh(&self.api.facts.realm, &Digest::of(text)).await?;
            let own = named.filter(|session| session.account == principal.account.id);
            sessions.extend(own.map(|session| session.id).filter(|id| principal.session.as_ref() != Some(id)));
        }
        for session in sessions {
            let event = self.event(AuditAction::Logout, principal.account.id.to_string(), session.to_string(), call);
            let change = Change::EndSession { realm: self.api.facts.realm.clone(), session, at: call.now.wall };
            self.store(change, event).await?;
        }
        Ok(Outcome { account: Some(principal.account.clone()), ..Outcome::default() })
    }
}
