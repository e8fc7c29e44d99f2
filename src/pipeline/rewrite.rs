//! The path that the upstream is asked for, where it is not the one that the client asked for. What a rewrite makes is a
//! path like any other: it is made normal, and the rules of the path that it now is hold beside those of the path that it
//! was. No rewrite leads past a rule.

use crate::contract::{Access, Api, Route, Target};
use crate::identity::Caller;
use crate::pipeline::admit;
use crate::pipeline::authorize::{self, Permit};
use crate::pipeline::exchange::Exchange;
use crate::pipeline::path::NormalPath;
use crate::pipeline::routing::{Lookup, Routing};
use crate::rejection::{Denial, Stage};

/// Rewrites the path of a request that may take `route`, the one at `index` of the API at `number`. Returns what the
/// upstream is to be told by, and the route whose limits are to be spent too.
///
/// # Errors
/// [`Denial::PathAmbiguous`] when what is left is no path that everybody reads in one way; [`Denial::NoRoute`] when it is an
/// endpoint of the gateway, or a path that takes other methods; and whatever its own route says against the caller.
pub fn apply(
    routing: &Routing,
    api: &Api,
    (number, index): (usize, usize),
    route: &Route,
    caller: &Caller,
    permit: Permit,
    exchange: &mut Exchange,
) -> Result<(Permit, Option<usize>), Denial> {
    let Some(rewritten) = rewritten(route, exchange)? else { return Ok((permit, None)) };
    let (permit, other) = match routing.look_up_twice(number, &exchange.method, &rewritten, &exchange.headers)? {
        Lookup::Found { route: found, captures } => {
            let other = api.routes.get(found).ok_or(Denial::NoRoute)?;
            let asked_for = exchange.notes.tenant.take();
            admit::check(other, exchange)?;
            check_kind(other, caller)?;
            let left = authorize::decide(api, other, &captures, caller.clone(), exchange)?;
            let permit = one_tenant(permit, left)?;
            exchange.notes.tenant = permit.tenant().map(str::to_owned).or(asked_for);
            (permit, (found != index).then_some(found))
        }
        Lookup::WrongMethod(_) | Lookup::Unmet => return Err(Denial::NoRoute),
        // No rule is about it: that of the path that was asked for is all there is.
        Lookup::Nothing => (permit, None),
    };
    exchange.note(Stage::Route, || format!("forwarded as {rewritten}"));
    exchange.notes.forwarded_path = Some(rewritten);
    Ok((permit, other))
}

/// The path without what is taken from its beginning and with what is put there. `None` where a route changes nothing.
fn rewritten(route: &Route, exchange: &Exchange) -> Result<Option<NormalPath>, Denial> {
    let (strip, add) = (route.strip_prefix.as_deref(), route.features.add_prefix.as_deref());
    let Some(path) = exchange.notes.path.as_ref().filter(|_| strip.is_some() || add.is_some()) else { return Ok(None) };
    let rest = match strip {
        Some(prefix) => path.without(prefix).ok_or(Denial::NoRoute)?,
        None => path.as_str(),
    };
    match add {
        Some(prefix) if rest == "/" => NormalPath::parse(prefix),
        Some(prefix) => NormalPath::parse(&format!("{prefix}{rest}")),
        None => NormalPath::parse(rest),
    }
    .map(Some)
}

/// The upstream is told of one tenant: that of the path which was asked for, or of the path that is left. Of two it would take
/// the one for the other.
fn one_tenant(asked_for: Permit, left: Permit) -> Result<Permit, Denial> {
    match (asked_for.tenant(), left.tenant()) {
        (Some(one), Some(other)) if one != other => Err(Denial::TenantForeign { tenant: other.to_owned() }),
        (None, Some(_)) => Ok(left),
        (Some(_) | None, Some(_) | None) => Ok(asked_for),
    }
}

fn check_kind(route: &Route, caller: &Caller) -> Result<(), Denial> {
    if !matches!(route.target, Target::Upstream) {
        return Err(Denial::NoRoute);
    }
    match (&route.access, caller) {
        (Access::Known { kinds, unmapped: false, .. }, Caller::Known(principal)) if !kinds.contains(&principal.kind) => {
            Err(Denial::CredentialKindRefused { kind: principal.kind })
        }
        (Access::Known { .. } | Access::Public, Caller::Known(_) | Caller::Anonymous) => Ok(()),
    }
}
