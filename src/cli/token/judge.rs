//! Whether one API would accept a credential now: asks the very code that judges requests.

use std::sync::Arc;

use crate::app::build;
use crate::app::load::Ready;
use crate::app::signing::signing_key;
use crate::cli::output;
use crate::clock::Now;
use crate::config;
use crate::contract::Api;
use crate::identity::{ApiKey, Principal};
use crate::limiter::{Limiter, Memory};
use crate::pipeline::Authenticator;
use crate::rejection::{Denial, Rejection};
use crate::store::Store;
use crate::token::{KeyName, SigningKey};

pub struct Judge<'a> {
    pub api: &'a Api,
    pub signing: SigningKey,
    authenticator: Authenticator,
}

impl<'a> Judge<'a> {
    /// Judges for the API of a section. Keys of other issuers are fetched: this process has not asked for them before.
    pub async fn new(ready: &Ready, section: &config::Api, api: &'a Api, store: &Store) -> anyhow::Result<Self> {
        let signing = signing_key(api, store).await?;
        let limiter = Arc::new(Limiter::Memory(Memory::new(Memory::DEFAULT_CAPACITY)));
        let authenticator = build::authenticator(ready, section, api, &signing, store, &limiter, None)?;
        for issuer in authenticator.issuers.iter().filter(|issuer| issuer.keys.is_remote()) {
            if let Err(why) = issuer.keys.refresh_now().await {
                output::note(&format!("the keys of {} cannot be fetched: {why}", issuer.label));
            }
        }
        Ok(Self { api, signing, authenticator })
    }

    /// Who the credential stands for.
    ///
    /// # Errors
    /// The reason for which the API refuses it.
    pub fn accept(&self, text: &str, now: Now) -> Result<Arc<Principal>, Rejection> {
        let what = "it begins like no credential of the API";
        let kind = self.api.kind_in_any_carrier(text).ok_or(Denial::CredentialMalformed { what })?;
        self.authenticator.judge(self.api, kind, text, now)
    }

    /// The key that has this text, whether it may be used or not.
    pub fn key(&self, text: &str, now: Now) -> Option<Arc<ApiKey>> {
        self.authenticator.find_key(self.api, text, now.wall).ok()
    }

    /// The id that the text of a key holds, where it has the form of this API's keys.
    pub fn key_id(&self, text: &str) -> Option<String> {
        match self.authenticator.keys.name(text) {
            Ok(KeyName::Id(part)) => Some(self.api.ids.api_key.with(part)),
            Ok(KeyName::Digest) | Err(_) => None,
        }
    }
}
