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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::fixture::{api, exchange, route};

    #[expect(clippy::fn_params_excessive_bools, reason = "a test's own table of cases")]
    fn checked(lists: &str, client: &str, unclear: bool) -> Result<(), &'static str> {
        let api = api(&format!("[[api.route]]\nname = \"r\"\npath = \"/r\"\naccept = [\"jwt\"]\n{lists}"));
        let mut exchange = exchange(client, &[]);
        exchange.client_is_unclear = unclear;
        check(route(&api, "r"), &mut exchange).map_err(|denial| denial.code())
    }

    #[test]
    fn deny_beats_allow_and_mapped_addresses_are_judged_as_ipv4() {
        let both = "allow_ips = [\"10.0.0.0/8\"]\ndeny_ips = [\"10.1.0.0/16\"]\n";
        for (client, expected) in [
            ("10.2.0.1", Ok(())),
            ("10.1.0.1", Err("address_denied")),
            ("::ffff:10.1.0.1", Err("address_denied")),
            ("192.0.2.1", Err("address_not_allowed")),
        ] {
            assert_eq!(checked(both, client, false), expected, "{client}");
        }
    }

    /// M1: an address that nobody could read skips no rule.
    #[test]
    fn an_unclear_address_passes_no_list() {
        assert_eq!(checked("allow_ips = [\"10.0.0.0/8\"]\n", "10.0.0.1", true), Err("address_not_allowed"));
        assert_eq!(checked("deny_ips = [\"10.0.0.0/8\"]\n", "192.0.2.1", true), Err("address_denied"));
        assert_eq!(checked("", "192.0.2.1", true), Ok(()));
    }
}
