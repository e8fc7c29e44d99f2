//! How many tokens one client may have verified: a signature costs more than anything else that a stranger can ask for.
//! Tokens that were verified before cost nothing.

use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::Tick;
use crate::config::value::Quota;
use crate::config::{Algorithm, Count, KeyPart, Mode, OnOutage};
use crate::contract::Limit;
use crate::limiter::{Counted, Limiter, Spending, Subject};
use crate::rejection::Denial;

/// Counts by client address, across the APIs of a listener, and on each node for itself: it guards the time of this one.
pub struct ColdLimit {
    limiter: Arc<Limiter>,
    counted: Arc<Counted>,
}

impl ColdLimit {
    pub fn new(listener: &str, quota: Quota, limiter: Arc<Limiter>) -> Self {
        let limit = Limit {
            name: "cold-verifications".into(),
            per: vec![KeyPart::ClientIp],
            else_per: Vec::new(),
            quota,
            burst: quota.count,
            algorithm: Algorithm::Gcra,
            count: Count::All,
            on_outage: OnOutage::Local,
            mode: Mode::Enforce,
        };
        Self { limiter, counted: Arc::new(Counted::new(listener, Arc::new(limit))) }
    }

    /// Takes one verification.
    ///
    /// # Errors
    /// [`Denial::OverLimit`].
    pub fn spend(&self, client: IpAddr, now: Tick, spending: Spending) -> Result<(), Denial> {
        let subject = Subject {
            realm: "",
            route: "",
            client_ip: client,
            headers: &http::HeaderMap::new(),
            account: None,
            key: None,
            tenant: None,
        };
        self.counted.spend_here(self.limiter.node(), &subject, now, spending).map(drop).map_err(|over| over.denial())
    }
}
