//! What `gateway.toml` says about an API's paths: a route of its own, or members for those that the contract lists.
//!
//! A member that is not written stays the contract's. Whoever adds an address list to a route does not open it.

use std::sync::Arc;

use http::Method;

use crate::config;
use crate::config::report::Report;
use crate::config::value::{PathPattern, Segment};
use crate::contract::api::{Access, Route, Target};
use crate::contract::check;
use crate::contract::features::{Cors, Fixed};
use crate::contract::routes::Material;

impl Material<'_> {
    /// Puts one `[[api.route]]` among the routes of the contract.
    pub(super) fn config_route(&self, spec: &config::Route, routes: &mut Vec<Route>, report: &mut Report) {
        let shape = spec.path.value.shape();
        let covers = |route: &Route| {
            let named = !route.methods.is_empty() && route.methods.iter().all(|method| spec.methods.contains(method));
            route.features.conditions.is_empty() && route.pattern.shape() == shape && (spec.methods.is_empty() || named)
        };
        // One that takes some requests only stands beside the one that takes the others, with what that one demands.
        let mut beside: Vec<Route> = match spec.is_conditional() {
            true => routes.iter().filter(|route| covers(route)).cloned().collect(),
            false => Vec::new(),
        };
        let among = if spec.is_conditional() { &mut beside } else { &mut *routes };
        let mut left = spec.methods.clone();
        let mut all = false;
        for route in among.iter_mut().filter(|route| covers(route)) {
            // HEAD goes where GET goes; a route of its own would pass the contract's demands by.
            let takes = |method: &Method| route.methods.contains(method);
            left.retain(|method| !(takes(method) || (method == Method::HEAD && takes(&Method::GET))));
            all |= route.methods.is_empty();
            self.overlay(spec, route, report);
        }
        routes.append(&mut beside);
        if all || (left.is_empty() && !spec.methods.is_empty()) {
            return;
        }
        let for_all = routes.iter().find(|route| route.takes_all() && route.pattern.shape() == shape).cloned();
        let mut route = match for_all {
            // Some of the methods of a route that takes all of them: what it demands holds for these too.
            Some(mut route) => {
                self.overlay(spec, &mut route, report);
                route
            }
            None => self.config_only(spec, report),
        };
        route.methods = left;
        if route.tenant.is_none() && !spec.public {
            route.tenant = routes.iter().find_map(|known| tenant_of(known, &route.pattern));
        }
        self.settings(spec, &mut route, report);
        self.check(spec, &route, report);
        routes.push(route);
    }

    /// Judges one `[[api.route]]` beside the routes of the contract, before any other is among them.
    ///
    /// The methods that the contract does not list for a path fall to its wider rules. A route for all methods would take
    /// them from there, with nothing but its own demands; so would one for HEAD beside a listed GET.
    pub(super) fn check_methods(&self, spec: &config::Route, routes: &[Route], report: &mut Report) {
        let shape = spec.path.value.shape();
        let listed: Vec<&Method> =
            routes.iter().filter(|route| route.pattern.shape() == shape).flat_map(|route| &route.methods).collect();
        let for_all = routes.iter().any(|route| route.pattern.shape() == shape && route.methods.is_empty());
        if listed.is_empty() || for_all {
            return;
        }
        let names = listed.iter().map(|method| format!("\"{method}\"")).collect::<Vec<_>>().join(", ");
        let path = &spec.path.value;
        if spec.methods.is_empty() {
            let why = format!("the contract lists `{path}` for some methods; a route for all would open the others");
            report.error_with_help(spec.place, why, format!("expected `methods`, such as `methods = [{names}]`"));
        } else if spec.methods.contains(&Method::HEAD) && !spec.methods.contains(&Method::GET) && listed.contains(&&Method::GET) {
            let why = format!("HEAD goes where GET goes, and the contract lists GET for `{path}`");
            report.error_with_help(report.at(spec.place, "methods"), why, "name GET, or both");
        }
    }

    /// Replaces the members that are written.
    fn overlay(&self, spec: &config::Route, route: &mut Route, report: &mut Report) {
        match &mut route.access {
            Access::Known { kinds, demand, .. } if !spec.public => {
                if !spec.accept.is_empty() {
                    kinds.clone_from(&spec.accept);
                }
                let written = self.demand(&spec.scopes, &spec.any_scope, spec.role.as_ref(), report);
                if !written.scopes.is_empty() {
                    demand.scopes = written.scopes;
                }
                if !written.any_scope.is_empty() {
                    demand.any_scope = written.any_scope;
                }
                demand.role = written.role.or(demand.role.take());
            }
            Access::Known { .. } | Access::Public => route.access = self.config_access(spec, report),
        }
        if let Target::Local(endpoint) = &route.target
            && endpoint.operation.needs_caller()
            && spec.public
        {
            let why = format!("`{}` acts for a caller and cannot be public", endpoint.operation.as_str());
            report.error(report.at(spec.place, "public"), why);
        }
        if let Target::Local(endpoint) = &route.target {
            let rewrite = &spec.rewrite;
            let prefix = rewrite.strip_prefix.as_ref().map(|prefix| prefix.place);
            let prefix = prefix.or(rewrite.add_prefix.as_ref().map(|prefix| prefix.place));
            let answer = spec.redirect.as_ref().map(|redirect| redirect.place).or(spec.respond.as_ref().map(|spec| spec.place));
            if let Some(place) = prefix.or(answer) {
                let why = format!("`{}` is answered by the gateway: nothing is forwarded", endpoint.operation.as_str());
                report.error(place, why);
            }
        }
        if let Some(name) = spec.tenant_capture() {
            // The contract may call the same segment otherwise.
            let at = spec.path.value.segments.iter().position(|segment| segment.name() == Some(name));
            route.tenant = at.and_then(|at| route.pattern.segments.get(at)?.name()).map(Into::into);
        }
        if !spec.limits.is_empty() {
            route.limits = self.limits_of(&spec.limits, report);
        }
        self.settings(spec, route, report);
        self.check(spec, route, report);
    }

    fn check(&self, spec: &config::Route, route: &Route, report: &mut Report) {
        // A route for everything is told so with its own section.
        if !spec.path.value.is_everything() {
            check::opens_no_prefix(route, &self.file.prefixes, spec.path.place, report);
        }
        check::limits_are_spent(route, report.at(spec.place, "limits"), report);
    }

    fn settings(&self, spec: &config::Route, route: &mut Route, report: &mut Report) {
        route.name = spec.name.value.as_str().into();
        if let Some(allowed) = &spec.allow_ips {
            route.allow_ips = allowed.clone();
        }
        if !spec.deny_ips.is_empty() {
            route.deny_ips = spec.deny_ips.clone();
        }
        route.max_body = spec.max_body.map(|size| size.0).or(route.max_body);
        let prefix = spec.rewrite.strip_prefix.as_ref().map(|prefix| prefix.value.as_str().into());
        route.strip_prefix = prefix.or(route.strip_prefix.take());
        route.response_timeout = spec.timeouts.response.or(route.response_timeout);
        route.credential = spec.identity.credential.unwrap_or(route.credential);
        route.features.overlay(spec, report);
        if let Some(cors) = &spec.cors {
            route.features.cors = Some(Arc::new(Cors::new(cors, self.carriers)));
        }
        if let Some(fixed) = Fixed::of(spec, report) {
            route.target = Target::Fixed(Arc::new(fixed));
        }
    }
}

/// The capture of `pattern` that stands where `known` has its tenant: below a tenant's path, every route is the tenant's.
fn tenant_of(known: &Route, pattern: &PathPattern) -> Option<Arc<str>> {
    let name = known.tenant.as_deref()?;
    let at = known.pattern.segments.iter().position(|segment| segment.name() == Some(name))?;
    let same = |(one, other): (&Segment, &Segment)| match (one, other) {
        (Segment::Literal(one), Segment::Literal(other)) => one == other,
        (Segment::Capture(_), Segment::Capture(_)) => true,
        (Segment::Literal(_) | Segment::Capture(_) | Segment::Tail(_), _) => false,
    };
    let reaches = pattern.segments.len() > at && known.pattern.segments.iter().zip(&pattern.segments).take(at + 1).all(same);
    pattern.segments.get(at).filter(|_| reaches)?.name().map(Into::into)
}
