//! The endpoints that the gateway answers itself. [`Issuer::answer`] is what they share: it reads the body by the
//! contract's rules, does the operation, writes the audit event of a refusal, and renders the contract's answer. Each
//! operation is one file and fills in its part, so that none can forget a step.

mod grant;
mod keys_create;
mod keys_list;
mod keys_revoke;
mod login;
mod logout;
mod refresh;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};

use crate::body::Body;
use crate::clock::Now;
use crate::contract::{Api, Endpoint, Facts, Inputs, KeyFacts, Operation, PageFacts, TokenFacts};
use crate::identity::{Account, Principal, Secret, SessionId};
use crate::limiter::{Counted, Limiter, Waited};
use crate::observe::{AuditAction, AuditEvent};
use crate::password::Passwords;
use crate::rejection::{Denial, Failure, Rejection};
use crate::store::{Change, KeyRow, Store, WriteError};
use crate::token::{KeyFormat, SigningKey};

use grant::AccessToken;

/// What an endpoint is called with. Only the pipeline builds one, after the route's access rules have held.
pub struct Call {
    pub principal: Option<Arc<Principal>>,
    pub captures: Vec<(Arc<str>, String)>,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub client: IpAddr,
    pub now: Now,
    pub request_id: String,
    pub route: Arc<str>,
    /// The route's limits that count by account: a login spends them on the account that is asked for.
    pub attempts: Vec<Arc<Counted>>,
    /// For the shared counters, so far.
    pub waited: Waited,
}

/// One API's endpoints.
pub struct Issuer {
    pub api: Arc<Api>,
    pub store: Store,
    pub passwords: Arc<Passwords>,
    pub signing: Arc<SigningKey>,
    pub keys: KeyFormat,
    pub limiter: Arc<Limiter>,
}

/// What an operation leaves for the answer to show.
#[derive(Default)]
struct Outcome {
    account: Option<Arc<Account>>,
    access: Option<AccessToken>,
    refresh: Option<RefreshToken>,
    session: Option<SessionId>,
    key: Option<KeyRow>,
    /// The text of a key that was just made.
    key_secret: Option<Secret>,
    keys: Vec<KeyRow>,
    page: Option<PageFacts>,
}

struct RefreshToken {
    text: Secret,
    ttl: std::time::Duration,
    expires_at: crate::clock::Timestamp,
}

impl Issuer {
    /// Answers one request to a local endpoint.
    ///
    /// # Errors
    /// The denials of stage `issuer`; [`Failure::StoreUnavailable`] when something could not be stored: nothing was
    /// issued or revoked then.
    pub async fn answer(&self, endpoint: &Endpoint, call: Call) -> Result<Response<Body>, Rejection> {
        check_media_type(&call)?;
        let caller = call.principal.as_ref().map(|principal| &*principal.account);
        let facts = Facts { account: caller, ..Facts::of(&self.api.facts) };
        let inputs = endpoint.fields.read(&call.body, &facts, call.now.wall)?;
        check_ours(endpoint.operation, &call)?;
        let outcome = match endpoint.operation {
            Operation::Login => self.login(endpoint, &inputs, &call).await,
            Operation::Refresh => self.refresh(&inputs, &call).await,
            Operation::Logout => self.logout(&inputs, &call).await,
            Operation::KeysCreate => self.keys_create(endpoint, &inputs, &call).await,
            Operation::KeysList => self.keys_list(endpoint, &call).await,
            Operation::KeysRevoke => self.keys_revoke(&call).await,
        };
        match outcome {
            Ok(outcome) => Ok(self.render(endpoint, &outcome)),
            Err(rejection) => {
                self.audit_refusal(endpoint.operation, &inputs, &call, &rejection).await;
                Err(rejection)
            }
        }
    }

    fn render(&self, endpoint: &Endpoint, outcome: &Outcome) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = endpoint.status;
        let Some(template) = &endpoint.answer else { return response };
        let rows: Vec<KeyFacts<'_>> = outcome.keys.iter().map(|row| row_facts(row, None)).collect();
        let secret = outcome.key_secret.as_ref().map(Secret::expose);
        let facts = Facts {
            account: outcome.account.as_deref(),
            access: outcome.access.as_ref().map(AccessToken::facts),
            refresh: outcome.refresh.as_ref().map(RefreshToken::facts),
            session: outcome.session.as_ref().map(SessionId::as_str),
            token_id: outcome.access.as_ref().map(|access| access.id.as_str()),
            key: outcome.key.as_ref().map(|row| row_facts(row, secret)),
            keys: &rows,
            page: outcome.page,
            ..Facts::of(&self.api.facts)
        };
        let body = template.render(&facts).to_string();
        *response.body_mut() = Body::full(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// A refused login or refresh leaves a trace even though nothing changed. The refusal stands whether or not the
    /// trace could be written: the caller learns nothing from it.
    async fn audit_refusal(&self, operation: Operation, inputs: &Inputs, call: &Call, rejection: &Rejection) {
        let (Some(action), Rejection::Denied(denial)) = (action_of(operation), rejection) else { return };
        let actor = match (&call.principal, inputs.text(crate::contract::Input::LoginName)) {
            (Some(principal), _) => principal.account.id.to_string(),
            (None, Some(name)) => name.chars().take(128).collect(),
            (None, None) => String::new(),
        };
        let event = AuditEvent { done: false, reason: Some(denial.code()), ..self.event(action, actor, String::new(), call) };
        if let Err(error) = self.store.write(Change::AuditOnly, Some(event)).await {
            tracing::warn!(reason = denial.code(), %error, "the audit event of a refusal could not be stored");
        }
    }

    fn event(&self, action: AuditAction, actor: String, object: String, call: &Call) -> AuditEvent {
        AuditEvent {
            at: call.now.wall,
            realm: self.api.facts.realm.to_string(),
            action,
            done: true,
            actor,
            object,
            client_ip: Some(call.client),
            request_id: Some(call.request_id.clone()),
            reason: None,
        }
    }

    /// Stores a change and its event together.
    async fn store(&self, change: Change, event: AuditEvent) -> Result<(), Rejection> {
        self.store.write(change, Some(event)).await.map_err(|error| match error {
            WriteError::Unavailable(failure) => failure.into(),
            WriteError::Unknown { what } => Denial::RecordUnknown { what }.into(),
            // Ids and secrets are random: two of one value mean that something is broken, not that the caller erred.
            WriteError::Conflict { what } | WriteError::Conflicts { what, .. } => {
                Failure::Internal { detail: format!("a second {what}") }.into()
            }
        })
    }
}

impl Call {
    /// The caller of an operation that acts for one.
    fn caller(&self) -> Result<&Arc<Principal>, Denial> {
        self.principal.as_ref().ok_or(Denial::CredentialMissing)
    }

    fn capture(&self, name: &str) -> Option<&str> {
        self.captures.iter().find(|(known, _)| &**known == name).map(|(_, value)| value.as_str())
    }

    /// The values of one query parameter, percent-decoded.
    fn query_values(&self, name: &str) -> Vec<String> {
        let pairs = self.query.as_deref().unwrap_or_default().split('&');
        let named = pairs.filter_map(|pair| pair.split_once('=')).filter(|(key, _)| *key == name);
        named.map(|(_, value)| percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned()).collect()
    }
}

impl RefreshToken {
    fn facts(&self) -> TokenFacts<'_> {
        TokenFacts { text: self.text.expose(), ttl: self.ttl, expires_at: self.expires_at }
    }
}

fn row_facts<'a>(row: &'a KeyRow, secret: Option<&'a str>) -> KeyFacts<'a> {
    KeyFacts { key: &row.key, secret, last_used_at: row.last_used_at }
}

fn action_of(operation: Operation) -> Option<AuditAction> {
    match operation {
        Operation::Login => Some(AuditAction::Login),
        Operation::Refresh => Some(AuditAction::Refresh),
        Operation::Logout => Some(AuditAction::Logout),
        Operation::KeysCreate => Some(AuditAction::KeyCreate),
        Operation::KeysRevoke => Some(AuditAction::KeyRevoke),
        Operation::KeysList => None,
    }
}

/// A key belongs to an account, and the subject of another issuer's token may have none here. A session of another issuer's
/// is not ours to end: a 204 would not be true.
fn check_ours(operation: Operation, call: &Call) -> Result<(), Denial> {
    let Some((principal, foreign)) =
        call.principal.as_deref().and_then(|principal| Some((principal, principal.foreign.as_ref()?)))
    else {
        return Ok(());
    };
    let issuer = || foreign.issuer.clone();
    match operation {
        Operation::KeysCreate if !principal.has_record() => Err(Denial::AccountForeign { issuer: issuer() }),
        Operation::Logout => Err(Denial::SessionForeign { issuer: issuer() }),
        Operation::Login | Operation::Refresh | Operation::KeysCreate | Operation::KeysList | Operation::KeysRevoke => Ok(()),
    }
}

/// A body must say that it is JSON (RFC 8259, section 11), so that a browser's form can never be one.
fn check_media_type(call: &Call) -> Result<(), Denial> {
    if call.body.is_empty() {
        return Ok(());
    }
    let mut values = call.headers.get_all(header::CONTENT_TYPE).iter();
    let (first, second) = (values.next(), values.next());
    let essence = first.and_then(|value| value.to_str().ok()).map(|value| value.split(';').next().unwrap_or_default().trim());
    let is_json = essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    if is_json && second.is_none() { Ok(()) } else { Err(Denial::MediaTypeUnsupported) }
}
