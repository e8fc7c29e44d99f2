//! A contract file as it is written. `compile` makes an [`super::Api`] of it.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::config::decode::{Decode, Decoder, Named, Node, section, words};
use crate::config::report::Located;
use crate::config::value::{ByteSize, PathPattern};
use crate::config::{CredentialHandling, Limit, OptionValue, SigningAlgorithm};
use crate::contract::errors::{ErrorsSection, Status};
use crate::contract::fields::{FieldRule, UnknownFields};
use crate::contract::template::Template;
use crate::identity::{CredentialKind, Scope};

section! {
    /// A whole contract file.
    pub struct ContractFile {
        /// The name that `contract = "…"` refers to.
        contract: Located<String>,
        title: String = String::new(),
        /// What belongs to this API; everything else is `outside`.
        prefixes: Vec<Located<PathPattern>>,
        /// Whether `gateward demo` may show this contract.
        demo: bool = false,
        /// Switches that an operator sets under `options`.
        "option" options: Named<OptionSpec> = Named::default(),
        credentials: Credentials,
        ids: Ids = Ids::default(),
        token: Tokens,
        permissions: Permissions = Permissions::default(),
        roles: Named<RoleSpec> = Named::default(),
        "endpoint" endpoints: Vec<EndpointSpec> = Vec::new(),
        errors: ErrorsSection,
        /// Headers of every answer that the gateway gives itself.
        headers: Named<Located<String>> = Named::default(),
        routes: RoutesSection = RoutesSection::default(),
        "route" route: Vec<RouteSpec> = Vec::new(),
        limits: LimitsSection = LimitsSection::default(),
        "limit" limit: Vec<Limit> = Vec::new(),
        identity: Identity = Identity::default(),
    }
}

section! {
    /// `[option.NAME]`
    pub struct OptionSpec {
        default: OptionValue,
        /// The values that are allowed; empty = any of the default's type.
        one_of: Vec<String> = Vec::new(),
        help: String,
    }
}

section! {
    /// `[credentials]`
    pub struct Credentials {
        /// Where credentials are looked for, in order of precedence: "bearer" or "header NAME".
        order: Vec<Located<String>>,
        /// What tells the kinds apart, in order; the last has no prefix.
        kinds: Vec<KindRule>,
    }
}

section! {
    /// One rule of `kinds`.
    pub struct KindRule {
        prefix: String = String::new(),
        kind: CredentialKind,
    }
}

section! {
    /// `[ids]`: `{random:N}` is N characters of a-z and 0-9, `{uuid}` a version 4 UUID.
    pub struct Ids: Default {
        account: IdTemplate = IdTemplate::uuid(),
        session: IdTemplate = IdTemplate::uuid(),
        api_key: IdTemplate = IdTemplate { before: "key-".to_owned(), random: Random::Word(10) },
    }
}

section! {
    /// `[token]`
    pub struct Tokens {
        access: AccessToken,
        refresh: RefreshToken,
        api_key: KeyToken,
    }
}

section! {
    /// `[token.access]`: a JWT. `iss`, `aud`, `sub`, `iat`, `exp`, `jti`, `sid` and `env` are always there.
    pub struct AccessToken {
        algorithm: SigningAlgorithm = SigningAlgorithm::Hs256,
        /// The `typ` of the header.
        "typ" media_type: String = "at+jwt".to_owned(),
        ttl: Duration,
        claims: Template,
    }
}

section! {
    /// `[token.refresh]`: opaque, 256 bits, kept as SHA-256.
    pub struct RefreshToken {
        ttl: Duration,
    }
}

section! {
    /// `[token.api_key]`
    pub struct KeyToken {
        /// May hold {api.environment}.
        prefix: Template,
        /// Prefixes of keys that are accepted and no longer made.
        also: Vec<String> = Vec::new(),
    }
}

section! {
    /// `[permissions]`
    pub struct Permissions: Default {
        known: Vec<Scope> = Vec::new(),
        default: Vec<Located<Scope>> = Vec::new(),
        implies: Named<Vec<Scope>> = Named::default(),
        everything: Vec<Scope> = Vec::new(),
    }
}

section! {
    /// `[roles.NAME]`
    pub struct RoleSpec {
        scopes: Vec<Scope>,
        /// Place in the hierarchy, higher is more.
        rank: u64 = 0,
        /// Whether the role, held outside any tenant, holds inside every tenant.
        everywhere: bool = false,
    }
}

section! {
    /// `[[endpoint]]`: something that the gateway answers itself.
    pub struct EndpointSpec {
        operation: Located<String>,
        /// "POST /path"; several are aliases.
        on: OneOrMany<Located<MethodPath>>,
        public: bool = false,
        accept: Vec<CredentialKind> = Vec::new(),
        scopes: Vec<Scope> = Vec::new(),
        any_scope: Vec<Scope> = Vec::new(),
        role: Option<Located<String>> = None,
        limits: Vec<Located<String>> = Vec::new(),
        /// Only while this option is true.
        when: Option<Located<String>> = None,
        body: Named<FieldRule> = Named::default(),
        unknown_fields: UnknownFields = UnknownFields::Ignore,
        max_body: ByteSize = ByteSize(16 << 10),
        page: Option<PageSpec> = None,
        answer: AnswerSpec,
    }
}

section! {
    /// How a list is cut into pages.
    pub struct PageSpec {
        style: PageStyle = PageStyle::Page,
        default: u64,
        max: u64,
    }
}

words! {
    /// Styles of paging: `?page=N&per_page=M`.
    pub enum PageStyle { Page = "page" }
}

section! {
    /// What an endpoint answers when all went well.
    pub struct AnswerSpec {
        status: Status,
        /// Absent = an empty body.
        json: Option<Template> = None,
    }
}

section! {
    /// `[routes]`
    pub struct RoutesSection: Default {
        /// What becomes of paths of the API that no route lists.
        unmapped: Unmapped = Unmapped::Sessions,
    }
}

words! {
    /// Who may use paths of the API that no route lists.
    pub enum Unmapped { Sessions = "sessions", Any = "any", Deny = "deny" }
}

section! {
    /// `[[route]]`: one path, or with `under` and `rules` all paths below one.
    pub struct RouteSpec {
        on: OneOrMany<Located<MethodPath>> = OneOrMany(Vec::new()),
        under: Option<Located<PathPattern>> = None,
        /// The capture that names the tenant, e.g. "{tenant}".
        tenant: Option<Located<String>> = None,
        public: bool = false,
        accept: Vec<CredentialKind> = Vec::new(),
        scopes: Vec<Scope> = Vec::new(),
        any_scope: Vec<Scope> = Vec::new(),
        role: Option<Located<String>> = None,
        /// Further demands on one kind of credential.
        by_kind: Named<KindDemand> = Named::default(),
        limits: Vec<Located<String>> = Vec::new(),
        when: Option<Located<String>> = None,
        rules: Vec<RuleSpec> = Vec::new(),
    }
}

section! {
    /// One of `rules`.
    pub struct RuleSpec {
        on: OneOrMany<Located<MethodPath>>,
        public: bool = false,
        accept: Vec<CredentialKind> = Vec::new(),
        scopes: Vec<Scope> = Vec::new(),
        any_scope: Vec<Scope> = Vec::new(),
        role: Option<Located<String>> = None,
        by_kind: Named<KindDemand> = Named::default(),
        limits: Vec<Located<String>> = Vec::new(),
    }
}

section! {
    /// What one kind of credential must have besides.
    pub struct KindDemand {
        scopes: Vec<Scope> = Vec::new(),
        any_scope: Vec<Scope> = Vec::new(),
        role: Option<Located<String>> = None,
    }
}

section! {
    /// `[limits]`
    pub struct LimitsSection: Default {
        /// Which headers tell of limits.
        headers: LimitHeaders = LimitHeaders::None,
    }
}

words! {
    /// Header styles: none; X-RateLimit-* with epoch seconds; RateLimit-* with delta seconds; RateLimit and RateLimit-Policy of the IETF draft.
    pub enum LimitHeaders { None = "none", Epoch = "x-ratelimit", Delta = "ratelimit", Ietf = "ietf" }
}

section! {
    /// `[identity]`
    pub struct Identity: Default {
        headers: Named<Located<String>> = Named::default(),
        credential: CredentialHandling = CredentialHandling::Strip,
        unused_carriers: CredentialHandling = CredentialHandling::Strip,
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug)]
pub struct OneOrMany<T>(pub Vec<T>);

/// `GET /path`, or a path alone for all methods.
#[derive(Clone, Debug)]
pub struct MethodPath {
    pub method: Option<Method>,
    pub pattern: PathPattern,
}

/// How ids of one kind are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdTemplate {
    pub before: String,
    pub random: Random,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Random {
    Word(usize),
    Uuid,
}

impl IdTemplate {
    fn uuid() -> Self {
        Self { before: String::new(), random: Random::Uuid }
    }

    /// Puts a given random part in, e.g. the one that a key's text holds.
    pub fn with(&self, random: &str) -> String {
        format!("{}{random}", self.before)
    }

    pub fn mint(&self) -> String {
        match self.random {
            Random::Word(length) => self.with(&crate::random::word(length)),
            Random::Uuid => self.with(&crate::random::uuid()),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (before, rest) = text.split_once('{')?;
        let random = match rest.strip_suffix('}')? {
            "uuid" => Random::Uuid,
            other => Random::Word(other.strip_prefix("random:")?.parse().ok().filter(|length| (6..=64).contains(length))?),
        };
        (!before.contains('}')).then(|| Self { before: before.to_owned(), random })
    }
}

impl Decode for IdTemplate {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = decoder.raw_string(node, "an id such as \"user-{random:10}\"")?;
        match Self::parse(text) {
            Some(template) => Some(template),
            None => decoder.mismatch(node, "a prefix and `{uuid}` or `{random:N}` with N from 6 to 64"),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

impl<T: Decode> Decode for OneOrMany<T> {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        match node.value.get_ref().is_array() {
            true => Vec::decode(node, decoder).map(Self),
            false => T::decode(node, decoder).map(|one| Self(vec![one])),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [T::schema(), Vec::<T>::schema()] })
    }
}

impl Decode for MethodPath {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = decoder.raw_string(node, "a method and a path such as \"GET /items/{id}\"")?;
        let (method, path) = match text.split_once(' ') {
            Some((method, path)) => (Some(method), path),
            None => (None, text),
        };
        let parsed =
            method.map(|method| Method::from_bytes(method.as_bytes()).ok().filter(|m| m.as_str() == method.to_uppercase()));
        if matches!(parsed, Some(None)) {
            return decoder.mismatch(node, "an upper-case method and a path such as \"GET /items/{id}\"");
        }
        match PathPattern::parse(path) {
            Ok(pattern) => Some(Self { method: parsed.flatten(), pattern }),
            Err(why) => {
                let place = decoder.place(node);
                decoder.report.error(place, why);
                None
            }
        }
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}
