//! A limit of an API, ready to be spent: what it counts by, and the rule that counts.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use crate::clock::Tick;
use crate::config::value::Quota;
use crate::config::{Count, KeyPart, Mode};
use crate::contract;
use crate::limiter::{CellKey, Decision, Limiter, Memory, Receipt, Rule, Source, Taken, Waited};
use crate::rejection::{Denial, Failure, Rejection};

/// What a request can be counted by. What is not known yet is `None`.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub realm: &'a str,
    pub route: &'a str,
    pub client_ip: IpAddr,
    pub headers: &'a HeaderMap,
    pub account: Option<&'a str>,
    pub key: Option<&'a str>,
    pub tenant: Option<&'a str>,
}

/// A limit with its rule.
#[derive(Debug)]
pub struct Counted {
    limit: Arc<contract::Limit>,
    rule: Rule,
    /// The field `RateLimit-Policy`. `None` where the name is no header's value.
    policy: Option<HeaderValue>,
}

/// What a limit has counted, so that a unit that was taken can be given back.
#[derive(Debug)]
pub struct Spent {
    pub counted: Arc<Counted>,
    key: CellKey,
    receipt: Receipt,
    pub decision: Decision,
}

/// What became of a limit that does not refuse.
#[derive(Debug)]
pub enum Counting {
    Done(Spent),
    /// Nothing was counted, and why.
    Skipped(&'static str),
}

/// Why a limit does not let a request pass.
#[derive(Debug)]
pub enum Refusal {
    OverLimit(OverLimit),
    /// The shared counters are away, and this limit is closed then.
    Away(Failure),
}

/// A limit that refuses, with what it has counted: the answer's headers tell of it.
#[derive(Debug)]
pub struct OverLimit(pub Spent);

impl Refusal {
    pub fn rejection(&self) -> Rejection {
        match self {
            Self::OverLimit(over) => over.denial().into(),
            Self::Away(failure) => failure.clone().into(),
        }
    }
}

impl OverLimit {
    pub fn denial(&self) -> Denial {
        let Spent { counted, decision, .. } = &self.0;
        Denial::OverLimit {
            limit: counted.limit.name.clone(),
            quota: counted.limit.quota.to_string().into(),
            retry_after: decision.retry_after,
        }
    }
}

/// Whether units are taken or only looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spending {
    Spend,
    /// For `explain`: says what would happen and changes nothing.
    Peek,
}

impl Counted {
    /// `api` keeps limits of the same name in two APIs apart.
    pub fn new(api: &str, limit: Arc<contract::Limit>) -> Self {
        let rule = Rule {
            bucket: format!("{api}/{}", limit.name).into(),
            quota: limit.quota,
            burst: limit.burst,
            algorithm: limit.algorithm,
        };
        let Quota { count, window } = limit.quota;
        let seconds = window.as_secs() + u64::from(window.subsec_nanos() > 0);
        let policy = HeaderValue::try_from(format!("\"{}\";q={count};w={seconds}", limit.name)).ok();
        Self { limit, rule, policy }
    }

    pub fn name(&self) -> &Arc<str> {
        &self.limit.name
    }

    /// The field `RateLimit-Policy`: the quota and its window in seconds, rounded up.
    pub fn policy(&self) -> Option<&HeaderValue> {
        self.policy.as_ref()
    }

    /// Whether the limit can only be spent once the caller is known.
    pub fn needs_identity(&self) -> bool {
        self.limit.per.iter().any(KeyPart::needs_identity)
    }

    /// Whether a request without identity spends this limit by other parts.
    pub fn has_fallback(&self) -> bool {
        !self.limit.else_per.is_empty()
    }

    /// Whether a request that went well gets its unit back.
    pub fn counts_failures_only(&self) -> bool {
        self.limit.count == Count::Failures
    }

    /// Takes one unit by the limit's own parts; by `else_per` where one of them is not known. When neither can be formed,
    /// nothing is counted. `waited` is what this request has waited for shared counters so far.
    ///
    /// # Errors
    /// [`Refusal`] when the quota is used up, or cannot be counted and the limit is closed then; and the limit is enforced.
    pub async fn spend(
        self: &Arc<Self>,
        limiter: &Limiter,
        subject: &Subject<'_>,
        now: Tick,
        spending: Spending,
        waited: &mut Waited,
    ) -> Result<Counting, Refusal> {
        let name = |parts: &[&[u8]]| limiter.key(&self.rule, parts);
        let Some(key) = self.key_of(subject, name) else { return Ok(Counting::Skipped(UNKNOWN_PARTS)) };
        let taken = match limiter {
            Limiter::Memory(memory) => memory.take(&self.rule, key, now, spending),
            Limiter::Shared { shared, .. } => {
                // Boxed: a call to the counters would make the future of every request larger.
                match Box::pin(shared.take(&self.rule, self.limit.on_outage, key, spending, waited)).await {
                    Ok(Some(taken)) => taken,
                    Ok(None) => return Ok(Counting::Skipped("the shared counters are away, and the limit is open then")),
                    Err(failure) if self.limit.mode == Mode::Enforce => return Err(Refusal::Away(failure)),
                    Err(_) => return Ok(Counting::Skipped("the shared counters are away, and the limit is in shadow mode")),
                }
            }
        };
        self.judge(key, taken).map(Counting::Done).map_err(Refusal::OverLimit)
    }

    /// The same in the memory of this process alone.
    ///
    /// # Errors
    /// [`OverLimit`] when the quota is used up and the limit is enforced.
    pub fn spend_here(
        self: &Arc<Self>,
        memory: &Memory,
        subject: &Subject<'_>,
        now: Tick,
        spending: Spending,
    ) -> Result<Counting, OverLimit> {
        let name = |parts: &[&[u8]]| memory.key(&self.rule, parts);
        let Some(key) = self.key_of(subject, name) else { return Ok(Counting::Skipped(UNKNOWN_PARTS)) };
        self.judge(key, memory.take(&self.rule, key, now, spending)).map(Counting::Done)
    }

    fn judge(self: &Arc<Self>, key: CellKey, taken: Taken) -> Result<Spent, OverLimit> {
        let spent = Spent { counted: self.clone(), key, receipt: taken.receipt, decision: taken.decision };
        if spent.decision.allowed {
            return Ok(spent);
        }
        match self.limit.mode {
            Mode::Enforce => Err(OverLimit(spent)),
            Mode::Shadow => {
                tracing::info!(limit = %self.limit.name, "over the limit, let pass: the limit is in shadow mode");
                Ok(spent)
            }
        }
    }

    fn key_of(&self, subject: &Subject<'_>, name: impl Fn(&[&[u8]]) -> CellKey) -> Option<CellKey> {
        subject.cell(&self.limit.per, &name).or_else(|| match self.limit.else_per.as_slice() {
            [] => None,
            parts => subject.cell(parts, &name),
        })
    }
}

impl Subject<'_> {
    /// Names the cell of these parts. `None` where one of them is not known.
    fn cell(&self, parts: &[KeyPart], name: impl Fn(&[&[u8]]) -> CellKey) -> Option<CellKey> {
        let address = counted_address(self.client_ip);
        let mut values: Vec<&[u8]> = Vec::with_capacity(parts.len() + 1);
        values.push(self.realm.as_bytes());
        for part in parts {
            values.push(match part {
                KeyPart::ClientIp => &address,
                KeyPart::Account => self.account?.as_bytes(),
                KeyPart::Key => self.key?.as_bytes(),
                KeyPart::Tenant => self.tenant?.as_bytes(),
                KeyPart::Route => self.route.as_bytes(),
                KeyPart::Header(name) => self.headers.get(name).map_or(b"".as_slice(), |value| value.as_bytes()),
            });
        }
        Some(name(&values))
    }
}

impl Spent {
    /// Gives the unit back. A request that a limit in shadow mode let pass took none.
    pub fn refund(&self, limiter: &Limiter) {
        if self.decision.allowed {
            limiter.refund(&self.counted.rule, self.key, self.receipt);
        }
    }
}

/// For `explain`.
impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {} left", self.counted.limit.name, self.decision.remaining, self.decision.limit)?;
        match self.receipt.source {
            Source::Alone | Source::Unanswered => f.write_str(", counted by this node alone: the shared counters are away"),
            Source::Memory | Source::Shared => Ok(()),
        }
    }
}

const UNKNOWN_PARTS: &str = "the request has not all that it counts by";

/// IPv6 addresses count by their /64: one customer has at least that many, and could take a fresh one for each request.
fn counted_address(address: IpAddr) -> [u8; 8] {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [0, 0, 0, 0, a, b, c, d]
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h, ..] = v6.octets();
            [a, b, c, d, e, f, g, h]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per: KeyPart, count: Count, mode: Mode) -> Arc<contract::Limit> {
        Arc::new(contract::Limit {
            name: "l".into(),
            per: vec![KeyPart::ClientIp, per],
            else_per: Vec::new(),
            quota: Quota { count: 1, window: std::time::Duration::from_secs(60) },
            burst: 1,
            algorithm: crate::config::Algorithm::FixedWindow,
            count,
            on_outage: crate::config::OnOutage::Local,
            mode,
        })
    }

    /// M4: a hundred thousand addresses of one network find one counter, and that is all that they cost.
    #[test]
    fn a_whole_ipv6_network_takes_one_cell() {
        let memory = Memory::new(100_000);
        let counted = Arc::new(Counted::new("api", limit(KeyPart::ClientIp, Count::All, Mode::Enforce)));
        let headers = HeaderMap::new();
        let network: u128 = 0x2001_0db8_0001_0002 << 64;
        let admitted = (0..100_000_u128).filter(|host| {
            let client_ip = IpAddr::V6(std::net::Ipv6Addr::from(network | ((host * 0x1234_5678_9abd) & u128::from(u64::MAX))));
            let subject =
                Subject { realm: "r", route: "x", client_ip, headers: &headers, account: None, key: None, tenant: None };
            counted.spend_here(&memory, &subject, Tick(0), Spending::Spend).is_ok()
        });
        assert_eq!((admitted.count(), memory.cells()), (1, 1));
    }

    /// M4: one key per /64.
    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let counted = |text: &str| counted_address(text.parse().unwrap());
        assert_eq!(counted("2001:db8:1:2::1"), counted("2001:db8:1:2:ffff::9"));
        assert_ne!(counted("2001:db8:1:2::1"), counted("2001:db8:1:3::1"));
        assert_eq!(counted("::ffff:10.0.0.1"), counted("10.0.0.1"));
        assert_ne!(counted("10.0.0.1"), counted("10.0.0.2"));
    }

    /// A part that a request is not known by yet would be left out, and the limit never spent.
    #[test]
    fn limits_by_account_key_or_tenant_wait_for_the_caller() {
        let counted = |per: KeyPart| Counted::new("api", limit(per, Count::All, Mode::Enforce)).needs_identity();
        assert!([KeyPart::Account, KeyPart::Key, KeyPart::Tenant].into_iter().all(counted));
        assert!(![KeyPart::ClientIp, KeyPart::Route].into_iter().any(counted));
    }

    /// Else each success in a flood would give back what a failure took.
    #[test]
    fn what_a_shadow_limit_let_pass_is_not_given_back() {
        let limiter = Limiter::Memory(Memory::new(10));
        let counted = Arc::new(Counted::new("api", limit(KeyPart::Route, Count::Failures, Mode::Shadow)));
        let headers = HeaderMap::new();
        let client_ip = "10.0.0.1".parse().unwrap();
        let subject = Subject { realm: "r", route: "x", client_ip, headers: &headers, account: None, key: None, tenant: None };
        let spend = || match counted.spend_here(limiter.node(), &subject, Tick(0), Spending::Spend) {
            Ok(Counting::Done(spent)) => spent,
            other => panic!("{other:?}"),
        };
        let (first, second) = (spend(), spend());
        assert_eq!((first.decision.allowed, second.decision.allowed), (true, false));
        second.refund(&limiter);
        assert!(!spend().decision.allowed);
        first.refund(&limiter);
        assert!(spend().decision.allowed);
    }
}
