//! `[[api.route]]`: who may call which path of an API.

use std::time::Duration;

use http::{HeaderName, Method};

use crate::config::answer::{FixedResponse, Redirect};
use crate::config::api::CredentialHandling;
use crate::config::cors::Cors;
use crate::config::decode::{Named, section};
use crate::config::report::{Located, Report};
use crate::config::value::{ByteSize, PathPattern, Segment, are_everyone, is_everyone, refuse_zero};
use crate::identity::{CredentialKind, Networks, Scope};

section! {
    /// `[[api.route]]`
    pub struct Route {
        /// Names the route in logs and metrics.
        name: Located<String>,
        path: Located<PathPattern>,
        /// Empty = all methods.
        methods: Vec<Method> = Vec::new(),
        /// What a request must have besides: of routes with one path and method the one that asks for most wins.
        "match" matches: RouteMatch = RouteMatch::default(),
        /// The kinds of credential that the route takes; or `public = true`.
        accept: Vec<CredentialKind> = Vec::new(),
        /// Whether anybody may use the route, without a credential.
        public: bool = false,
        /// All of them are needed.
        scopes: Vec<Scope> = Vec::new(),
        /// One of them is needed.
        any_scope: Vec<Scope> = Vec::new(),
        /// The least role, where the contract has a hierarchy.
        role: Option<Located<String>> = None,
        /// The capture that names the tenant for which permissions are judged, e.g. "{tenant}".
        tenant: Option<Located<String>> = None,
        /// Networks that may use the route; by default all.
        allow_ips: Option<Networks> = None,
        /// Networks that may not use the route, also where `allow_ips` has them.
        deny_ips: Networks = Networks::default(),
        /// Names of limits.
        limits: Vec<Located<String>> = Vec::new(),
        /// The largest request body; by default there is no limit.
        max_body: Option<ByteSize> = None,
        /// How fast a request body must come; by default only silence ends it.
        body_rate: Option<BodyRate> = None,
        /// How long the upstream may take, where it differs from the upstream's own.
        timeouts: RouteTimeouts = RouteTimeouts::default(),
        /// What the upstream learns, where it differs from the API's.
        identity: RouteIdentity = RouteIdentity::default(),
        /// Which pages of other origins may read its answers, in place of what the API says.
        cors: Option<Cors> = None,
        /// How a request is changed for the upstream.
        rewrite: RouteRewrite = RouteRewrite::default(),
        /// How the upstream's answer is changed for the client.
        response: RouteResponse = RouteResponse::default(),
        /// Sends the client elsewhere instead of asking the upstream.
        redirect: Option<Redirect> = None,
        /// Answers instead of asking the upstream.
        respond: Option<FixedResponse> = None,
    }
}

section! {
    /// `match` of a route.
    pub struct RouteMatch: Default {
        /// Header name to the one value that it must have.
        headers: Named<Located<String>> = Named::default(),
    }
}

section! {
    /// `body_rate` of a route.
    pub struct BodyRate {
        /// What must come in each second on average, while the client is waited for.
        min: ByteSize,
        /// How long it may be slower than that.
        grace: Duration = Duration::from_secs(10),
    }
}

section! {
    /// `response` of a route.
    pub struct RouteResponse: Default {
        /// Header name to value; replaces what the upstream says.
        set_headers: Named<Located<String>> = Named::default(),
        /// What the client does not see.
        remove_headers: Vec<Located<HeaderName>> = Vec::new(),
    }
}

/// Headers that are set and removed, as a section says it.
#[derive(Clone, Copy)]
pub struct HeaderChanges<'a> {
    pub set: &'a Named<Located<String>>,
    pub remove: &'a [Located<HeaderName>],
}

section! {
    /// `timeouts` of a route.
    pub struct RouteTimeouts: Default {
        /// Replaces the upstream's.
        response: Option<Duration> = None,
    }
}

section! {
    /// `rewrite` of a route.
    pub struct RouteRewrite: Default {
        /// What `path` begins with and the upstream does not see, e.g. "/items". The rules of what is left hold too.
        strip_prefix: Option<Located<String>> = None,
        /// What is put before the path, after `strip_prefix` has taken something away.
        add_prefix: Option<Located<PathPattern>> = None,
        /// Header name to value; replaces what the client says. Never one that says who calls.
        set_headers: Named<Located<String>> = Named::default(),
        /// What the upstream does not see.
        remove_headers: Vec<Located<HeaderName>> = Vec::new(),
        /// The Host header, in place of the one that was asked for.
        host: Option<Located<String>> = None,
    }
}

section! {
    /// `identity` of a route.
    pub struct RouteIdentity: Default {
        /// Replaces the API's.
        credential: Option<CredentialHandling> = None,
    }
}

impl Route {
    /// The name of the capture that `tenant` refers to. `None` also where it is no such reference.
    pub fn tenant_capture(&self) -> Option<&str> {
        self.tenant.as_ref()?.value.strip_prefix('{')?.strip_suffix('}')
    }

    /// Whether there are requests that both routes match, neither more closely than the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        let share = |other: &Self| self.methods.iter().any(|method| other.methods.contains(method));
        self.path.value.shape() == other.path.value.shape()
            && self.asked_headers() == other.asked_headers()
            && (self.methods.is_empty() || other.methods.is_empty() || share(other))
    }

    /// The headers that a request must have, in one order.
    pub fn asked_headers(&self) -> Vec<(String, &str)> {
        let mut asked: Vec<_> =
            self.matches.headers.0.iter().map(|(name, value)| (name.value.to_ascii_lowercase(), value.value.as_str())).collect();
        asked.sort();
        asked
    }

    /// Whether it takes only some of the requests for its paths and methods.
    pub fn is_conditional(&self) -> bool {
        !self.matches.headers.0.is_empty()
    }

    pub fn request_changes(&self) -> HeaderChanges<'_> {
        HeaderChanges { set: &self.rewrite.set_headers, remove: &self.rewrite.remove_headers }
    }

    pub fn response_changes(&self) -> HeaderChanges<'_> {
        HeaderChanges { set: &self.response.set_headers, remove: &self.response.remove_headers }
    }

    /// Reports what is wrong within the section.
    pub fn check(&self, report: &mut Report) {
        if report.is_sound(self.place, "accept") && report.is_sound(self.place, "public") {
            self.check_access(report);
        }
        self.check_tenant(report);
        if let Some(prefix) = &self.rewrite.strip_prefix
            && let Err(why) = self.check_prefix(&prefix.value)
        {
            report.error_with_help(prefix.place, why, "expected the first segments of `path`, such as \"/items\"");
        }
        if let Some(prefix) = &self.rewrite.add_prefix
            && (prefix.value.segments.is_empty() || prefix.value.segments.iter().any(|part| !matches!(part, Segment::Literal(_))))
        {
            let why = format!("`{}` is no path of whole segments", prefix.value);
            report.error_with_help(prefix.place, why, "expected one such as \"/v2\"");
        }
        self.cors.iter().for_each(|cors| cors.check(report));
        self.redirect.iter().for_each(|redirect| redirect.check(report));
        self.respond.iter().for_each(|respond| respond.check(report));
        if let Some(rate) = &self.body_rate
            && rate.min.0 == 0
        {
            report.error(report.at(rate.place, "min"), "`min` is zero: every body is fast enough");
        }
        self.check_target(report);
        if let Some(allowed) = &self.allow_ips {
            self.check_allowed(allowed, report);
        }
        if let Some(response) = self.timeouts.response {
            refuse_zero(self.timeouts.place, &[("response", response)], report);
        }
    }

    /// What asks no upstream changes nothing for one.
    fn check_target(&self, report: &mut Report) {
        let answers = [("redirect", self.redirect.is_some()), ("respond", self.respond.is_some())];
        let named: Vec<&str> = answers.iter().filter(|(_, is_there)| *is_there).map(|(key, _)| *key).collect();
        let Some(key) = named.last() else { return };
        let changes = |changes: HeaderChanges<'_>| !changes.set.0.is_empty() || !changes.remove.is_empty();
        let rewrite = &self.rewrite;
        let others = [
            ("redirect", named.len() > 1),
            ("rewrite", rewrite.strip_prefix.is_some() || rewrite.add_prefix.is_some() || rewrite.host.is_some()),
            ("rewrite", changes(self.request_changes())),
            ("response", changes(self.response_changes())),
        ];
        if let Some((other, _)) = others.iter().find(|(_, is_there)| *is_there) {
            let why = format!("`{other}` beside `{key}`: only one of them could be done");
            report.error_with_help(report.at(self.place, other), why, "say one of them");
        }
    }

    /// A list without an entry would allow nobody; somebody who writes one has lost its entries.
    fn check_allowed(&self, allowed: &Networks, report: &mut Report) {
        let what = match allowed.iter().find(|network| is_everyone(network)) {
            Some(network) => format!("`{network}` in `allow_ips` allows every address"),
            None if allowed.is_empty() => "`allow_ips` is empty and would allow no address".to_owned(),
            None if are_everyone(allowed.iter()) => "the networks of `allow_ips` together allow every address".to_owned(),
            None => return,
        };
        report.error_with_help(report.at(self.place, "allow_ips"), what, "leave `allow_ips` out to allow every address");
    }

    fn check_prefix(&self, prefix: &str) -> Result<(), String> {
        let Some(wanted) = prefix.strip_prefix('/').filter(|rest| !rest.is_empty() && !rest.ends_with('/')) else {
            return Err(format!("`{prefix}` is no path of whole segments"));
        };
        let segments = &self.path.value.segments;
        let is_literal = |(at, segment): (usize, &str)| matches!(segments.get(at), Some(Segment::Literal(own)) if own == segment);
        match wanted.split('/').enumerate().all(is_literal) {
            true => Ok(()),
            false => Err(format!("`path` is `{}`, which does not begin with `{prefix}`", self.path.value)),
        }
    }

    fn check_access(&self, report: &mut Report) {
        match (self.public, self.accept.is_empty()) {
            (false, true) => {
                let why = format!("route `{}` says neither whom it takes nor that it is public", self.name.value);
                report.error_with_help(report.at(self.place, "accept"), why, WHOM);
            }
            (true, false) => {
                let why = format!("route `{}` is public and also asks for a credential", self.name.value);
                report.error_with_help(report.at(self.place, "public"), why, WHOM);
            }
            (true, true) => self.check_public(report),
            (false, false) => {}
        }
    }

    fn check_public(&self, report: &mut Report) {
        let all_methods = self.methods.is_empty() || COMMON_METHODS.iter().all(|method| self.methods.contains(method));
        if self.path.value.is_everything() && all_methods && report.is_sound(self.place, "methods") {
            let why = format!("route `{}` lets everybody do everything", self.name.value);
            report.error_with_help(report.at(self.place, "public"), why, "name the paths or the methods that are public");
        }
        let asks = [
            ("scopes", self.scopes.is_empty()),
            ("any_scope", self.any_scope.is_empty()),
            ("role", self.role.is_none()),
            ("tenant", self.tenant.is_none()),
        ];
        for (key, _) in asks.iter().filter(|(_, absent)| !absent) {
            let why = format!("`{key}` on a public route, where nobody is known");
            report.error_with_help(report.at(self.place, key), why, WHOM);
        }
    }

    fn check_tenant(&self, report: &mut Report) {
        let Some(tenant) = &self.tenant else { return };
        let captures: Vec<&str> = self.path.value.captures().collect();
        match self.tenant_capture() {
            Some(name) if captures.contains(&name) => {}
            Some(name) => report.unknown(tenant.place, "capture", name, captures),
            None => report.refuse(tenant.place, format!("`{}` is no capture", tenant.value), "expected one such as \"{tenant}\""),
        }
    }
}

const WHOM: &str = "either `accept = [\"jwt\", \"api_key\"]` or one of them, or `public = true`";

/// A route with all of these is taken for one with every method.
const COMMON_METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
