//! `[[api.issuer]]`: tokens that others sign and that an API accepts beside its own.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use crate::config::decode::{section, words};
use crate::config::report::{Located, Report};
use crate::config::value::refuse_zero;

section! {
    /// `[[api.issuer]]`
    pub struct Issuer {
        /// The `iss` of its tokens, compared byte for byte. May only be left out with a `secret_file`.
        issuer: Option<Located<String>> = None,
        /// The token's `aud` is or holds one of these. May only be empty with a `secret_file`.
        audience: Vec<String> = Vec::new(),
        /// Where its keys are: "discover" asks the issuer (OpenID Connect Discovery 1.0, RFC 8414), else a URL.
        jwks_url: Option<Located<String>> = None,
        /// Or a file with its JWK set (RFC 7517), read at start.
        jwks_file: Option<Located<PathBuf>> = None,
        /// Or a file with the secret that both sides know; HS256, HS384 and HS512 only.
        secret_file: Option<Located<PathBuf>> = None,
        /// Certificates (PEM) that `jwks_url` is trusted by, instead of the system's.
        ca_file: Option<Located<PathBuf>> = None,
        /// Whether the issuer may be on a private or loopback address; on a loopback address then also by http.
        allow_private: bool = false,
        /// What its tokens may be signed with; by default RS256, ES256 and EdDSA, with a `secret_file` HS256.
        algorithms: Vec<Located<JwsAlgorithm>> = Vec::new(),
        /// Accepted `typ` of the header; "" stands for none. By default "at+jwt" (RFC 9068); with a `secret_file` also "JWT" and none.
        types: Vec<String> = Vec::new(),
        /// Claims that a token must have; by default exp, sub, iss and aud, with a `secret_file` exp and sub.
        required_claims: Vec<Located<String>> = Vec::new(),
        /// How far its clock may differ from ours, at most 60 s.
        leeway: Duration = Duration::from_secs(30),
        /// Which claims say what; a claim in a claim is written with dots, e.g. "realm_access.roles".
        claims: IssuerClaims = IssuerClaims::default(),
        /// Whether the subject is an account of the realm ("store"), or known by its claims alone.
        accounts: AccountSource = AccountSource::Claims,
        /// How often the keys are fetched anew; sooner when the answer's `Cache-Control` says so.
        refresh_interval: Duration = Duration::from_mins(10),
        /// How long keys are used when they cannot be fetched anew.
        max_stale: Duration = Duration::from_hours(24),
    }
}

section! {
    /// `claims` of an issuer. What is left out is not read.
    pub struct IssuerClaims: Default {
        /// Who the token is about.
        subject: Located<String> = Located::new("sub".to_owned(), crate::config::report::Place::default()),
        /// Roles of the contract: a list, or words between blanks.
        roles: Option<Located<String>> = None,
        /// Scopes: a list, or words between blanks. Where roles are read too, both must allow.
        scopes: Option<Located<String>> = None,
        /// The one tenant that the token is good for.
        tenant: Option<Located<String>> = None,
        /// What the caller is called; by default the subject.
        username: Option<Located<String>> = None,
        /// Its email address.
        email: Option<Located<String>> = None,
    }
}

words! {
    /// Signature algorithms of RFC 7518 and RFC 8037 that are verified.
    pub enum JwsAlgorithm: Display {
        Hs256 = "HS256",
        Hs384 = "HS384",
        Hs512 = "HS512",
        Rs256 = "RS256",
        Rs384 = "RS384",
        Rs512 = "RS512",
        Ps256 = "PS256",
        Ps384 = "PS384",
        Ps512 = "PS512",
        Es256 = "ES256",
        Es384 = "ES384",
        EdDsa = "EdDSA",
    }
}

words! {
    /// Where an issuer's subjects are looked up.
    pub enum AccountSource { Claims = "claims", Store = "store" }
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysFrom<'a> {
    /// The issuer's own metadata names the URL.
    Discover {
        issuer: &'a str,
    },
    Url(&'a str),
    File(&'a PathBuf),
    Secret(&'a PathBuf),
}

impl JwsAlgorithm {
    /// Whether both sides hold the same secret.
    pub fn is_symmetric(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

impl Issuer {
    /// Where the keys come from. `None` in a file with mistakes.
    pub fn key_source(&self) -> Option<KeysFrom<'_>> {
        match (&self.jwks_url, &self.jwks_file, &self.secret_file) {
            (Some(url), None, None) if url.value == DISCOVER => Some(KeysFrom::Discover { issuer: &self.issuer.as_ref()?.value }),
            (Some(url), None, None) => Some(KeysFrom::Url(&url.value)),
            (None, Some(file), None) => Some(KeysFrom::File(&file.value)),
            (None, None, Some(file)) => Some(KeysFrom::Secret(&file.value)),
            (..) => None,
        }
    }

    fn is_ours(&self) -> bool {
        self.secret_file.is_some()
    }

    /// The algorithms that the config names, else the default ones.
    pub fn algorithms(&self) -> Vec<JwsAlgorithm> {
        match (self.algorithms.is_empty(), self.is_ours()) {
            (false, _) => self.algorithms.iter().map(|algorithm| algorithm.value).collect(),
            (true, true) => vec![JwsAlgorithm::Hs256],
            (true, false) => vec![JwsAlgorithm::Rs256, JwsAlgorithm::Es256, JwsAlgorithm::EdDsa],
        }
    }

    /// The accepted `typ`, in the same way.
    pub fn types(&self) -> Vec<String> {
        let defaults: &[&str] = if self.is_ours() { &["at+jwt", "JWT", ""] } else { &["at+jwt"] };
        match self.types.is_empty() {
            true => defaults.iter().map(|&typ| typ.to_owned()).collect(),
            false => self.types.clone(),
        }
    }

    /// The claims that must be there, in the same way.
    pub fn required_claims(&self) -> Vec<String> {
        let defaults: &[&str] = if self.is_ours() { &["exp", "sub"] } else { &["exp", "sub", "iss", "aud"] };
        match self.required_claims.is_empty() {
            true => defaults.iter().map(|&claim| claim.to_owned()).collect(),
            false => self.required_claims.iter().map(|claim| claim.value.clone()).collect(),
        }
    }

    /// What logs and commands call it.
    pub fn label(&self) -> &str {
        self.issuer.as_ref().map_or("(without issuer)", |issuer| &issuer.value)
    }

    /// Reports what is wrong within the section.
    pub fn check(&self, report: &mut Report) {
        self.check_source(report);
        self.check_identity(report);
        self.check_algorithms(report);
        self.check_claims(report);
        let times = [("refresh_interval", self.refresh_interval), ("max_stale", self.max_stale)];
        refuse_zero(self.place, &times, report);
        if self.leeway > MAX_LEEWAY {
            let why = format!("`leeway` is {:?}; a clock that is more than {MAX_LEEWAY:?} off must be set", self.leeway);
            report.error(report.at(self.place, "leeway"), why);
        }
        if self.max_stale < self.refresh_interval {
            let why = "`max_stale` is shorter than `refresh_interval`: the keys would be gone before they are fetched anew";
            report.error(report.at(self.place, "max_stale"), why);
        }
    }

    fn check_source(&self, report: &mut Report) {
        let given: Vec<_> = [
            ("jwks_url", self.jwks_url.as_ref().map(|url| url.place)),
            ("jwks_file", self.jwks_file.as_ref().map(|file| file.place)),
            ("secret_file", self.secret_file.as_ref().map(|file| file.place)),
        ]
        .into_iter()
        .filter_map(|(key, place)| Some((key, place?)))
        .collect();
        match given.as_slice() {
            [] => {
                report.error_with_help(self.place, "nothing says where the issuer's keys are", SOURCES);
            }
            [_] => {}
            [(first, _), (second, place), ..] => {
                let why = format!("`{first}` and `{second}` are both given");
                report.error_with_help(*place, why, SOURCES);
            }
        }
        if let Some(url) = &self.jwks_url
            && url.value != DISCOVER
            && let Err(why) = self.check_url(&url.value)
        {
            report.error_with_help(url.place, why, "expected \"discover\" or a URL such as \"https://login.example.com/keys\"");
        }
        if let (Some(issuer), true) = (&self.issuer, self.jwks_url.as_ref().is_some_and(|url| url.value == DISCOVER))
            && let Err(why) = self.check_url(&issuer.value)
        {
            report.error_with_help(issuer.place, why, "expected a URL such as \"https://login.example.com\" to discover from");
        }
        if let (Some(file), None) = (&self.ca_file, &self.jwks_url) {
            report.error(file.place, "`ca_file` is for a `jwks_url`; nothing is fetched here");
        }
    }

    fn check_url(&self, text: &str) -> Result<(), String> {
        let uri: Uri = text.parse().map_err(|_| format!("`{text}` is no URL"))?;
        let host = uri.host().unwrap_or_default();
        if host.is_empty() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) || text.contains('#') {
            return Err(format!("`{text}` is no plain URL"));
        }
        let is_loopback = host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        match uri.scheme_str() {
            Some("https") => Ok(()),
            Some("http") if self.allow_private && is_loopback => Ok(()),
            Some("http") => {
                Err(format!("`{text}`: keys are fetched by https; http is for a loopback address with `allow_private = true`"))
            }
            Some(_) | None => Err(format!("`{text}` is no https URL")),
        }
    }

    /// Without `iss` or `aud` a token of anyone whose key is known would be taken, or one that is meant for another API.
    fn check_identity(&self, report: &mut Report) {
        let leaves_out = |claim: &str| {
            !self.required_claims.is_empty() && !self.required_claims.iter().any(|required| required.value == claim)
        };
        for claim in ["exp", "sub"] {
            if leaves_out(claim) {
                let place = report.at(self.place, "required_claims");
                report.error(place, format!("`required_claims` leaves out `{claim}`, which every token must have"));
            }
        }
        if self.is_ours() {
            return;
        }
        let place = report.at(self.place, "required_claims");
        for claim in ["iss", "aud"] {
            if leaves_out(claim) {
                let why = format!("`required_claims` leaves out `{claim}`; only tokens with a secret of their own may lack it");
                report.error(place, why);
            }
        }
        if self.issuer.as_ref().is_none_or(|issuer| issuer.value.is_empty()) {
            report.error_with_help(self.place, "`issuer` is missing", "expected the `iss` of the tokens, byte for byte");
        }
        if self.audience.is_empty() {
            let help = "expected what the issuer writes into `aud` for this API; without it tokens for others would be taken";
            report.error_with_help(self.place, "`audience` is missing", help);
        }
    }

    /// What the account says is not read from the token.
    fn check_claims(&self, report: &mut Report) {
        if self.accounts == AccountSource::Claims {
            return;
        }
        let claims = &self.claims;
        for (key, claim) in [("roles", &claims.roles), ("username", &claims.username), ("email", &claims.email)] {
            if let Some(claim) = claim {
                let why = format!("`{key}` is read from the account where `accounts` is \"store\", not from a claim");
                report.error_with_help(claim.place, why, format!("leave `{key}` out, or set `accounts = \"claims\"`"));
            }
        }
    }

    fn check_algorithms(&self, report: &mut Report) {
        for algorithm in self.algorithms.iter().filter(|algorithm| algorithm.value.is_symmetric() != self.is_ours()) {
            let name = algorithm.value.as_str();
            let why = match self.is_ours() {
                true => format!("`{name}` is verified with a public key, not with a secret"),
                false => format!("`{name}` is verified with a secret; with public keys it lets everybody sign"),
            };
            report.error_with_help(algorithm.place, why, "HS256, HS384 and HS512 go with a `secret_file`, the others with keys");
        }
    }
}

const DISCOVER: &str = "discover";
const SOURCES: &str = "expected one of `jwks_url`, `jwks_file` and `secret_file`";
const MAX_LEEWAY: Duration = Duration::from_mins(1);
