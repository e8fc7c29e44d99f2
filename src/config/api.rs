//! `[[api]]`: an API behind the gateway, with its routes, limits and what the upstream learns of a caller.

use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::config::decode::{Decode, Decoder, Named, Node, section, words};
use crate::config::limit::Limit;
use crate::config::report::Located;
use crate::config::value::{ByteSize, HostPattern, PathPattern};
use crate::identity::{CredentialKind, Networks, Scope};

section! {
    /// `[[api]]`
    pub struct Api {
        /// Names the API in logs, metrics and other sections; by default the contract's name.
        name: Option<Located<String>> = None,
        hosts: Vec<Located<HostPattern>> = Vec::new(),
        /// The listener it answers on; by default the first.
        listener: Option<Located<String>> = None,
        /// The name of an `[[upstream]]`, or one URL.
        upstream: Located<String>,
        /// A built-in contract or the path of a contract file.
        contract: Located<String>,
        /// The contract's switches.
        options: Named<OptionValue> = Named::default(),
        /// Which of the contract's endpoints the gateway answers: "contract" for all, "none", or a list of operations.
        endpoints: EndpointChoice = EndpointChoice::Contract,
        /// Stands in keys and tokens; a credential of another environment is refused.
        environment: String = "live".to_owned(),
        /// What becomes of paths outside every prefix of the contract.
        outside: Outside = Outside::Deny,
        /// How clients reach the API; the issuer and audience of its tokens.
        public_url: Option<String> = None,
        /// The directory of accounts and keys; several APIs may share one. By default the API's name.
        realm: Option<String> = None,
        tokens: ApiTokens = ApiTokens::default(),
        credentials: ApiCredentials = ApiCredentials::default(),
        identity: ApiIdentity = ApiIdentity::default(),
        "route" routes: Vec<Route> = Vec::new(),
        "limit" limits: Vec<Limit> = Vec::new(),
    }
}

section! {
    /// `tokens` of an API: what it signs its own tokens with.
    pub struct ApiTokens: Default {
        algorithm: Option<SigningAlgorithm> = None,
        access_ttl: Option<Duration> = None,
        refresh_ttl: Option<Duration> = None,
        /// HS256: a file with at least 32 bytes; without it a key is made and kept in the store.
        secret_file: Option<PathBuf> = None,
        /// RS256, ES256, EdDSA: a PKCS#8 private key in PEM; without it one is made and kept in the store.
        key_file: Option<PathBuf> = None,
    }
}

section! {
    /// `[api.credentials]`
    pub struct ApiCredentials: Default {
        /// Where credentials are looked for, in order of precedence: "bearer" or "header NAME". Replaces the contract's.
        carriers: Vec<Located<String>> = Vec::new(),
    }
}

section! {
    /// `[api.identity]`: what the upstream learns.
    pub struct ApiIdentity: Default {
        /// Header name to value, e.g. "X-Auth-User-Id" = "account.id". Replaces the contract's.
        headers: Named<Located<String>> = Named::default(),
        /// What becomes of the credential that was used.
        credential: Option<CredentialHandling> = None,
        /// What becomes of the carriers that were not used.
        unused_carriers: Option<CredentialHandling> = None,
    }
}

section! {
    /// `[[api.route]]`
    pub struct Route {
        /// Names the route in logs and metrics.
        name: Located<String>,
        path: Located<PathPattern>,
        /// Empty = all methods.
        methods: Vec<Method> = Vec::new(),
        /// The kinds of credential that the route takes; or `public = true`.
        accept: Vec<CredentialKind> = Vec::new(),
        public: bool = false,
        /// All of them are needed.
        scopes: Vec<Scope> = Vec::new(),
        /// One of them is needed.
        any_scope: Vec<Scope> = Vec::new(),
        /// The least role, where the contract has a hierarchy.
        role: Option<Located<String>> = None,
        /// The capture that names the tenant for which permissions are judged, e.g. "{tenant}".
        tenant: Option<Located<String>> = None,
        /// Networks that may use the route; empty = all.
        allow_ips: Networks = Networks::default(),
        deny_ips: Networks = Networks::default(),
        /// Names of limits.
        limits: Vec<Located<String>> = Vec::new(),
        max_body: Option<ByteSize> = None,
        timeouts: RouteTimeouts = RouteTimeouts::default(),
        identity: RouteIdentity = RouteIdentity::default(),
    }
}

section! {
    /// `timeouts` of a route.
    pub struct RouteTimeouts: Default {
        /// Replaces the upstream's.
        response: Option<Duration> = None,
    }
}

section! {
    /// `identity` of a route.
    pub struct RouteIdentity: Default {
        /// Replaces the API's.
        credential: Option<CredentialHandling> = None,
    }
}

words! {
    /// What becomes of a credential on its way to the upstream.
    pub enum CredentialHandling { Strip = "strip", Keep = "keep" }
}

words! {
    /// What becomes of paths outside every prefix of the contract.
    pub enum Outside { Deny = "deny", Public = "public" }
}

words! {
    /// Signature algorithms of RFC 7518 and RFC 8037 that the gateway signs with.
    pub enum SigningAlgorithm { Hs256 = "HS256", Rs256 = "RS256", Es256 = "ES256", EdDsa = "EdDSA" }
}

/// Which of a contract's endpoints are answered here.
#[derive(Clone, Debug)]
pub enum EndpointChoice {
    Contract,
    None,
    Only(Vec<Located<String>>),
}

/// The value of a contract's switch.
#[derive(Clone, Debug, PartialEq)]
pub enum OptionValue {
    Bool(bool),
    Number(u64),
    Text(String),
}

impl Decode for EndpointChoice {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        match node.value.get_ref().as_str() {
            Some("contract") => Some(Self::Contract),
            Some("none") => Some(Self::None),
            Some(_) => decoder.mismatch(node, "\"contract\", \"none\" or a list of operations"),
            None => Vec::decode(node, decoder).map(Self::Only),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "enum": ["contract", "none"] }, { "type": "array", "items": { "type": "string" } }] })
    }
}

impl Decode for OptionValue {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Some(value) = node.value.get_ref().as_bool() {
            return Some(Self::Bool(value));
        }
        match node.value.get_ref().is_integer() {
            true => u64::decode(node, decoder).map(Self::Number),
            false => decoder.string(node, "true, false, a number or a string").map(Self::Text),
        }
    }

    fn schema() -> Value {
        json!({ "type": ["boolean", "integer", "string"] })
    }
}
