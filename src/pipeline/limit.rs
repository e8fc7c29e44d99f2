//! Spends a route's limits: those that count by address before any credential is looked at, the others once the caller is
//! known. A unit that was taken may be given back when the request went well (`count = "failures"`).

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::clock::Now;
use crate::contract::LimitHeaders;
use crate::identity::Principal;
use crate::limiter::{Counted, Counting, Limiter, Refusal, Spending, Spent, Subject, Waited};
use crate::pipeline::exchange::Exchange;
use crate::rejection::{Rejection, Stage};

/// What a request has taken so far.
#[derive(Debug, Default)]
pub struct Ledger {
    spent: Vec<Spent>,
    /// For the shared counters: all limits of a request share one patience.
    pub waited: Waited,
}

/// A route's limits and what they are spent on.
pub struct Limits<'a> {
    pub limiter: &'a Limiter,
    pub quotas: &'a [Arc<Counted>],
    pub realm: &'a str,
    pub route: &'a str,
    pub spending: Spending,
}

impl Limits<'_> {
    /// Spends the limits that need no identity.
    ///
    /// # Errors
    /// [`Denial::OverLimit`], [`Failure::CountersUnavailable`].
    pub async fn before_identity(&self, exchange: &mut Exchange, ledger: &mut Ledger) -> Result<(), Rejection> {
        self.spend(exchange, None, ledger, |quota| !quota.needs_identity()).await
    }

    /// Spends the limits that count by account or key.
    ///
    /// # Errors
    /// [`Denial::OverLimit`], [`Failure::CountersUnavailable`].
    pub async fn with_identity(&self, exchange: &mut Exchange, ledger: &mut Ledger) -> Result<(), Rejection> {
        let principal = exchange.notes.principal.clone();
        self.spend(exchange, principal.as_deref(), ledger, Counted::needs_identity).await
    }

    /// Spends, for a request whose credential was missing or refused, the fallback parts of limits that need identity.
    ///
    /// # Errors
    /// [`Denial::OverLimit`], [`Failure::CountersUnavailable`].
    pub async fn without_identity(&self, exchange: &mut Exchange, ledger: &mut Ledger) -> Result<(), Rejection> {
        self.spend(exchange, None, ledger, |quota| quota.needs_identity() && quota.has_fallback()).await
    }

    async fn spend(
        &self,
        exchange: &mut Exchange,
        principal: Option<&Principal>,
        ledger: &mut Ledger,
        chosen: impl Fn(&Counted) -> bool,
    ) -> Result<(), Rejection> {
        for quota in self.quotas.iter().filter(|quota| chosen(quota)) {
            let subject = Subject {
                realm: self.realm,
                route: self.route,
                client_ip: exchange.client,
                headers: &exchange.headers,
                account: principal.map(Principal::counted_as),
                key: principal.and_then(|principal| principal.key.as_ref()).map(|key| key.id.as_str()),
                tenant: exchange.notes.tenant.as_deref(),
            };
            let counting = quota.spend(self.limiter, &subject, exchange.now.tick, self.spending, &mut ledger.waited).await;
            match counting {
                Ok(Counting::Done(spent)) => {
                    exchange.note(Stage::Limit, || spent.to_string());
                    ledger.spent.push(spent);
                }
                Ok(Counting::Skipped(why)) => exchange.note(Stage::Limit, || format!("{}: not counted, {why}", quota.name())),
                Err(refusal) => {
                    let rejection = refusal.rejection();
                    if let Refusal::OverLimit(over) = refusal {
                        ledger.spent.push(over.0);
                    }
                    return Err(rejection);
                }
            }
        }
        Ok(())
    }
}

impl Ledger {
    /// Gives back what counts failures only, when the answer is none.
    pub fn settle(&self, limiter: &Limiter, status: StatusCode) {
        if !status.is_client_error() && !status.is_server_error() {
            self.spent.iter().filter(|spent| spent.counted.counts_failures_only()).for_each(|spent| spent.refund(limiter));
        }
    }

    /// Writes the limit that refused, else the one that is nearest to its end, in the contract's style.
    pub fn write_headers(&self, style: LimitHeaders, now: Now, headers: &mut HeaderMap) {
        let Some(spent) = self.spent.iter().min_by_key(|spent| (spent.decision.allowed, spent.decision.remaining)) else {
            return;
        };
        let decision = &spent.decision;
        let reset = decision.reset_after.as_millis().div_ceil(1000);
        match style {
            LimitHeaders::None => {}
            LimitHeaders::Epoch => {
                let at = now.wall.plus(decision.reset_after).0.div_ceil(1000);
                set(headers, "x-ratelimit-limit", &decision.limit);
                set(headers, "x-ratelimit-remaining", &decision.remaining);
                set(headers, "x-ratelimit-reset", &at);
            }
            LimitHeaders::Delta => {
                set(headers, "ratelimit-limit", &decision.limit);
                set(headers, "ratelimit-remaining", &decision.remaining);
                set(headers, "ratelimit-reset", &reset);
            }
            LimitHeaders::Ietf => {
                let name = spent.counted.name();
                set(headers, "ratelimit", &format!("\"{name}\";r={};t={reset}", decision.remaining));
                let (quota, window) = spent.counted.policy();
                set(headers, "ratelimit-policy", &format!("\"{name}\";q={quota};w={window}"));
            }
        }
    }
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &dyn std::fmt::Display) {
    if let Ok(value) = HeaderValue::from_str(&value.to_string()) {
        headers.insert(HeaderName::from_static(name), value);
    }
}
