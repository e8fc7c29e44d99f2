//! Access tokens: the claims that the contract asks for, and the ones that every token of the gateway has.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::clock::Timestamp;
use crate::contract::{Facts, TokenFacts};
use crate::identity::{Account, SessionId};
use crate::issuer::Issuer;
use crate::random;
use crate::rejection::{Failure, Rejection};

/// A signed access token.
pub struct AccessToken {
    text: String,
    ttl: Duration,
    expires_at: Timestamp,
    /// Its `jti`.
    pub id: String,
}

impl AccessToken {
    pub fn facts(&self) -> TokenFacts<'_> {
        TokenFacts { text: &self.text, ttl: self.ttl, expires_at: self.expires_at }
    }
}

impl Issuer {
    /// Signs an access token for a session; it never outlives the session, so that what ends the session may be
    /// forgotten when the session's own time is over.
    pub(super) fn grant(
        &self,
        account: &Account,
        session: &SessionId,
        session_expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<AccessToken, Rejection> {
        let tokens = &self.api.tokens;
        let id = random::request_id();
        let issued_at = now.seconds();
        let expires_at = issued_at.saturating_add(tokens.access_ttl.as_secs()).min(session_expires_at.seconds());
        let facts =
            Facts { account: Some(account), session: Some(session.as_str()), token_id: Some(&id), ..Facts::of(&self.api.facts) };
        let Value::Object(mut claims) = tokens.claims.render(&facts) else {
            return Err(Failure::Internal { detail: "the claims of the contract are no table".to_owned() }.into());
        };
        // Set last: no template may replace what the gateway judges a token by.
        let own = [
            ("iss", json!(*self.api.facts.public_url)),
            ("aud", json!(*self.api.facts.public_url)),
            ("sub", json!(account.id.as_str())),
            ("iat", json!(issued_at)),
            ("exp", json!(expires_at)),
            ("jti", json!(id)),
            ("sid", json!(session.as_str())),
            ("env", json!(*self.api.facts.environment)),
            ("epoch", json!(account.sessions_valid_from.0)),
        ];
        claims.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let header = Map::from_iter([("typ".to_owned(), json!(tokens.media_type))]);
        let text = self.signing.sign(&header, &claims)?;
        let ttl = Duration::from_secs(expires_at.saturating_sub(issued_at));
        Ok(AccessToken { text, ttl, expires_at: Timestamp::from_seconds(expires_at), id })
    }
}
