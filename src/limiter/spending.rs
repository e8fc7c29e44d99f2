//! A limit of an API, ready to be spent: what it counts by, and the rule that counts.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;

use crate::clock::Tick;
use crate::config::{Count, KeyPart, Mode};
use crate::contract;
use crate::limiter::{CellKey, Decision, Limiter, Rule};
use crate::rejection::Denial;

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
}

/// What a limit has counted, so that a unit that was taken can be given back.
#[derive(Debug)]
pub struct Spent {
    pub counted: Arc<Counted>,
    key: CellKey,
    at: Tick,
    pub decision: Decision,
}

/// A limit that refuses, with what it has counted: the answer's headers tell of it.
#[derive(Debug)]
pub struct OverLimit(pub Spent);

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
        Self { limit, rule }
    }

    pub fn name(&self) -> &Arc<str> {
        &self.limit.name
    }

    pub fn window_seconds(&self) -> u64 {
        self.limit.quota.window.as_secs()
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

    /// Takes one unit by the limit's own parts; by `else_per` where one of them is not known. `None` when neither can be
    /// formed: nothing is counted then.
    ///
    /// # Errors
    /// [`OverLimit`] when the quota is used up and the limit is enforced.
    pub fn spend(
        self: &Arc<Self>,
        limiter: &Limiter,
        subject: &Subject<'_>,
        now: Tick,
        spending: Spending,
    ) -> Result<Option<Spent>, OverLimit> {
        let key = self.key(&self.limit.per, subject).or_else(|| match self.limit.else_per.as_slice() {
            [] => None,
            parts => self.key(parts, subject),
        });
        let Some(key) = key else { return Ok(None) };
        let decision = match spending {
            Spending::Spend => limiter.spend(&self.rule, key, now),
            Spending::Peek => limiter.peek(&self.rule, key, now),
        };
        let spent = Spent { counted: self.clone(), key, at: now, decision };
        if spent.decision.allowed {
            return Ok(Some(spent));
        }
        match self.limit.mode {
            Mode::Enforce => Err(OverLimit(spent)),
            Mode::Shadow => {
                tracing::info!(limit = %self.limit.name, "over the limit, let pass: the limit is in shadow mode");
                Ok(Some(spent))
            }
        }
    }

    fn key(&self, parts: &[KeyPart], subject: &Subject<'_>) -> Option<CellKey> {
        let address = counted_address(subject.client_ip);
        let mut values: Vec<&[u8]> = vec![subject.realm.as_bytes()];
        for part in parts {
            values.push(match part {
                KeyPart::ClientIp => &address,
                KeyPart::Account => subject.account?.as_bytes(),
                KeyPart::Key => subject.key?.as_bytes(),
                KeyPart::Tenant => subject.tenant?.as_bytes(),
                KeyPart::Route => subject.route.as_bytes(),
                KeyPart::Header(name) => subject.headers.get(name).map_or(b"".as_slice(), |value| value.as_bytes()),
            });
        }
        Some(CellKey::new(&self.rule.bucket, &values))
    }
}

impl Spent {
    /// Gives the unit back. A request that a limit in shadow mode let pass took none.
    pub fn refund(&self, limiter: &Limiter) {
        if self.decision.allowed {
            limiter.refund(&self.counted.rule, self.key, self.at);
        }
    }
}

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
    use crate::config::value::Quota;

    fn limit(per: KeyPart, count: Count, mode: Mode) -> Arc<contract::Limit> {
        Arc::new(contract::Limit {
            name: "l".into(),
            per: vec![KeyPart::ClientIp, per],
            else_per: Vec::new(),
            quota: Quota { count: 1, window: std::time::Duration::from_secs(60) },
            burst: 1,
            algorithm: crate::config::Algorithm::FixedWindow,
            count,
            mode,
        })
    }

    /// M4: a hundred thousand addresses of one network find one counter, and that is all that they cost.
    #[test]
    fn a_whole_ipv6_network_takes_one_cell() {
        let limiter = Limiter::Memory(crate::limiter::Memory::new(100_000));
        let counted = Arc::new(Counted::new("api", limit(KeyPart::ClientIp, Count::All, Mode::Enforce)));
        let headers = HeaderMap::new();
        let network: u128 = 0x2001_0db8_0001_0002 << 64;
        let admitted = (0..100_000_u128).filter(|host| {
            let client_ip = IpAddr::V6(std::net::Ipv6Addr::from(network | ((host * 0x1234_5678_9abd) & u128::from(u64::MAX))));
            let subject =
                Subject { realm: "r", route: "x", client_ip, headers: &headers, account: None, key: None, tenant: None };
            counted.spend(&limiter, &subject, Tick(0), Spending::Spend).is_ok()
        });
        assert_eq!((admitted.count(), limiter.cells()), (1, 1));
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
        let limiter = Limiter::Memory(crate::limiter::Memory::new(10));
        let counted = Arc::new(Counted::new("api", limit(KeyPart::Route, Count::Failures, Mode::Shadow)));
        let headers = HeaderMap::new();
        let client_ip = "10.0.0.1".parse().unwrap();
        let subject = Subject { realm: "r", route: "x", client_ip, headers: &headers, account: None, key: None, tenant: None };
        let spend = || counted.spend(&limiter, &subject, Tick(0), Spending::Spend).unwrap().unwrap();
        let (first, second) = (spend(), spend());
        assert_eq!((first.decision.allowed, second.decision.allowed), (true, false));
        second.refund(&limiter);
        assert!(!spend().decision.allowed);
        first.refund(&limiter);
        assert!(spend().decision.allowed);
    }
}
