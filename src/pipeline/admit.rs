//! May this address use this route at all? Decided before any credential is looked at.

use crate::contract::Route;
use crate::pipeline::exchange::Exchange;
use crate::rejection::{Denial, Stage};

/// Judges the client's address by the route's lists; deny beats allow.
///
/// # Errors
/// [`Denial::AddressDenied`] and [`Denial::AddressNotAllowed`].
pub fn check(route: &Route, exchange: &mut Exchange) -> Result<(), Denial> {
    let address = exchange.client;
    judge(route, exchange)?;
    exchange.note(Stage::Admit, || match route.allow_ips.is_empty() && route.deny_ips.is_empty() {
        true => format!("{address}: the route has no address lists"),
        false => format!("{address} may use the route"),
    });
    Ok(())
}

fn judge(route: &Route, exchange: &Exchange) -> Result<(), Denial> {
    let address = exchange.client;
    // When a trusted proxy named no address, ours is the proxy's own, and the client's may be on either list.
    if !route.deny_ips.is_empty() && (exchange.client_is_unclear || route.deny_ips.contains(address)) {
        return Err(Denial::AddressDenied { address });
    }
    if !route.allow_ips.is_empty() && (exchange.client_is_unclear || !route.allow_ips.contains(address)) {
        return Err(Denial::AddressNotAllowed { address });
    }
    Ok(())
}
