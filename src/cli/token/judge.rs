//! Whether one API would accept a credential now: asks the very code that judges requests.

use crate::app::signing::{key_format, signing_key, verifier};
use crate::clock::Timestamp;
use crate::contract::Api;
use crate::identity::{Principal, Secret};
use crate::pipeline::Authenticator;
use crate::rejection::{Denial, Rejection};
use crate::store::Store;
use crate::token::SigningKey;

pub struct Judge<'a> {
    pub api: &'a Api,
    pub signing: SigningKey,
    authenticator: Authenticator,
}

impl<'a> Judge<'a> {
    pub async fn new(api: &'a Api, store: &Store) -> anyhow::Result<Self> {
        let signing = signing_key(api, store).await?;
        let authenticator = Authenticator { tokens: verifier(api, &signing), keys: key_format(api), store: store.clone() };
        Ok(Self { api, signing, authenticator })
    }

    /// Who the credential stands for.
    ///
    /// # Errors
    /// The reason for which the API refuses it.
    pub fn accept(&self, text: &str, now: Timestamp) -> Result<Principal, Rejection> {
        let what = "it begins like no credential of the API";
        let kind = self.api.kind_of(text).ok_or(Denial::CredentialMalformed { what })?;
        self.authenticator.judge(self.api, kind, &Secret::new(text), now)
    }

    /// The id that the text of a key holds, where it has the form of this API's keys.
    pub fn key_id(&self, text: &str) -> Option<String> {
        self.authenticator.keys.parse(text).ok().map(|part| self.api.ids.api_key.with(part))
    }
}
