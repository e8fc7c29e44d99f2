//! Ends a key. Revoking twice is no error: the second caller finds what it asked for.

use crate::identity::KeyId;
use crate::issuer::{Call, Issuer, Outcome};
use crate::observe::AuditAction;
use crate::rejection::Rejection;
use crate::store::{Change, KeyRow};

impl Issuer {
    pub(super) async fn keys_revoke(&self, call: &Call) -> Result<Outcome, Rejection> {
        let (caller, realm) = (call.caller()?, &self.api.facts.realm);
        let id = KeyId::new(call.capture("id").unwrap_or_default());
        let event = self.event(AuditAction::KeyRevoke, caller.account.id.to_string(), id.to_string(), call);
        // The store decides whether there is such a key: another node may have made it a moment ago.
        let change = Change::RevokeKey { realm: realm.clone(), key: id.clone(), at: call.now.wall };
        self.store(change, event).await?;
        let key = self.store.directory().key(realm, id.as_str()).map(|key| KeyRow { key: (*key).clone(), last_used_at: None });
        Ok(Outcome { account: Some(caller.account.clone()), key, ..Outcome::default() })
    }
}
