//! `[[api]]`: an API behind the gateway, with its routes, limits and what the upstream learns of a caller.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use serde_json::{Value, json};

use crate::config::cors::Cors;
use crate::config::decode::{Decode, Decoder, Named, Node, section, words};
use crate::config::issuer::Issuer;
use crate::config::limit::Limit;
use crate::config::report::{Located, Place, Report};
use crate::config::route::Route;
use crate::config::tls::CertificateName;
use crate::config::value::{HostPattern, refuse_zero};

section! {
    /// `[[api]]`
    pub struct Api {
        /// Names the API in logs, metrics and other sections; by default the contract's name, of a file without `.toml`.
        name: Option<Located<String>> = None,
        /// Values of Host that it answers to: a name, "*.example.com" or "*" for any.
        hosts: Vec<Located<HostPattern>> = vec![Located::new(HostPattern::Any, Place::default())],
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
        /// How clients reach the API, e.g. "https://api.example.com"; the issuer and audience of its tokens.
        public_url: Option<String> = None,
        /// The directory of accounts and keys; several APIs may share one. By default the API's name.
        realm: Option<String> = None,
        /// What it signs its own tokens with.
        tokens: ApiTokens = ApiTokens::default(),
        /// Where credentials are looked for.
        credentials: ApiCredentials = ApiCredentials::default(),
        /// What the upstream learns of the caller.
        identity: ApiIdentity = ApiIdentity::default(),
        /// Which pages of other origins may read its answers; a route may say otherwise.
        cors: Option<Cors> = None,
        /// Tokens that others sign and that it accepts too.
        "issuer" issuers: Vec<Issuer> = Vec::new(),
        /// Who may call which path.
        "route" routes: Vec<Route> = Vec::new(),
        /// How many requests, counted by what.
        "limit" limits: Vec<Limit> = Vec::new(),
    }
}

section! {
    /// `tokens` of an API: what it signs its own tokens with.
    pub struct ApiTokens: Default {
        /// By default the contract's.
        algorithm: Option<SigningAlgorithm> = None,
        /// Life of an access token; by default the contract's.
        access_ttl: Option<Duration> = None,
        /// Life of a refresh token; by default the contract's.
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
        /// What API keys begin with that were made elsewhere and imported, to tell them from tokens.
        key_prefixes: Vec<Located<String>> = Vec::new(),
        /// Who a client certificate stands for, on routes whose `accept` names "client_certificate".
        certificate: ApiCertificate = ApiCertificate::default(),
    }
}

section! {
    /// `certificate` of an API's credentials.
    pub struct ApiCertificate: Default {
        /// Which name of a certificate is its subject: the first of these kinds that it has, "uri", "dns", "email" or
        /// "common_name". With two names of that kind it is refused.
        subject: Vec<CertificateName> = vec![CertificateName::Uri, CertificateName::Dns, CertificateName::Email, CertificateName::CommonName],
        /// Whether the subject is the id of an account of the realm ("store"), with its roles, or known by its certificate
        /// alone ("certificate"), without any.
        accounts: CertificateAccounts = CertificateAccounts::Certificate,
    }
}

words! {
    /// Where the subjects of client certificates are looked up.
    pub enum CertificateAccounts { Certificate = "certificate", Store = "store" }
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
    pub enum SigningAlgorithm: Display { Hs256 = "HS256", Rs256 = "RS256", Es256 = "ES256", EdDsa = "EdDSA" }
}

impl Api {
    /// What other sections, logs and metrics call it: its name, else its contract's.
    pub fn label(&self) -> &str {
        let contract = self.contract.value.as_str();
        let file = contract.rsplit('/').next().unwrap_or(contract);
        self.name.as_ref().map_or(file.strip_suffix(".toml").unwrap_or(file), |name| name.value.as_str())
    }

    /// Where it says what it is called.
    pub fn label_place(&self) -> Place {
        self.name.as_ref().map_or(self.contract.place, |name| name.place)
    }

    /// Reports what is wrong within the section.
    pub fn check(&self, report: &mut Report) {
        if self.hosts.is_empty() {
            report.error_with_help(report.at(self.place, "hosts"), "the API answers to no host", ANY_HOST);
        }
        if let Some(url) = self.public_url.as_deref()
            && let Err(why) = check_public_url(url)
        {
            report.refuse(report.at(self.place, "public_url"), why, "expected a URL such as \"https://api.example.com\"");
        }
        self.tokens.check(report);
        let certificate = &self.credentials.certificate;
        if certificate.subject.is_empty() {
            let why = "`subject` is empty: no client certificate would stand for anybody";
            report.error(report.at(certificate.place, "subject"), why);
        }
        self.identity.check(report);
        self.cors.iter().for_each(|cors| cors.check(report));
        self.issuers.iter().for_each(|issuer| issuer.check(report));
        self.check_issuers(report);
        self.routes.iter().for_each(|route| route.check(report));
        self.limits.iter().for_each(|limit| limit.check(report));
        for (at, route) in self.routes.iter().enumerate() {
            if !report.is_sound(route.place, "methods") {
                continue;
            }
            let clear = |earlier: &&Route| earlier.overlaps(route) && report.is_sound(earlier.place, "methods");
            // The first is enough: the others overlap with that one.
            if let Some(earlier) = self.routes.iter().take(at).find(clear) {
                let (name, line) = (&earlier.name.value, report.line(earlier.place));
                let why = format!("`{}` takes requests that route `{name}` (line {line}) takes", route.path.value);
                report.error_with_help(route.path.place, why, "give one of them another path, or methods of its own");
            }
        }
    }
}

impl Api {
    /// An issuer is found by its name: each has one of its own.
    fn check_issuers(&self, report: &mut Report) {
        let ours = self.public_url.as_deref().map(|url| url.trim_end_matches('/'));
        for (at, issuer) in self.issuers.iter().enumerate() {
            let Some(name) = &issuer.issuer else { continue };
            if ours == Some(name.value.as_str()) {
                let why =
                    format!("`{}` is the API's own `public_url`, the `iss` of the tokens that the gateway signs", name.value);
                report.error_with_help(name.place, why, "leave `issuer` out where a `secret_file` tells its tokens apart");
            }
            let named = |earlier: &&Issuer| earlier.issuer.as_ref().is_some_and(|earlier| earlier.value == name.value);
            if let Some(earlier) = self.issuers.iter().take(at).find(named) {
                let why = format!("the issuer `{}` is given twice (line {})", name.value, report.line(earlier.place));
                report.error_with_help(name.place, why, "write its audiences and algorithms into one [[api.issuer]]");
            }
        }
    }
}

impl ApiTokens {
    fn check(&self, report: &mut Report) {
        let lives = [("access_ttl", self.access_ttl), ("refresh_ttl", self.refresh_ttl)];
        let set: Vec<_> = lives.into_iter().filter_map(|(key, ttl)| Some((key, ttl?))).collect();
        refuse_zero(self.place, &set, report);
        if let (Some(access), Some(refresh)) = (self.access_ttl, self.refresh_ttl)
            && access > refresh
        {
            let why = "`access_ttl` is longer than `refresh_ttl`: there is nothing to refresh";
            report.error(report.at(self.place, "access_ttl"), why);
        }
        let (secret, key) = (report.at(self.place, "secret_file"), report.at(self.place, "key_file"));
        match (&self.secret_file, &self.key_file, self.algorithm) {
            (Some(_), Some(_), _) => {
                report.error_with_help(key, "`secret_file` and `key_file` are both given", SIGNING_KEY);
            }
            (Some(_), None, Some(SigningAlgorithm::Rs256 | SigningAlgorithm::Es256 | SigningAlgorithm::EdDsa)) => {
                report.error_with_help(
                    secret,
                    "`secret_file` is given for an algorithm that signs with a private key",
                    SIGNING_KEY,
                );
            }
            (None, Some(_), Some(SigningAlgorithm::Hs256)) => {
                report.error_with_help(key, "`key_file` is given for HS256, which signs with a secret", SIGNING_KEY);
            }
            (Some(_), None, Some(SigningAlgorithm::Hs256) | None) | (None, Some(_) | None, _) => {}
        }
    }
}

impl ApiIdentity {
    fn check(&self, report: &mut Report) {
        let mut seen: Vec<String> = Vec::new();
        for (name, _) in &self.headers.0 {
            if let Err(why) = check_identity_header(&name.value) {
                report.error_with_help(name.place, why, "expected a header of your own such as \"X-Auth-User-Id\"");
            }
            // Many servers read `_` as `-` and no server tells capitals apart.
            let plain = name.value.to_ascii_lowercase().replace('_', "-");
            if seen.contains(&plain) {
                report.error(name.place, format!("the header `{}` is given twice", name.value));
            }
            seen.push(plain);
        }
    }
}

/// What is wrong with a header that the gateway is to set, if anything.
pub fn check_identity_header(name: &str) -> Result<(), String> {
    let parsed: HeaderName = name.parse().map_err(|_| format!("`{name}` is no header name"))?;
    match parsed.as_str().replace('_', "-").as_str() {
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "te"
        | "trailer"
        | "upgrade" => Err(format!("`{name}` is about one connection and not forwarded (RFC 9110, 7.6.1)")),
        "transfer-encoding" | "content-length" => Err(format!("`{name}` says how long the message is")),
        "host" => Err("`Host` says which server is meant".to_owned()),
        "forwarded" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-real-ip" | "x-request-id" => {
            Err(format!("`{name}` is written by the gateway itself"))
        }
        _ => Ok(()),
    }
}

fn check_public_url(text: &str) -> Result<(), String> {
    let uri: http::Uri = text.parse().map_err(|_| format!("`{text}` is no URL"))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
            Err("the URL holds a user name or password".to_owned())
        }
        (Some("http" | "https"), Some(_)) if uri.query().is_some() || text.contains('#') => {
            Err(format!("`{text}` has a query or a fragment"))
        }
        (Some("http" | "https"), Some(_)) => Ok(()),
        (..) => Err(format!("`{text}` is no http or https URL")),
    }
}

const ANY_HOST: &str = "leave `hosts` out to answer to every host";
const SIGNING_KEY: &str = "HS256 signs with a `secret_file`; RS256, ES256 and EdDSA with a `key_file`";

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
