//! Shows the keys of the realm, page by page; never their secrets, which nobody has any more.

use crate::contract::{Endpoint, PageFacts};
use crate::issuer::{Call, Issuer, Outcome};
use crate::rejection::{Denial, Rejection};
use crate::store::Page;

impl Issuer {
    pub(super) async fn keys_list(&self, endpoint: &Endpoint, call: &Call) -> Result<Outcome, Rejection> {
        let caller = call.caller()?;
        let (default, max) = endpoint.page.map_or((50, 500), |page| (page.default, page.max));
        let number = number(call, "page", 1, u64::from(u32::MAX))?;
        let size = self::number(call, "per_page", default, max)?;
        let (keys, total) = self
            .store
            .keys(
                &self.api.facts.realm,
                None,
                Page { offset: (number - 1).saturating_mul(size), limit: u32::try_from(size).unwrap_or(Page::MAX_LIMIT) },
            )
            .await?;
        Ok(Outcome {
            account: Some(caller.account.clone()),
            keys,
            page: Some(PageFacts { number, size, total }),
            ..Outcome::default()
        })
    }
}

/// A query parameter that is a number from 1 to `max`, at most once.
fn number(call: &Call, name: &str, default: u64, max: u64) -> Result<u64, Denial> {
    let invalid = || Denial::FieldInvalid { field: name.to_owned(), reason: format!("must be a number from 1 to {max}") };
    match call.query_values(name).as_slice() {
        [] => Ok(default),
        [one] => one.parse().ok().filter(|value| (1..=max).contains(value)).ok_or_else(invalid),
        [_, _, ..] => Err(invalid()),
    }
}
