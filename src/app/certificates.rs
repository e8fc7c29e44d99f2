//! The certificates of all listeners: read before anything is served, watched while it is, shown as metrics.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::watch as channel;

use crate::app::load::Ready;
use crate::app::reload::InEffect;
use crate::clock;
use crate::config::report::Report;
use crate::config::{Config, Listener};
use crate::listener::{Changed, TlsStore};
use crate::observe::Metrics;

/// Those of one generation's listeners, of each that has TLS.
#[derive(Clone, Default)]
pub struct Certificates(Arc<[Arc<TlsStore>]>);

/// Reports every file of a `tls` section that cannot be used.
pub fn check(config: &Config, report: &mut Report) {
    for fault in config.listeners.iter().filter_map(|listener| TlsStore::load(listener).err()).flatten() {
        report.error(fault.place, fault.why);
    }
}

impl Certificates {
    /// Reads them. A listener whose section is as it was in `previous` keeps what it has, and follows its files as before:
    /// its sessions go on, and what changes for clients holds for connections that are open too.
    ///
    /// # Errors
    /// Names the listener and each file that cannot be used.
    pub fn open(ready: &Ready, previous: Option<&Self>) -> anyhow::Result<Self> {
        let mut stores = Vec::new();
        for listener in &ready.config.listeners {
            let name = listener.name.value.as_str();
            let kept = previous.and_then(|previous| previous.of(listener));
            if let Some(kept) = kept.filter(|kept| kept.is_of(listener)) {
                stores.push(kept);
                continue;
            }
            let store = TlsStore::load(listener).map_err(|faults| {
                let faults: Vec<String> = faults.into_iter().map(|fault| fault.why).collect();
                anyhow!("the listener `{name}` has no TLS: {}", faults.join("; "))
            })?;
            stores.extend(store.map(Arc::new));
        }
        Ok(Self(stores.into()))
    }

    /// What a listener's connections begin with. `None` in clear text.
    pub fn of(&self, listener: &Listener) -> Option<Arc<TlsStore>> {
        self.0.iter().find(|store| store.listener() == listener.name.value).cloned()
    }

    fn reload(&self) {
        for store in self.0.iter() {
            let listener = store.listener();
            match store.reload() {
                Ok(Changed::No) => {}
                Ok(Changed::Yes) => tracing::info!(listener, "new certificates are in use"),
                Err(faults) => {
                    for fault in faults {
                        tracing::error!(listener, why = %fault.why, "changed certificates cannot be used; the listener keeps those that it has");
                    }
                }
            }
        }
    }

    /// Says of each certificate once that it is about to end.
    fn warn(&self, warned: &mut HashSet<(String, u64)>) {
        let soon = clock::now().wall.plus(SOON);
        for expiry in self.0.iter().flat_map(|store| store.expiries()) {
            if expiry.not_after >= soon || warned.len() >= MOST_WARNINGS {
                continue;
            }
            if warned.insert((expiry.name.clone(), expiry.not_after.0)) {
                tracing::warn!(name = expiry.name, "a certificate ends soon, at {}", expiry.not_after);
            }
        }
    }
}

/// Shows when each certificate in use ends. Of two with the same first name the one that ends first.
pub fn show(metrics: &Metrics, in_effect: InEffect) {
    let help = "When the certificate of this name ends, in seconds since 1970";
    metrics.gauges("gateward_certificate_expiry_seconds", help, "name", move || {
        let certificates = in_effect.load().certificates.clone();
        let mut ends: BTreeMap<String, f64> = BTreeMap::new();
        for expiry in certificates.0.iter().flat_map(|store| store.expiries()) {
            let end = f64::from(u32::try_from(expiry.not_after.seconds()).unwrap_or(u32::MAX));
            let shown = ends.entry(expiry.name).or_insert(end);
            *shown = shown.min(end);
        }
        ends.into_iter().collect()
    });
}

/// Takes changed files over, and warns of ends that are near, until `stop`. Looks at what the files hold, so that it is no
/// matter by what means they were replaced.
pub async fn watch(in_effect: InEffect, mut stop: channel::Receiver<bool>) {
    let mut warned = HashSet::new();
    while !*stop.borrow() {
        let certificates = in_effect.load().certificates.clone();
        certificates.reload();
        certificates.warn(&mut warned);
        let _ = tokio::time::timeout(LOOK, stop.wait_for(|stop| *stop)).await;
    }
}

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Most authorities renew a certificate thirty days before its end.
const SOON: Duration = Duration::from_hours(14 * 24);
const MOST_WARNINGS: usize = 10_000;
