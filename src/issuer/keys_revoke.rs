//! Ends a key. Revoking twice is no error: the second caller finds what it asked for.

use crate::identity::KeyId;
use crate::issuer::{Call, Issuer, Outcome};
use crate::observe::AuditAction;
use crate::rejection::{Denial, Rejection};
use crate::store::{Change, KeyRow};

impl Issuer {
    pub(super) async fn keys_revoke(&self, call: &Call) -> Result<Outcome, Rejection> {
        let (caller, realm) = (call.caller()?, &self.api.facts.realm);
        let id = call.capture("id").unwrap_or_default();
        let key = self.store.directory().key(realm, id).ok_or(Denial::RecordUnknown { what: "API key" })?;
        let event = self.event(AuditAction::KeyRevoke, caller.account.id.to_string(), key.id.to_string(), call);
        let change = Change::RevokeKey { realm: realm.clone(), key: KeyId::new(id), at: call.now.wall };
        self.store(change, event).await?;
        let row = KeyRow { key: (*key).clone(), last_used_at: None };
        Ok(Outcome { account: Some(caller.account.clone()), key: Some(row), ..Outcome::default() })
    }
}
