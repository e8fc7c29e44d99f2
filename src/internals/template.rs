//! Contract templates: whatever the values say, the answer is JSON of the shape that the template has.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::config::decode::{Decoder, decode_document};
use crate::config::report::Report;
use crate::contract::{ApiFacts, CallerFacts, ErrorFacts, Facts, KeyFacts, PageFacts, Template, TokenFacts};
use crate::identity::{
    Account, AccountId, ApiKey, CredentialKind, Digest, KeyId, Membership, Networks, Principal, Scope, ScopeSet, SessionId,
    Status,
};
use crate::internals::places_are_real;

/// The input is a template in TOML, a zero byte, and a text that stands for every value.
///
/// # Panics
/// When a value breaks out of its place.
pub fn template(input: &str) {
    let (toml, value) = input.split_once('\0').unwrap_or((input, "\"}],{\"a\":\u{1}\\"));
    let mut report = Report::default();
    let source = report.add_source("template", toml);
    let mut decoder = Decoder { report: &mut report, source, folder: Path::new(""), environment: &|_| None };
    let decoded: Option<Template> = decode_document(toml, &mut decoder);
    places_are_real(&report, toml);
    let Some(mut template) = decoded else { return };
    template.check(&[], &mut report);
    template.resolve_options(&|name| (name != "none").then(|| json!(name)), &mut report);
    places_are_real(&report, toml);
    let rendered = Cast::called(value).render(&template);
    let text = rendered.to_string();
    assert_eq!(serde_json::from_str::<Value>(&text).ok().as_ref(), Some(&rendered), "{text}");
    assert_eq!(shape(&rendered), shape(&Cast::called("x").render(&template)), "{value:?} changes the shape of {toml:?}");
}

/// The value with every text blanked; names of members stay.
fn shape(value: &Value) -> Value {
    match value {
        Value::String(_) => json!(""),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Object(members) => Value::Object(members.iter().map(|(name, value)| (name.clone(), shape(value))).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Everybody and everything that a template may ask for, all of the same name.
struct Cast {
    name: Arc<str>,
    api: ApiFacts,
    key: ApiKey,
    principal: Principal,
    scopes: ScopeSet,
}

impl Cast {
    fn called(text: &str) -> Self {
        let name: Arc<str> = text.into();
        let account = Account {
            id: AccountId(name.clone()),
            realm: name.clone(),
            username: text.to_owned(),
            email: Some(text.to_owned()),
            display_name: Some(text.to_owned()),
            status: Status::Active,
            roles: vec![name.clone()],
            tenants: vec![Membership { tenant: name.clone(), role: name.clone() }],
            attributes: [("plan".to_owned(), text.to_owned())].into(),
            created_at: Timestamp::default(),
            sessions_valid_from: Timestamp::default(),
        };
        // Not every text is a scope, and the number of them must not follow from the text.
        let scopes: ScopeSet = Scope::parse("x").into_iter().collect();
        let key = ApiKey {
            id: KeyId(name.clone()),
            realm: name.clone(),
            owner: AccountId(name.clone()),
            name: text.to_owned(),
            scopes: scopes.clone(),
            tenants: vec![name.clone()],
            allowed_ips: Networks::default(),
            environment: name.clone(),
            digest: Digest::of(text),
            created_at: Timestamp::default(),
            expires_at: None,
            revoked_at: None,
        };
        let principal = Principal {
            account: Arc::new(account),
            kind: CredentialKind::ApiKey,
            key: Some(Arc::new(key.clone())),
            session: Some(SessionId(name.clone())),
            foreign: None,
            credential_id: name.clone(),
            expires_at: None,
        };
        let api = ApiFacts { name: name.clone(), realm: name.clone(), environment: name.clone(), public_url: name.clone() };
        Self { name, api, key, principal, scopes }
    }

    fn render(&self, template: &Template) -> Value {
        let token = TokenFacts { text: &self.name, ttl: Duration::from_secs(60), expires_at: Timestamp::default() };
        let key = KeyFacts { key: &self.key, secret: Some(&self.name), last_used_at: None };
        let account = &self.principal.account;
        let caller = CallerFacts { principal: &self.principal, account, tenant: Some(&self.name), permissions: &self.scopes };
        let error = ErrorFacts { code: &self.name, message: &self.name, reason: &self.name, status: 400, request_id: &self.name };
        template.render(&Facts {
            account: Some(account),
            access: Some(token),
            refresh: Some(token),
            session: Some(&self.name),
            token_id: Some(&self.name),
            key: Some(key),
            keys: &[key, key],
            page: Some(PageFacts { number: 1, size: 2, total: 2 }),
            caller: Some(caller),
            error: Some(error),
            ..Facts::of(&self.api)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WORD: &str = "(account\\.username|account\\.tenants|key\\.secret|permissions|details|status|option\\.size|nothing)";

    proptest! {
        #[test]
        fn no_value_breaks_out_of_its_place(word in WORD, around in "[a-z{}\"\\\\ ]{0,4}", value in any::<String>()) {
            let toml = format!("'a?' = '{{{word}}}'\nb = '''{around}{{{word}}}'''\nc = {{ each = '{{keys}}', json = ['{{key.name}}'] }}");
            template(&format!("{toml}\0{value}"));
            prop_assert!(around.len() <= 4);
        }
    }
}
