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
        let wait = decision.reset_after;
        let reset = wait.as_secs() + u64::from(wait.subsec_millis() > 0);
        match style {
            LimitHeaders::None => {}
            LimitHeaders::Epoch => {
                headers.insert(X_LIMIT, decision.limit.into());
                headers.insert(X_REMAINING, decision.remaining.into());
                headers.insert(X_RESET, now.wall.plus(wait).0.div_ceil(1000).into());
            }
            LimitHeaders::Delta => {
                headers.insert(LIMIT, decision.limit.into());
                headers.insert(REMAINING, decision.remaining.into());
                headers.insert(RESET, reset.into());
            }
            LimitHeaders::Ietf => {
                let mut state = String::with_capacity(STATE_ROOM);
                state.extend(["\"", spent.counted.name(), "\";r="]);
                push_number(&mut state, decision.remaining.into());
                state.push_str(";t=");
                push_number(&mut state, reset);
                if let Ok(state) = HeaderValue::try_from(state) {
                    headers.insert(RATELIMIT, state);
                }
                if let Some(policy) = spent.counted.policy() {
                    headers.insert(POLICY, policy.clone());
                }
            }
        }
    }
}

/// In decimal, without the machinery of formatting: each limited answer has two.
fn push_number(text: &mut String, number: u64) {
    if number >= 10 {
        push_number(text, number / 10);
    }
    text.push(char::from_digit(u32::try_from(number % 10).unwrap_or_default(), 10).unwrap_or_default());
}

/// For an ordinary name and two numbers.
const STATE_ROOM: usize = 64;
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::*;
    use crate::config::{self, CountersUrl, RedisUrl, ServerAddress, Servers};
    use crate::contract::Api;
    use crate::counter::Counters;
    use crate::limiter::{Memory, Shared};
    use crate::observe::Metrics;
    use crate::pipeline::fixture::{api, exchange, route};
    use crate::servers::Redis;

    const ROUTE: &str = "[[api.route]]\nname = \"x\"\npath = \"/x\"\npublic = true\n";

    #[test]
    fn numbers_are_written_as_everybody_writes_them() {
        for number in [0, 7, 10, 99, 100, 1_000_000_007, u64::MAX] {
            let mut text = "r=".to_owned();
            push_number(&mut text, number);
            assert_eq!(text, format!("r={number}"));
        }
    }

    fn quotas(api: &Api) -> Vec<Arc<Counted>> {
        route(api, "x").limits.iter().map(|limit| Arc::new(Counted::new("api", limit.clone()))).collect()
    }

    async fn shared(redis: &Redis) -> Limiter {
        let server = ServerAddress { host: redis.address.ip().to_string(), port: redis.address.port() };
        let url = RedisUrl { servers: Servers::Single(server), username: None, password: None, database: 0, is_tls: false };
        let timeout = std::time::Duration::from_millis(500);
        let section = config::Counters { url: CountersUrl::Redis(url), timeout, ..config::Counters::default() };
        let counters = Counters::start(&section, Handle::current(), &Metrics::default()).unwrap().unwrap();
        for _ in 0..2000 {
            if counters.is_up() {
                break;
            }
            // waits for: the connection; the loop is bounded
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(counters.is_up());
        let shared = Shared::new(counters, &Handle::current(), &Metrics::default());
        Limiter::Shared { node: Memory::new(100), shared: Box::new(shared) }
    }

    /// Runs a request of an address through its route's limits; the code of a refusal, and the steps.
    async fn ask(limiter: &Limiter, api: &Api, spending: Spending, client: &str) -> (Option<&'static str>, Vec<String>) {
        let quotas = quotas(api);
        let limits = Limits { limiter, quotas: &quotas, realm: "r", route: "x", spending };
        let (mut exchange, mut ledger) = (exchange(client, &[]).explained(), Ledger::default());
        let outcome = limits.before_identity(&mut exchange, &mut ledger).await;
        let steps = exchange.steps().into_iter().map(|step| step.outcome).collect();
        (outcome.err().map(|rejection| rejection.code()), steps)
    }

    /// A request that a later limit refuses has spent from the earlier ones: what is refused is a request too.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_refused_request_has_spent_what_it_passed() {
        let api = api(&format!(
            "{ROUTE}limits = [\"all\", \"few\"]\n\
             [[api.limit]]\nname = \"all\"\nper = [\"client_ip\"]\nquota = \"5 per 365d\"\n\
             [[api.limit]]\nname = \"few\"\nper = [\"client_ip\"]\nquota = \"2 per 365d\"\n"
        ));
        let redis = Redis::start();
        for limiter in [Limiter::Memory(Memory::new(100)), shared(&redis).await] {
            let mut told = Vec::new();
            for _ in 0..6 {
                told.push(ask(&limiter, &api, Spending::Spend, "10.0.0.1").await);
            }
            let steps: Vec<String> = told.iter().map(|(_, steps)| steps.join("; ")).collect();
            let both = ["all: 4 of 5 left; few: 1 of 2 left", "all: 3 of 5 left; few: 0 of 2 left"];
            assert_eq!(steps, [&both[..], &["all: 2 of 5 left", "all: 1 of 5 left", "all: 0 of 5 left", ""]].concat());
            assert_eq!(told[1].0, None);
            assert!(told[2..].iter().all(|(code, _)| *code == Some("over_limit")));
        }
    }

    /// `explain` asks the shared counters and changes nothing there; while they are away it says who has counted.
    #[tokio::test(flavor = "multi_thread")]
    async fn peeking_changes_no_shared_counter() {
        let limit = |name: &str, on_outage: &str| {
            format!(
                "[[api.limit]]\nname = \"{name}\"\nper = [\"client_ip\"]\nquota = \"5 per 365d\"\non_outage = \"{on_outage}\"\n"
            )
        };
        let api = api(&format!(
            "{ROUTE}limits = [\"l\", \"o\", \"c\"]\n{}{}{}",
            limit("l", "local"),
            limit("o", "open"),
            limit("c", "closed")
        ));
        let mut redis = Redis::start();
        let limiter = shared(&redis).await;
        let fresh = ["l: 4 of 5 left", "o: 4 of 5 left", "c: 4 of 5 left"].map(str::to_owned).to_vec();
        assert_eq!(ask(&limiter, &api, Spending::Peek, "10.0.0.1").await, (None, fresh.clone()));
        assert_eq!(redis.command(&["KEYS", "gw:*"]), "", "peeking makes no counter");
        assert_eq!(ask(&limiter, &api, Spending::Spend, "10.0.0.1").await, (None, fresh));
        let digest = redis.command(&["DEBUG", "DIGEST"]);
        let next = ["l: 3 of 5 left", "o: 3 of 5 left", "c: 3 of 5 left"].map(str::to_owned).to_vec();
        for _ in 0..3 {
            assert_eq!(ask(&limiter, &api, Spending::Peek, "10.0.0.1").await, (None, next.clone()));
        }
        assert_eq!(redis.command(&["DEBUG", "DIGEST"]), digest);
        redis.kill();
        let away = [
            "l: 3 of 5 left, counted by this node alone: the shared counters are away",
            "o: not counted, the shared counters are away, and the limit is open then",
        ];
        let (code, steps) = ask(&limiter, &api, Spending::Peek, "10.0.0.1").await;
        assert_eq!((code, steps), (Some("counters_unavailable"), away.map(str::to_owned).to_vec()));
    }
}
