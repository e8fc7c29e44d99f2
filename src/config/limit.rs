//! `[[api.limit]]`: how many requests, counted by what.

use http::HeaderName;
use serde_json::{Value, json};

use crate::config::decode::{Decode, Decoder, Node, section, words};
use crate::config::report::{Located, Report};
use crate::config::value::Quota;

section! {
    /// `[[api.limit]]`
    pub struct Limit {
        /// The name that routes and endpoints refer to.
        name: Located<String>,
        /// What is counted apart: client_ip, account, key, tenant, route, header:NAME; several = compound.
        per: Vec<KeyPart>,
        /// What a request without (or with a refused) credential spends instead.
        else_per: Vec<KeyPart> = Vec::new(),
        /// How many in how long, e.g. "600 per 1m".
        quota: Quota,
        /// GCRA only: how many at once; by default the quota.
        burst: Option<u64> = None,
        /// How the quota is counted: evenly spread ("gcra"), over two weighted windows, or anew at each full window.
        algorithm: Algorithm = Algorithm::Gcra,
        /// "failures" gives back what a successful request spent.
        count: Count = Count::All,
        /// While the shared counters are away: "local" counts on this node, its share of the quota; "closed" answers 503;
        /// "open" lets pass.
        on_outage: OnOutage = OnOutage::Local,
        /// "shadow" counts and logs, and refuses nothing.
        mode: Mode = Mode::Enforce,
    }
}

impl Limit {
    /// Reports what is wrong within the section.
    pub fn check(&self, report: &mut Report) {
        if self.per.is_empty() {
            let help = "expected what is counted apart, such as `per = [\"client_ip\"]`";
            report.error_with_help(report.at(self.place, "per"), "`per` is empty", help);
        }
        if self.else_per.contains(&KeyPart::Key) {
            let why = "`else_per` is for requests without a credential, which have no key";
            report.error(report.at(self.place, "else_per"), why);
        }
        let Some(burst) = report.written(self.place, "burst") else { return };
        if self.algorithm != Algorithm::Gcra {
            let why = format!("`burst` is for gcra; {} lets through the whole quota at once", self.algorithm.as_str());
            report.error(burst, why);
        } else if let Some(count) = self.burst.filter(|count| *count == 0 || *count > u64::from(u32::MAX)) {
            report.error(burst, format!("`burst` is {count}, expected 1 to {}", u32::MAX));
        }
    }
}

words! {
    /// How a quota is counted.
    pub enum Algorithm: Display { Gcra = "gcra", SlidingWindow = "sliding_window", FixedWindow = "fixed_window" }
}

words! {
    /// What is counted.
    pub enum Count { All = "all", Failures = "failures" }
}

words! {
    /// What a limit does while the counters that nodes share are away.
    pub enum OnOutage { Local = "local", Closed = "closed", Open = "open" }
}

words! {
    /// Whether a limit refuses.
    pub enum Mode { Enforce = "enforce", Shadow = "shadow" }
}

/// One part of the key that a limit counts by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyPart {
    /// IPv6 by /64.
    ClientIp,
    /// The account, or on a login the account that is asked for.
    Account,
    /// The API key.
    Key,
    Tenant,
    Route,
    Header(HeaderName),
}

impl KeyPart {
    /// Whether the part is only known once the caller is: a tenant counts for who belongs to it, or strangers could use
    /// its quota up.
    pub fn needs_identity(&self) -> bool {
        matches!(self, Self::Account | Self::Key | Self::Tenant)
    }
}

impl Decode for KeyPart {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let found = decoder.string(node, "what to count by")?;
        let part = match (found.as_str(), found.strip_prefix("header:")) {
            ("client_ip", _) => Some(Self::ClientIp),
            ("account", _) => Some(Self::Account),
            ("key", _) => Some(Self::Key),
            ("tenant", _) => Some(Self::Tenant),
            ("route", _) => Some(Self::Route),
            (_, Some(name)) => name.parse().ok().map(Self::Header),
            _ => None,
        };
        part.or_else(|| decoder.unknown(node, &found, ["client_ip", "account", "key", "tenant", "route", "header:NAME"]))
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^(client_ip|account|key|tenant|route|header:.+)$" })
    }
}
