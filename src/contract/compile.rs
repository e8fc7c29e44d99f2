//! An `[[api]]` section and its contract file, checked against each other and merged into an [`Api`].

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::config;
use crate::config::decode::{Decoder, decode_document};
use crate::config::report::{Located, Place, Report};
use crate::config::value::{HostPattern, refuse_zero};
use crate::config::{EndpointChoice, OptionValue, check_identity_header};
use crate::contract::api::{Api, Carrier, IdentityHeaders, Ids, JWT_START, KeyPrefix, Kind, Limit, Tokens};
use crate::contract::builtin;
use crate::contract::check;
use crate::contract::errors::ErrorTable;
use crate::contract::facts::{ApiFacts, Facts};
use crate::contract::features::{self, Cors};
use crate::contract::file::{ContractFile, Random};
use crate::contract::operation::Operation;
use crate::contract::placeholder::{Group, Placeholder};
use crate::contract::routes::Material;
use crate::contract::template::Template;
use crate::identity::{CredentialKind, RoleRule, Scope, ScopeSet, Vocabulary};

/// Where a config file stands and what it may look up.
pub struct Surroundings<'a> {
    /// Contract paths are relative to it.
    pub folder: &'a Path,
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// Compiles one API. `None` when something is wrong with it; the report then says what and where.
pub fn compile(api: &config::Api, around: &Surroundings<'_>, report: &mut Report) -> Option<Api> {
    let before = report.len();
    let file = load(&api.contract, around, report)?;
    merge(api, file, report).filter(|_| report.len() == before)
}

/// The same with a contract that stands in no file.
#[cfg(any(test, feature = "internals"))]
pub fn compile_text(api: &config::Api, text: &str, report: &mut Report) -> Option<Api> {
    let before = report.len();
    let source = report.add_source("contract", text);
    let mut decoder = Decoder { report, source, folder: Path::new(""), environment: &|_| None };
    let file = decode_document(text, &mut decoder)?;
    merge(api, file, report).filter(|_| report.len() == before)
}

fn merge(api: &config::Api, mut file: ContractFile, report: &mut Report) -> Option<Api> {
    let facts = facts(api);
    let options = options(api, &file, report);
    let resolve = |template: &mut Template, report: &mut Report| {
        template.resolve_options(&|name| options.get(name).map(option_json), report);
    };
    resolve(&mut file.errors.json, report);
    file.errors.when.0.iter_mut().for_each(|(_, entry)| resolve(&mut entry.message, report));
    resolve(&mut file.token.access.claims, report);
    resolve(&mut file.token.api_key.prefix, report);
    let vocabulary = vocabulary(&file, report);
    check::file(&file, report);
    check::scopes(&file, api, &vocabulary, report);
    let errors = ErrorTable::compile(&file.errors, report);
    let limits = limits(api, &file, report);
    check_endpoint_choice(api, report);
    let is_on = |name: &str| options.get(name).and_then(|value| if let OptionValue::Bool(on) = value { Some(*on) } else { None });
    let carriers = carriers(api, &file, report);
    let cors = api.cors.as_ref().map(|cors| Arc::new(Cors::new(cors, &carriers)));
    let material = Material {
        api,
        file: &file,
        limits: &limits,
        is_on: &is_on,
        resolve: &resolve,
        credential: api.identity.credential.unwrap_or(file.identity.credential),
        unused_carriers: api.identity.unused_carriers.unwrap_or(file.identity.unused_carriers),
        carriers: &carriers,
        cors: cors.clone(),
    };
    let routes = material.routes(report);
    // Before either of them may end the compilation: every mistake is told at once.
    let tokens = tokens(api, &file, &facts, report);
    let identity = identity(api, &file, report);
    features::check(api, &identity, &carriers, report);
    let local_headers = local_headers(&file, report);
    Some(Api {
        hosts: match api.hosts.as_slice() {
            [] => vec![HostPattern::Any],
            hosts => hosts.iter().map(|host| host.value.clone()).collect(),
        },
        upstream: api.upstream.value.as_str().into(),
        carriers,
        kinds: kinds(api, &file, report),
        routes,
        vocabulary,
        errors: errors?,
        ids: Ids { account: file.ids.account.clone(), session: file.ids.session.clone(), api_key: file.ids.api_key.clone() },
        tokens: tokens?,
        limit_headers: file.limits.headers,
        identity,
        cors,
        local_headers,
        facts,
    })
}

/// Names of the built-in contracts that `gateward demo` may show, in their order.
pub fn demo_contracts() -> Vec<&'static str> {
    let around = Surroundings { folder: Path::new(""), environment: &|_| None };
    let shows = |name: &&str| {
        let name = Located::new((*name).to_owned(), Place::default());
        load(&name, &around, &mut Report::default()).is_some_and(|file| file.demo)
    };
    builtin::names().filter(shows).collect()
}

fn load(name: &Located<String>, around: &Surroundings<'_>, report: &mut Report) -> Option<ContractFile> {
    let (title, text, folder) = match builtin::text(&name.value) {
        Some(text) => (format!("contract {}", name.value), text.to_owned(), around.folder.to_owned()),
        None if name.value.ends_with(".toml") => {
            let path = around.folder.join(&name.value);
            report.uses(Some(name.place), path.clone());
            match std::fs::read_to_string(&path) {
                Ok(text) => (path.display().to_string(), text, path.parent().unwrap_or(around.folder).to_owned()),
                Err(error) => {
                    report.error(name.place, format!("cannot read the contract file {}: {error}", path.display()));
                    return None;
                }
            }
        }
        None => {
            report.unknown(name.place, "contract", &name.value, builtin::names().chain(["a path that ends in .toml"]));
            return None;
        }
    };
    let source = report.add_source(title, text.clone());
    let mut decoder = Decoder { report, source, folder: &folder, environment: around.environment };
    decode_document(&text, &mut decoder)
}

fn facts(api: &config::Api) -> ApiFacts {
    // Not the name that the contract file gives itself: two files may give themselves the same, and two APIs of one name
    // would be one realm with one signing key.
    let name: Arc<str> = api.label().into();
    let public_url = api.public_url.as_deref().map(|url| url.trim_end_matches('/'));
    ApiFacts {
        realm: api.realm.as_deref().map_or_else(|| name.clone(), Arc::from),
        environment: api.environment.as_str().into(),
        // Without a public URL the API's own name keeps its tokens apart from those of other APIs.
        public_url: public_url.map_or_else(|| name.clone(), Arc::from),
        name,
    }
}

fn options(api: &config::Api, file: &ContractFile, report: &mut Report) -> HashMap<String, OptionValue> {
    let known = || file.options.0.iter().map(|(name, _)| name.value.as_str());
    let mut values: HashMap<String, OptionValue> =
        file.options.0.iter().map(|(name, spec)| (name.value.clone(), spec.default.clone())).collect();
    for (name, value) in &api.options.0 {
        let Some((_, spec)) = file.options.0.iter().find(|(known, _)| known.value == name.value) else {
            report.unknown(name.place, "option", &name.value, known());
            continue;
        };
        if std::mem::discriminant(value) != std::mem::discriminant(&spec.default) {
            report.error_with_help(name.place, format!("`{}` takes another type", name.value), spec.help.clone());
            continue;
        }
        if let OptionValue::Text(text) = value
            && !spec.one_of.is_empty()
            && !spec.one_of.contains(text)
        {
            report.unknown(name.place, "value", text, spec.one_of.iter().map(String::as_str));
            continue;
        }
        values.insert(name.value.clone(), value.clone());
    }
    values
}

fn option_json(value: &OptionValue) -> Value {
    match value {
        OptionValue::Bool(value) => json!(value),
        OptionValue::Number(value) => json!(value),
        OptionValue::Text(value) => json!(value),
    }
}

/// The contract's limits; those of `gateway.toml` are added, and replace the ones of the same name.
fn limits(api: &config::Api, file: &ContractFile, report: &mut Report) -> BTreeMap<String, Arc<Limit>> {
    let mut out = BTreeMap::new();
    for (at, spec) in file.limit.iter().enumerate() {
        spec.check(report);
        if file.limit.iter().take(at).any(|earlier| earlier.name.value == spec.name.value) {
            report.error(spec.name.place, format!("two limits are called `{}`", spec.name.value));
        }
    }
    for spec in file.limit.iter().chain(&api.limits) {
        let Ok(burst) = spec.burst.map_or(Ok(spec.quota.count), u32::try_from) else {
            report.error(spec.place, "`burst` is too large");
            continue;
        };
        let limit = Limit {
            name: spec.name.value.as_str().into(),
            per: spec.per.clone(),
            else_per: spec.else_per.clone(),
            quota: spec.quota,
            burst,
            algorithm: spec.algorithm,
            count: spec.count,
            on_outage: spec.on_outage,
            mode: spec.mode,
        };
        out.insert(spec.name.value.clone(), Arc::new(limit));
    }
    out
}

fn check_endpoint_choice(api: &config::Api, report: &mut Report) {
    let EndpointChoice::Only(words) = &api.endpoints else { return };
    for word in words.iter().filter(|word| Operation::parse(&word.value).is_none()) {
        report.unknown(word.place, "operation", &word.value, Operation::ALL.map(Operation::as_str));
    }
}

fn carriers(api: &config::Api, file: &ContractFile, report: &mut Report) -> Vec<Carrier> {
    let words = if api.credentials.carriers.is_empty() { &file.credentials.order } else { &api.credentials.carriers };
    let mut out = Vec::new();
    for word in words {
        match Carrier::parse(&word.value) {
            Some(carrier) if out.contains(&carrier) => report.error(word.place, format!("`{}` stands there twice", word.value)),
            Some(carrier) => out.push(carrier),
            None => report.unknown(word.place, "carrier", &word.value, ["bearer", "header NAME"]),
        }
    }
    out
}

fn kinds(api: &config::Api, file: &ContractFile, report: &mut Report) -> Vec<Kind> {
    let foreign = &api.credentials.key_prefixes;
    for Located { value: prefix, place } in foreign {
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
            report.error(*place, "what keys begin with is visible ASCII without blanks and commas");
        } else if JWT_START.starts_with(prefix.as_str()) || prefix.starts_with(JWT_START) {
            report.error(*place, format!("every JSON Web Token begins with `{JWT_START}`"));
        }
    }
    let foreign = foreign.iter().map(|prefix| Kind { prefix: prefix.value.clone(), kind: CredentialKind::ApiKey });
    let rules = &file.credentials.kinds;
    if rules.iter().any(|rule| rule.kind == CredentialKind::ClientCertificate) {
        report.error(file.credentials.place, "a client certificate has no first characters: it belongs to the connection");
    }
    let last_is_open = rules.last().is_some_and(|rule| rule.prefix.is_empty());
    if !last_is_open || rules.iter().rev().skip(1).any(|rule| rule.prefix.is_empty()) {
        report.error(file.credentials.place, "of `kinds` the last rule, and only that, has no prefix");
    }
    foreign.chain(rules.iter().map(|rule| Kind { prefix: rule.prefix.clone(), kind: rule.kind })).collect()
}

fn vocabulary(file: &ContractFile, report: &mut Report) -> Vocabulary {
    let permissions = &file.permissions;
    let known: ScopeSet = permissions.known.iter().cloned().collect();
    for scope in permissions.default.iter().filter(|scope| !known.contains(&scope.value)) {
        report.unknown(scope.place, "scope", scope.value.as_str(), known.iter().map(Scope::as_str));
    }
    let mut implies = BTreeMap::new();
    for (name, implied) in &permissions.implies.0 {
        match Scope::parse(&name.value) {
            Some(scope) => drop(implies.insert(scope, implied.clone())),
            None => report.error(name.place, format!("`{}` is no scope", name.value)),
        }
    }
    let role = |spec: &crate::contract::file::RoleSpec| RoleRule {
        scopes: spec.scopes.iter().cloned().collect(),
        rank: u32::try_from(spec.rank).unwrap_or(u32::MAX),
        everywhere: spec.everywhere,
    };
    Vocabulary {
        default: permissions.default.iter().map(|scope| scope.value.clone()).collect(),
        implies,
        everything: permissions.everything.iter().cloned().collect(),
        roles: file.roles.0.iter().map(|(name, spec)| (name.value.as_str().into(), role(spec))).collect(),
        known,
    }
}

fn tokens(api: &config::Api, file: &ContractFile, facts: &ApiFacts, report: &mut Report) -> Option<Tokens> {
    let token = &file.token;
    token.access.claims.check(&[Group::Account, Group::Session], report);
    if !matches!(token.access.claims, Template::Object(_)) {
        report.error(token.access.place, "`claims` is a table");
    }
    token.api_key.prefix.check(&[], report);
    let whole = token.api_key.prefix.render_text(&Facts::of(facts));
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    // Rendering with a marker in place of the environment shows where it stands.
    let marked = ApiFacts { environment: "\u{0}".into(), ..facts.clone() };
    let around = token.api_key.prefix.render_text(&Facts::of(&marked));
    if !plain(&around.replace('\u{0}', "x")) || !token.api_key.also.iter().all(|prefix| plain(prefix)) {
        report.error(token.api_key.place, "a key's prefix is made of a-z, A-Z, 0-9, `_` and `-`");
        return None;
    }
    if file.ids.api_key.random != Random::Word(KEY_ID_LENGTH) {
        let wanted = format!("the id of a key ends in `{{random:{KEY_ID_LENGTH}}}`: the key itself holds that part of it");
        report.error(file.ids.place, wanted);
    }
    let around_environment = around.split_once('\u{0}').map(|(before, after)| (before.to_owned(), after.to_owned()));
    let (access_ttl, refresh_ttl) =
        (api.tokens.access_ttl.unwrap_or(token.access.ttl), api.tokens.refresh_ttl.unwrap_or(token.refresh.ttl));
    refuse_zero(token.access.place, &[("ttl", token.access.ttl)], report);
    refuse_zero(token.refresh.place, &[("ttl", token.refresh.ttl)], report);
    let kind_of = |text: &str| file.credentials.kinds.iter().find(|rule| text.starts_with(&rule.prefix)).map(|rule| rule.kind);
    let keys = std::iter::once(&whole).chain(&token.api_key.also).map(|prefix| (prefix.as_str(), CredentialKind::ApiKey));
    for (start, kind) in keys.chain([(JWT_START, CredentialKind::Jwt)]) {
        if kind_of(start).is_some_and(|found| found != kind) {
            report.error(file.credentials.place, format!("`kinds` takes `{start}…` for another kind than {kind}"));
        }
    }
    Some(Tokens {
        algorithm: api.tokens.algorithm.unwrap_or(token.access.algorithm),
        secret_file: api.tokens.secret_file.clone(),
        key_file: api.tokens.key_file.clone(),
        access_ttl,
        refresh_ttl,
        media_type: token.access.media_type.clone(),
        claims: token.access.claims.clone(),
        key_prefix: KeyPrefix { whole, around_environment },
        also_key_prefixes: token.api_key.also.clone(),
        foreign_key_prefixes: api.credentials.key_prefixes.iter().map(|prefix| prefix.value.clone()).collect(),
    })
}

fn identity(api: &config::Api, file: &ContractFile, report: &mut Report) -> IdentityHeaders {
    // Those of gateway.toml have been checked for twins with the section.
    let own = !api.identity.headers.0.is_empty();
    let named = if own { &api.identity.headers } else { &file.identity.headers };
    let mut headers: Vec<(HeaderName, Placeholder)> = Vec::new();
    for (name, word) in &named.0 {
        let Ok(header) = HeaderName::try_from(name.value.as_str()) else {
            report.error(name.place, format!("`{}` is no header name", name.value));
            continue;
        };
        if let Err(why) = check_identity_header(&name.value)
            && !own
        {
            report.error(name.place, why);
        }
        // Many servers read `_` as `-`.
        let plain = |name: &HeaderName| name.as_str().replace('_', "-");
        if !own && headers.iter().any(|(known, _)| plain(known) == plain(&header)) {
            report.error(name.place, format!("`{}` stands there twice", name.value));
        }
        let allowed = |placeholder: &Placeholder| {
            matches!(placeholder.group(), Group::Api | Group::Account | Group::Caller | Group::Key)
                && !matches!(placeholder, Placeholder::Option(_))
        };
        match Placeholder::parse(&word.value).filter(allowed) {
            Some(placeholder) => headers.push((header, placeholder)),
            None => {
                let words = Placeholder::words().filter(|word| Placeholder::parse(word).as_ref().is_some_and(allowed));
                report.unknown(word.place, "fact about the caller", &word.value, words);
            }
        }
    }
    let contracts = file.identity.headers.0.iter().filter_map(|(name, _)| HeaderName::try_from(name.value.as_str()).ok());
    let reserved = headers.iter().map(|(name, _)| name.clone()).chain(contracts).collect();
    IdentityHeaders { headers, reserved }
}

fn local_headers(file: &ContractFile, report: &mut Report) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (name, value) in &file.headers.0 {
        match (HeaderName::try_from(name.value.as_str()), HeaderValue::from_str(&value.value)) {
            (Ok(header), Ok(value)) => {
                if let Err(why) = check_identity_header(&name.value) {
                    report.error(name.place, why);
                }
                out.insert(header, value);
            }
            (Err(_), _) => report.error(name.place, format!("`{}` is no header name", name.value)),
            (_, Err(_)) => report.error(value.place, format!("`{}` is no header value", value.value)),
        }
    }
    out
}

/// What a key's text holds of its id (`token/opaque.rs`).
const KEY_ID_LENGTH: usize = 10;
