//! The routes of an API: what the contract lists, what `gateway.toml` adds or changes, and the rest of each prefix.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;

use crate::config;
use crate::config::decode::Named;
use crate::config::report::{Located, Place, Report};
use crate::config::value::PathPattern;
use crate::config::{CredentialHandling, EndpointChoice, Outside};
use crate::contract::api::{Access, Carrier, Demand, Endpoint, Limit, Page, Route, Target};
use crate::contract::check;
use crate::contract::features::{Cors, Features};
use crate::contract::fields::Fields;
use crate::contract::file::{ContractFile, EndpointSpec, KindDemand, MethodPath, RouteSpec, RuleSpec, Unmapped};
use crate::contract::operation::Operation;
use crate::contract::template::Template;
use crate::identity::{CredentialKind, Networks, Scope};

/// What routes are made from.
pub struct Material<'a> {
    pub api: &'a config::Api,
    pub file: &'a ContractFile,
    pub limits: &'a BTreeMap<String, Arc<Limit>>,
    /// The values of the contract's switches.
    pub is_on: &'a dyn Fn(&str) -> Option<bool>,
    pub resolve: &'a dyn Fn(&mut Template, &mut Report),
    pub credential: CredentialHandling,
    pub unused_carriers: CredentialHandling,
    pub carriers: &'a [Carrier],
    /// Of routes that say nothing else.
    pub cors: Option<Arc<Cors>>,
}

/// The parts of a route that contract files and `gateway.toml` write alike.
struct Wish<'a> {
    public: bool,
    accept: &'a [CredentialKind],
    scopes: &'a [Scope],
    any_scope: &'a [Scope],
    role: Option<&'a Located<String>>,
    limits: &'a [Located<String>],
    /// `None` for a route of gateway.toml: its section has been checked in itself.
    place: Option<Place>,
}

impl Material<'_> {
    /// All routes, each (method, path) once.
    pub fn routes(&self, report: &mut Report) -> Vec<Route> {
        let mut routes = Vec::new();
        for spec in &self.file.endpoints {
            self.endpoint(spec, &mut routes, report);
        }
        for spec in &self.file.route {
            self.contract_route(spec, &mut routes, report);
        }
        self.refuse_twins(&routes, report);
        self.api.routes.iter().for_each(|route| self.check_methods(route, &routes, report));
        // Those with conditions first: they are made from the contract's routes as those are.
        let (conditional, others): (Vec<_>, Vec<_>) = self.api.routes.iter().partition(|route| route.is_conditional());
        for route in conditional.into_iter().chain(others) {
            self.config_route(route, &mut routes, report);
        }
        self.rest_of_prefixes(&mut routes, report);
        routes
    }

    fn endpoint(&self, spec: &EndpointSpec, routes: &mut Vec<Route>, report: &mut Report) {
        let Some(operation) = Operation::parse(&spec.operation.value) else {
            let words = Operation::ALL.map(Operation::as_str);
            report.unknown(spec.operation.place, "operation", &spec.operation.value, words);
            return;
        };
        if !self.is_wanted(spec.when.as_ref(), report) || !self.is_chosen(operation) {
            return;
        }
        let mut body = spec.body.clone();
        body.0.iter_mut().filter_map(|(_, rule)| rule.default.as_mut()).for_each(|default| (self.resolve)(default, report));
        let fields = Fields::compile(operation, &body, spec.unknown_fields, report);
        for input in operation.required().iter().filter(|input| !fields.feeds(**input)) {
            let message = format!("`{}` needs a member of `body` with `is = \"{}\"`", operation.as_str(), input.as_str());
            report.error(spec.place, message);
        }
        if operation.needs_caller() && spec.public {
            report.error(spec.place, format!("`{}` acts for a caller and cannot be public", operation.as_str()));
        }
        if !spec.answer.status.0.is_success() {
            report.error(
                spec.answer.place,
                "an answer's `status` is one from 200 to 299; what goes wrong is said in [errors.when]",
            );
        }
        let mut answer = spec.answer.json.clone();
        if let Some(template) = &mut answer {
            (self.resolve)(template, report);
            template.check(operation.groups(), report);
        }
        if let Some(page) = &spec.page
            && (page.default == 0 || page.default > page.max)
        {
            report.error(page.place, "`default` must be from 1 to `max`");
        }
        let endpoint = Arc::new(Endpoint {
            operation,
            fields,
            max_body: spec.max_body.0,
            page: spec.page.as_ref().map(|page| Page { default: page.default, max: page.max }),
            status: spec.answer.status.0,
            answer,
        });
        let wish = Wish {
            public: spec.public,
            accept: &spec.accept,
            scopes: &spec.scopes,
            any_scope: &spec.any_scope,
            role: spec.role.as_ref(),
            limits: &spec.limits,
            place: Some(spec.place),
        };
        for on in &spec.on.0 {
            for name in operation.captures().iter().filter(|name| !on.value.pattern.captures().any(|c| c == **name)) {
                report.error(on.place, format!("the path of `{}` needs the capture `{{{name}}}`", operation.as_str()));
            }
            let mut route = self.route(&on.value, &wish, None, &[], report);
            route.target = Target::Local(endpoint.clone());
            route.max_body = Some(endpoint.max_body);
            check::limits_are_spent(&route, spec.place, report);
            routes.push(route);
        }
    }

    fn contract_route(&self, spec: &RouteSpec, routes: &mut Vec<Route>, report: &mut Report) {
        if !self.is_wanted(spec.when.as_ref(), report) {
            return;
        }
        let wish = Wish {
            public: spec.public,
            accept: &spec.accept,
            scopes: &spec.scopes,
            any_scope: &spec.any_scope,
            role: spec.role.as_ref(),
            limits: &spec.limits,
            place: Some(spec.place),
        };
        let by_kind = self.by_kind(&spec.by_kind, report);
        if spec.on.0.is_empty() != spec.under.is_some() || spec.rules.is_empty() == spec.under.is_some() {
            report.error(spec.place, "a route needs either `on`, or `under` with `rules`");
        }
        if spec.under.is_some() && (wish.is_said() || !spec.by_kind.0.is_empty()) {
            report.error(spec.place, "beside `under`, who may do what is said in each of the `rules`");
        }
        for on in &spec.on.0 {
            let route = self.route(&on.value, &wish, spec.tenant.as_ref(), &by_kind, report);
            check::opens_no_prefix(&route, &self.file.prefixes, on.place, report);
            check::limits_are_spent(&route, spec.place, report);
            routes.push(route);
        }
        if let Some(under) = &spec.under {
            spec.rules.iter().for_each(|rule| self.rule(rule, under, spec.tenant.as_ref(), routes, report));
        }
    }

    fn rule(
        &self,
        rule: &RuleSpec,
        under: &Located<PathPattern>,
        tenant: Option<&Located<String>>,
        routes: &mut Vec<Route>,
        report: &mut Report,
    ) {
        let wish = Wish {
            public: rule.public,
            accept: &rule.accept,
            scopes: &rule.scopes,
            any_scope: &rule.any_scope,
            role: rule.role.as_ref(),
            limits: &rule.limits,
            place: Some(rule.place),
        };
        let by_kind = self.by_kind(&rule.by_kind, report);
        for on in &rule.on.0 {
            match under.value.join(&on.value.pattern) {
                Ok(pattern) => {
                    let place = on.place;
                    let on = MethodPath { method: on.value.method.clone(), pattern };
                    let route = self.route(&on, &wish, tenant, &by_kind, report);
                    check::opens_no_prefix(&route, &self.file.prefixes, place, report);
                    check::limits_are_spent(&route, rule.place, report);
                    routes.push(route);
                }
                Err(why) => report.error(on.place, why),
            }
        }
    }

    fn route(
        &self,
        on: &MethodPath,
        wish: &Wish<'_>,
        tenant: Option<&Located<String>>,
        by_kind: &[(CredentialKind, Demand)],
        report: &mut Report,
    ) -> Route {
        let method = on.method.as_ref().map_or("*", Method::as_str);
        Route {
            methods: on.method.iter().cloned().collect(),
            tenant: tenant.and_then(|tenant| tenant_capture(tenant, &on.pattern, report)),
            limits: self.limits_of(wish.limits, report),
            ..self.plain(&format!("{method} {}", on.pattern), on.pattern.clone(), self.access(wish, by_kind, report))
        }
    }

    /// A route for all methods to the upstream, with nothing said but who may use it.
    fn plain(&self, name: &str, pattern: PathPattern, access: Access) -> Route {
        Route {
            name: name.into(),
            methods: Vec::new(),
            pattern,
            access,
            tenant: None,
            allow_ips: Networks::default(),
            deny_ips: Networks::default(),
            limits: Vec::new(),
            max_body: None,
            response_timeout: None,
            strip_prefix: None,
            credential: self.credential,
            unused_carriers: self.unused_carriers,
            features: Features { cors: self.cors.clone(), ..Features::default() },
            target: Target::Upstream,
        }
    }

    /// A route of `gateway.toml` as it is written, for all methods.
    pub(super) fn config_only(&self, spec: &config::Route, report: &mut Report) -> Route {
        let on = MethodPath { method: None, pattern: spec.path.value.clone() };
        self.route(&on, &Wish::of(spec), spec.tenant.as_ref(), &[], report)
    }

    pub(super) fn config_access(&self, spec: &config::Route, report: &mut Report) -> Access {
        self.access(&Wish::of(spec), &[], report)
    }

    /// Below each prefix whatever no route lists, and outside all prefixes whatever the operator lets through. Below a
    /// path that names a tenant, who does not belong to that tenant stays out of what is not listed too.
    fn rest_of_prefixes(&self, routes: &mut Vec<Route>, report: &mut Report) {
        let known =
            |kinds: Vec<CredentialKind>| Access::Known { kinds, demand: Demand::default(), by_kind: Vec::new(), unmapped: true };
        let access = match self.file.routes.unmapped {
            Unmapped::Sessions => known(vec![CredentialKind::Jwt]),
            Unmapped::Any => known(CredentialKind::CARRIED.to_vec()),
            Unmapped::Deny => known(Vec::new()),
        };
        // Without its rest a prefix would be outside of itself, and perhaps open.
        if self.file.prefixes.is_empty() {
            report.error(self.file.contract.place, "`prefixes` is empty: `[\"/\"]` is the whole host");
        }
        for spec in &self.file.route {
            let (Some(under), Some(tenant)) = (&spec.under, &spec.tenant) else { continue };
            // What is wrong with either was reported with the rules.
            if let Ok(pattern) = under.value.join(&PathPattern::everything()) {
                let tenant = tenant_capture(tenant, &under.value, &mut Report::default());
                self.rest(pattern, "unmapped", access.clone(), tenant, routes);
            }
        }
        for prefix in &self.file.prefixes {
            match prefix.value.join(&PathPattern::everything()) {
                Ok(pattern) => self.rest(pattern, "unmapped", access.clone(), None, routes),
                Err(_) => report.error(prefix.place, format!("the prefix `{}` ends in `**` already", prefix.value)),
            }
        }
        if self.api.outside == Outside::Public {
            self.rest(PathPattern::everything(), "outside", Access::Public, None, routes);
        }
    }

    fn rest(&self, pattern: PathPattern, name: &str, access: Access, tenant: Option<Arc<str>>, routes: &mut Vec<Route>) {
        // A route that takes every method of the same paths already says all there is to say.
        if routes.iter().any(|route| route.takes_all() && route.pattern.shape() == pattern.shape()) {
            return;
        }
        routes.push(Route { tenant, ..self.plain(&format!("{name} {pattern}"), pattern, access) });
    }

    fn access(&self, wish: &Wish<'_>, by_kind: &[(CredentialKind, Demand)], report: &mut Report) -> Access {
        if wish.public {
            let closed = !wish.accept.is_empty() || !wish.scopes.is_empty() || !wish.any_scope.is_empty();
            if let Some(place) = wish.place
                && (closed || wish.role.is_some() || !by_kind.is_empty())
            {
                report.error(place, "`public = true` and demands on the caller exclude each other");
            }
            return Access::Public;
        }
        let kinds = if wish.accept.is_empty() { CredentialKind::CARRIED.to_vec() } else { wish.accept.to_vec() };
        let demand = self.demand(wish.scopes, wish.any_scope, wish.role, report);
        Access::Known { kinds, demand, by_kind: by_kind.to_vec(), unmapped: false }
    }

    pub(super) fn demand(&self, scopes: &[Scope], any: &[Scope], role: Option<&Located<String>>, report: &mut Report) -> Demand {
        let role = role.and_then(|role| {
            let names = || self.file.roles.0.iter().map(|(name, _)| name.value.as_str());
            match names().any(|name| name == role.value) {
                true => Some(role.value.as_str().into()),
                false => {
                    report.unknown(role.place, "role", &role.value, names());
                    None
                }
            }
        });
        Demand { scopes: scopes.to_vec(), any_scope: any.to_vec(), role }
    }

    fn by_kind(&self, named: &Named<KindDemand>, report: &mut Report) -> Vec<(CredentialKind, Demand)> {
        let mut out = Vec::new();
        for (name, spec) in &named.0 {
            match CredentialKind::parse(&name.value) {
                Some(kind) => out.push((kind, self.demand(&spec.scopes, &spec.any_scope, spec.role.as_ref(), report))),
                None => {
                    let words = CredentialKind::ALL.map(CredentialKind::as_str);
                    report.unknown(name.place, "kind of credential", &name.value, words);
                }
            }
        }
        out
    }

    pub(super) fn limits_of(&self, names: &[Located<String>], report: &mut Report) -> Vec<Arc<Limit>> {
        let mut out = Vec::new();
        for name in names {
            match self.limits.get(&name.value) {
                Some(limit) => out.push(limit.clone()),
                None => report.unknown(name.place, "limit", &name.value, self.limits.keys().map(String::as_str)),
            }
        }
        out
    }

    fn is_wanted(&self, when: Option<&Located<String>>, report: &mut Report) -> bool {
        let Some(when) = when else { return true };
        let name = when.value.strip_prefix("option.").unwrap_or(&when.value);
        (self.is_on)(name).unwrap_or_else(|| {
            report.error(when.place, format!("`{}` is no option of this contract that is true or false", when.value));
            false
        })
    }

    fn is_chosen(&self, operation: Operation) -> bool {
        match &self.api.endpoints {
            EndpointChoice::Contract => true,
            EndpointChoice::None => false,
            EndpointChoice::Only(words) => words.iter().any(|word| word.value == operation.as_str()),
        }
    }

    fn refuse_twins(&self, routes: &[Route], report: &mut Report) {
        let mut seen: Vec<(String, &[Method])> = Vec::new();
        for route in routes {
            let shape = route.pattern.shape();
            if seen.iter().any(|(other, methods)| *other == shape && *methods == route.methods.as_slice()) {
                report.error(self.file.contract.place, format!("the contract lists `{}` twice", route.name));
            }
            seen.push((shape, &route.methods));
        }
    }
}

impl<'a> Wish<'a> {
    fn of(spec: &'a config::Route) -> Self {
        Self {
            public: spec.public,
            accept: &spec.accept,
            scopes: &spec.scopes,
            any_scope: &spec.any_scope,
            role: spec.role.as_ref(),
            limits: &spec.limits,
            place: None,
        }
    }
}

fn tenant_capture(tenant: &Located<String>, pattern: &PathPattern, report: &mut Report) -> Option<Arc<str>> {
    let name = tenant.value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(&tenant.value);
    match pattern.captures().find(|capture| *capture == name) {
        Some(capture) => Some(capture.into()),
        None => {
            report.unknown(tenant.place, "capture", name, pattern.captures());
            None
        }
    }
}

impl Wish<'_> {
    fn is_said(&self) -> bool {
        let demands = !self.scopes.is_empty() || !self.any_scope.is_empty() || self.role.is_some();
        self.public || !self.accept.is_empty() || demands || !self.limits.is_empty()
    }
}
