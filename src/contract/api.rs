//! An API as the gateway runs it: an `[[api]]` section and its contract file, checked against each other and merged.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method};

use crate::config::value::{HostPattern, PathPattern, Quota};
use crate::config::{Algorithm, Count, CredentialHandling, KeyPart, Mode, OnOutage, SigningAlgorithm};
use crate::contract::errors::ErrorTable;
use crate::contract::facts::ApiFacts;
use crate::contract::features::{Cors, Features, Fixed};
use crate::contract::fields::Fields;
use crate::contract::file::{IdTemplate, LimitHeaders};
use crate::contract::operation::Operation;
use crate::contract::placeholder::Placeholder;
use crate::contract::template::Template;
use crate::identity::{CredentialKind, Networks, Scope, Vocabulary};

#[derive(Clone, Debug)]
pub struct Api {
    pub facts: ApiFacts,
    pub hosts: Vec<HostPattern>,
    /// Names an upstream, or is a URL.
    pub upstream: Arc<str>,
    pub carriers: Vec<Carrier>,
    pub kinds: Vec<Kind>,
    pub routes: Vec<Route>,
    pub vocabulary: Vocabulary,
    pub errors: ErrorTable,
    pub ids: Ids,
    pub tokens: Tokens,
    pub limit_headers: LimitHeaders,
    pub identity: IdentityHeaders,
    /// Of answers that belong to no route.
    pub cors: Option<Arc<Cors>>,
    /// Headers of every answer that the gateway gives itself.
    pub local_headers: HeaderMap,
}

/// A place in a request where a credential may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// `Authorization: Bearer …` (RFC 6750, section 2.1)
    Bearer,
    Header(HeaderName),
}

/// What a credential is, told by its first characters. The last rule of a list has the empty prefix.
#[derive(Clone, Debug)]
pub struct Kind {
    pub prefix: String,
    pub kind: CredentialKind,
}

/// One way through the gateway.
#[derive(Clone, Debug)]
pub struct Route {
    /// The label of logs and metrics. Routes of one `[[api.route]]` share it.
    pub name: Arc<str>,
    /// Empty = all methods.
    pub methods: Vec<Method>,
    pub pattern: PathPattern,
    pub access: Access,
    /// The capture that names the tenant.
    pub tenant: Option<Arc<str>>,
    pub allow_ips: Networks,
    pub deny_ips: Networks,
    pub limits: Vec<Arc<Limit>>,
    /// Bytes; for local endpoints that of the endpoint.
    pub max_body: Option<u64>,
    pub response_timeout: Option<Duration>,
    /// Whole segments that the path begins with and the upstream does not see.
    pub strip_prefix: Option<Arc<str>>,
    pub credential: CredentialHandling,
    pub unused_carriers: CredentialHandling,
    pub features: Features,
    pub target: Target,
}

#[derive(Clone, Debug)]
pub enum Target {
    Upstream,
    Local(Arc<Endpoint>),
    /// What the config file says.
    Fixed(Arc<Fixed>),
}

/// Who may use a route.
#[derive(Clone, Debug)]
pub enum Access {
    Public,
    Known {
        /// The kinds of credential that the route takes.
        kinds: Vec<CredentialKind>,
        demand: Demand,
        /// What one kind must have besides.
        by_kind: Vec<(CredentialKind, Demand)>,
        /// Set on the rest of an API that no route lists: a kind that is not taken there is a refusal of the caller's
        /// rights, not of the credential.
        unmapped: bool,
    },
}

/// Whom it takes and with what, e.g. `jwt|api_key items:read; jwt: role editor`.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Known { kinds, demand, by_kind, .. } = self else { return f.write_str("public") };
        write!(f, "{}{demand}", join(kinds, "|"))?;
        by_kind.iter().try_for_each(|(kind, demand)| write!(f, "; {kind}:{demand}"))
    }
}

/// Each part with a blank before it.
impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scopes.iter().try_for_each(|scope| write!(f, " {scope}"))?;
        if !self.any_scope.is_empty() {
            write!(f, " one of {}", join(&self.any_scope, "|"))?;
        }
        self.role.as_ref().map_or(Ok(()), |role| write!(f, " role {role}"))
    }
}

fn join(items: &[impl ToString], between: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// What a caller must have.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    pub scopes: Vec<Scope>,
    pub any_scope: Vec<Scope>,
    pub role: Option<Arc<str>>,
}

/// Something that the gateway answers itself.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub operation: Operation,
    pub fields: Fields,
    pub max_body: u64,
    pub page: Option<Page>,
    pub status: http::StatusCode,
    /// `None` = an empty body.
    pub answer: Option<Template>,
}

#[derive(Clone, Copy, Debug)]
pub struct Page {
    pub default: u64,
    pub max: u64,
}

#[derive(Clone, Debug)]
pub struct Limit {
    pub name: Arc<str>,
    pub per: Vec<KeyPart>,
    pub else_per: Vec<KeyPart>,
    pub quota: Quota,
    pub burst: u32,
    pub algorithm: Algorithm,
    pub count: Count,
    pub on_outage: OnOutage,
    pub mode: Mode,
}

#[derive(Clone, Debug)]
pub struct Ids {
    pub account: IdTemplate,
    pub session: IdTemplate,
    pub api_key: IdTemplate,
}

#[derive(Clone, Debug)]
pub struct Tokens {
    pub algorithm: SigningAlgorithm,
    pub secret_file: Option<std::path::PathBuf>,
    pub key_file: Option<std::path::PathBuf>,
    pub access_ttl: Duration,
    pub refresh_ttl: Duration,
    /// The `typ` of access tokens.
    pub media_type: String,
    pub claims: Template,
    pub key_prefix: KeyPrefix,
    pub also_key_prefixes: Vec<String>,
    /// What keys begin with that were made elsewhere, as `gateway.toml` says.
    pub foreign_key_prefixes: Vec<String>,
}

/// The prefix of an API's keys; the environment stands between `before` and `after` where the contract puts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefix {
    pub whole: String,
    /// What precedes and follows the environment; `None` when the prefix does not name it.
    pub around_environment: Option<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct IdentityHeaders {
    pub headers: Vec<(HeaderName, Placeholder)>,
    /// What no client may send: those above, and those of the contract that the operator replaced by them, which the
    /// upstream may still believe.
    pub reserved: Vec<HeaderName>,
}

impl Api {
    /// The kind that a credential's first characters tell. Where they tell nothing, the carrier may: if tokens have
    /// `Authorization: Bearer`, what another header holds and is no JWT is a key, in whatever form it was made elsewhere.
    pub fn kind_of(&self, carrier: &Carrier, credential: &str) -> Option<CredentialKind> {
        let rule = self.kinds.iter().find(|rule| credential.starts_with(&rule.prefix))?;
        let beside_tokens = *carrier != Carrier::Bearer && self.carriers.contains(&Carrier::Bearer);
        match beside_tokens && rule.prefix.is_empty() && !credential.starts_with(JWT_START) {
            true => Some(CredentialKind::ApiKey),
            false => Some(rule.kind),
        }
    }

    /// What a credential is in the carrier that takes it for a key, if there is one, else in the first.
    pub fn kind_in_any_carrier(&self, credential: &str) -> Option<CredentialKind> {
        let kinds = || self.carriers.iter().filter_map(|carrier| self.kind_of(carrier, credential));
        kinds().find(|kind| *kind == CredentialKind::ApiKey).or_else(|| kinds().next())
    }

    /// The endpoint that does an operation, if the gateway answers it for this API.
    pub fn endpoint(&self, operation: Operation) -> Option<(&Route, &Arc<Endpoint>)> {
        self.routes.iter().find_map(|route| match &route.target {
            Target::Local(endpoint) if endpoint.operation == operation => Some((route, endpoint)),
            Target::Local(_) | Target::Fixed(_) | Target::Upstream => None,
        })
    }
}

impl Route {
    /// Whether it takes each request for its paths.
    pub fn takes_all(&self) -> bool {
        self.methods.is_empty() && self.features.conditions.is_empty()
    }
}

impl Tokens {
    /// The environment that a key names, when it is another than this API's. Keys made elsewhere name none.
    pub fn foreign_environment<'a>(&self, key: &'a str) -> Option<&'a str> {
        match self.foreign_key_prefixes.iter().any(|prefix| key.starts_with(prefix.as_str())) {
            true => None,
            false => self.key_prefix.foreign_environment(key),
        }
    }
}

impl KeyPrefix {
    /// What the keys of all environments begin with.
    pub fn family(&self) -> &str {
        match &self.around_environment {
            Some((before, _)) if !before.is_empty() => before,
            Some(_) | None => &self.whole,
        }
    }

    /// The environment that a key of this API names, when it is another than this API's.
    fn foreign_environment<'a>(&self, key: &'a str) -> Option<&'a str> {
        let (before, after) = self.around_environment.as_ref()?;
        if key.starts_with(&self.whole) {
            return None;
        }
        let (environment, _) = key.strip_prefix(before.as_str())?.split_once(after.as_str())?;
        let plain = !environment.is_empty() && environment.len() <= 16 && environment.bytes().all(|b| b.is_ascii_lowercase());
        plain.then_some(environment)
    }
}

impl Carrier {
    /// Parses `bearer` or `header NAME`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            None if text == "bearer" => Some(Self::Bearer),
            Some(("header", name)) => match HeaderName::try_from(name).ok()? {
                // The header belongs to the bearer carrier; a second reader of it could disagree with the first.
                http::header::AUTHORIZATION => None,
                name => Some(Self::Header(name)),
            },
            None | Some(_) => None,
        }
    }

    pub fn header(&self) -> &HeaderName {
        match self {
            Self::Bearer => &http::header::AUTHORIZATION,
            Self::Header(name) => name,
        }
    }
}

/// How every JWT begins: `{"` in base64url.
pub const JWT_START: &str = "eyJ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_environment_is_told_from_a_malformed_one() {
        let prefix = KeyPrefix { whole: "ic_live_".to_owned(), around_environment: Some(("ic_".to_owned(), "_".to_owned())) };
        assert_eq!(prefix.foreign_environment("ic_test_abc"), Some("test"));
        assert_eq!(prefix.foreign_environment("ic_live_abc"), None);
        assert_eq!(prefix.foreign_environment("ic_LIVE_abc"), None);
        assert_eq!(prefix.foreign_environment("xx_test_abc"), None);
    }

    #[test]
    fn carriers_are_bearer_or_a_header_other_than_authorization() {
        assert_eq!(Carrier::parse("bearer"), Some(Carrier::Bearer));
        assert_eq!(Carrier::parse("header X-API-Key"), Some(Carrier::Header(HeaderName::from_static("x-api-key"))));
        for wrong in ["Bearer", "header", "header Authorization", "header a b", "cookie x"] {
            assert_eq!(Carrier::parse(wrong), None, "{wrong}");
        }
    }
}
