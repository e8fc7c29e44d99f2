//! From a checked config to a pipeline: opens the store, loads the signing keys, and puts every API together.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::anyhow;
use tokio::runtime::Handle;

use crate::app::certificates::Certificates;
use crate::app::issuers::foreign_issuers;
use crate::app::load::Ready;
use crate::app::signing::{key_format, signing_key, verifier};
use crate::app::upstreams;
use crate::config;
use crate::contract::Api;
use crate::counter::Counters;
use crate::issuer::Issuer;
use crate::limiter::{Limiter, Memory, Shared};
use crate::observe::{AccessLog, Metrics, RecentRefusals};
use crate::password::Passwords;
use crate::pipeline::{Authenticator, Books, ColdLimit, Door, Fallback, Fleet, Pipeline, Reading, Routing, Service};
use crate::store::Store;
use crate::token::{KeySource, SigningKey, VerifiedCache};

/// How many logins may wait for a hashing thread; the next one is answered 503.
const PASSWORD_QUEUE: usize = 32;

/// Verified tokens that each API remembers, and what they may take.
const VERIFIED_TOKENS: usize = 100_000;
const VERIFIED_BYTES: u64 = 64 << 20;

/// Members of `[[api]]` of which no key and no verified token depends. What is not listed makes both anew.
const NO_MATTER_TO_CREDENTIALS: [&str; 9] =
    ["route", "limit", "cors", "hosts", "listener", "upstream", "identity", "endpoints", "outside"];

/// Opens the store that the config names.
///
/// # Errors
/// What is wrong with it and what would be right.
pub async fn open_store(ready: &Ready, control: Handle) -> anyhow::Result<Store> {
    Ok(Store::open(ready.store_options(), control).await?)
}

/// What lives as long as the process, whatever the config says.
pub struct Foundation {
    pub store: Store,
    pub metrics: Metrics,
    limiter: Arc<Limiter>,
    passwords: Arc<Passwords>,
    pub books: Arc<Books>,
}

impl Foundation {
    /// Called on the control plane's runtime.
    pub fn new(store: Store, counters: Option<&Counters>, log: AccessLog, metrics: Metrics) -> Self {
        let limiter = Arc::new(limiter(counters, &metrics));
        // One core stays free for requests, whatever is hashed.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let passwords = Arc::new(Passwords::start(cores.saturating_sub(1).max(1), PASSWORD_QUEUE));
        let unrouted = metrics.route("", "");
        let in_flight = Arc::new(AtomicU64::new(0));
        let dropped = log.clone();
        metrics.counter(
            "gateward_access_log_dropped",
            "Access-log lines that were dropped because the reader is slow or gone",
            move || dropped.dropped(),
        );
        let cells = limiter.clone();
        metrics.gauge("gateward_limit_cells", "Counters that limits hold in memory", move || {
            f64::from(u32::try_from(cells.cells()).unwrap_or(u32::MAX))
        });
        let shown = in_flight.clone();
        metrics.gauge("gateward_requests_in_flight", "Requests whose answer has not gone out yet", move || {
            f64::from(u32::try_from(shown.load(std::sync::atomic::Ordering::Relaxed)).unwrap_or(u32::MAX))
        });
        let books = Arc::new(Books { log, refusals: RecentRefusals::default(), unrouted, in_flight });
        Self { store, metrics, limiter, passwords, books }
    }

    /// The metrics of upstreams are those of these from now on.
    pub fn show_upstreams(&self, upstreams: &[Arc<Fleet>]) {
        type Read = fn(&Reading) -> u64;
        let fleets = upstreams.to_vec();
        let rows = move |read: Read| {
            let fleets = fleets.clone();
            let of = move |fleet: &Arc<Fleet>| {
                let name = fleet.config.name.value.clone();
                fleet.readings().into_iter().map(move |reading| ([name.clone(), reading.server.clone()], read(&reading)))
            };
            move || fleets.iter().flat_map(&of).collect()
        };
        let (up, in_flight, ejections) = (rows(|one| u64::from(one.is_up)), rows(|one| one.in_flight), rows(|one| one.ejections));
        let labels = ["upstream", "server"];
        self.metrics.gauge_table("gateward_upstream_up", "0 for a server that is passed over because it fails", labels, up);
        self.metrics.gauge_table(
            "gateward_upstream_in_flight",
            "Requests whose answer is not read to its end",
            labels,
            in_flight,
        );
        let help = "How often a server was put out because it failed";
        self.metrics.counter_table("gateward_upstream_ejections", help, labels, ejections);
    }

    /// The metrics of caches are those of this pipeline from now on.
    pub fn show_caches(&self, pipeline: &Pipeline) {
        let caches: Vec<_> = pipeline.services.iter().map(|service| service.authenticator.verified.clone()).collect();
        self.metrics.gauge("gateward_verified_tokens", "Tokens whose signature need not be verified again", move || {
            f64::from(caches.iter().map(|cache| u32::try_from(cache.count()).unwrap_or(u32::MAX)).sum::<u32>())
        });
    }
}

/// A config in effect, with all that was built from it.
pub struct Generation {
    /// From 1.
    pub number: u64,
    pub ready: Ready,
    pub pipeline: Arc<Pipeline>,
    /// In the order of the APIs. Where a section is as it was, it is the very same as in the generation before, and its
    /// connections live on, and what is known of its servers; APIs of one upstream share it.
    pub upstreams: Vec<Arc<Fleet>>,
    pub certificates: Certificates,
}

impl Generation {
    /// Builds the first one, or the one after `previous`. Nothing is in effect yet.
    ///
    /// # Errors
    /// When a key or a certificate cannot be read, loaded or made.
    pub async fn build(ready: Ready, foundation: &Foundation, previous: Option<&Self>) -> anyhow::Result<Self> {
        let certificates = Certificates::open(&ready, previous.map(|previous| &previous.certificates))?;
        let pipeline = pipeline(&ready, foundation, previous).await?;
        let mut fleets: Vec<Arc<Fleet>> = Vec::new();
        for (at, section) in ready.config.apis.iter().enumerate() {
            let earlier = ready.config.apis.iter().zip(&fleets).take(at);
            let shared = earlier.filter(|(api, _)| is_named(api) && api.upstream.value == section.upstream.value);
            let shared = shared.map(|(_, upstream)| upstream.clone()).next();
            let kept = || previous?.upstream_like(section, &ready);
            let upstream = match shared.or_else(kept) {
                Some(upstream) => upstream,
                None => upstreams::open(upstream_of(&ready, section)?)?,
            };
            fleets.push(upstream);
        }
        let number = previous.map_or(1, |previous| previous.number.saturating_add(1));
        Ok(Self { number, ready, pipeline, upstreams: fleets, certificates })
    }

    /// The upstream of an API in `new`, if it is here as well and nothing of it has changed.
    fn upstream_like(&self, section: &config::Api, new: &Ready) -> Option<Arc<Fleet>> {
        let name = section.upstream.value.as_str();
        let is_same = match is_named(section) {
            true => self.ready.outline.is_same(&new.outline, &["upstream", name], &[]),
            false => self.ready.outline.is_same(&new.outline, &["api", section.label(), "upstream"], &[]),
        };
        let mut here = self.ready.config.apis.iter().zip(&self.upstreams);
        let found = here.find(|(api, _)| api.upstream.value == name && (is_named(section) || api.label() == section.label()));
        found.filter(|_| is_same).map(|(_, upstream)| upstream.clone())
    }

    /// The service of an API in `new`, if nothing has changed of what its credentials are judged by.
    fn service_like(&self, section: &config::Api, new: &Ready) -> Option<&Service> {
        let way = ["api", section.label()];
        let is_same = self.ready.outline.is_same(&new.outline, &way, &NO_MATTER_TO_CREDENTIALS);
        self.pipeline.services.iter().find(|service| &*service.api.facts.name == section.label()).filter(|_| is_same)
    }

    /// The keys of other issuers.
    pub fn key_sources(&self) -> Vec<Arc<KeySource>> {
        let services = self.pipeline.services.iter();
        services.flat_map(|service| service.authenticator.issuers.iter()).map(|issuer| issuer.keys.clone()).collect()
    }
}

/// Whether the upstream is a section of its own.
fn is_named(api: &config::Api) -> bool {
    !api.upstream.value.contains("://")
}

/// Builds what all workers share.
///
/// # Errors
/// When a signing key cannot be loaded or made.
pub async fn pipeline(ready: &Ready, foundation: &Foundation, previous: Option<&Generation>) -> anyhow::Result<Arc<Pipeline>> {
    let Foundation { store, metrics, limiter, passwords, books } = foundation;
    let mut services = Vec::new();
    let mut apis = Vec::new();
    for (section, api) in ready.config.apis.iter().zip(&ready.apis) {
        let upstream = upstream_of(ready, section)?;
        let api = Arc::new(api.clone());
        let listener = listener_of(ready, section)?;
        apis.push((Arc::<str>::from(listener.name.value.as_str()), api.clone()));
        let name = upstream.name.value.as_str().into();
        let before = previous.and_then(|previous| previous.service_like(section, ready));
        let signing = match before {
            Some(before) => before.issuer.signing.clone(),
            None => Arc::new(signing_key(&api, store).await?),
        };
        let authenticator = authenticator(ready, section, &api, &signing, store, limiter, before)?;
        let issuer = Issuer {
            api: api.clone(),
            store: store.clone(),
            passwords: passwords.clone(),
            signing,
            keys: key_format(&api),
            limiter: limiter.clone(),
        };
        services.push(Service::new(api, authenticator, issuer, name, metrics));
    }
    let mut routing = Routing::new(apis.iter().map(|(listener, api)| (listener.clone(), &**api)));
    for listener in &ready.config.listeners {
        if let Some(other) = &listener.decides_for {
            routing.share(listener.name.value.as_str().into(), &other.value);
        }
    }
    let (limiter, books) = (limiter.clone(), books.clone());
    Ok(Arc::new(Pipeline { routing, services, limiter, fallback: Fallback::default(), doors: doors(ready), books }))
}

/// Without shared counters, this process counts for itself. Called on the control plane's runtime.
fn limiter(counters: Option<&Counters>, metrics: &Metrics) -> Limiter {
    let node = Memory::new(Memory::DEFAULT_CAPACITY);
    match counters {
        Some(counters) => Limiter::Shared { node, shared: Box::new(Shared::new(counters.clone(), &Handle::current(), metrics)) },
        None => Limiter::Memory(node),
    }
}

/// What one API accepts: for the server, and for commands that judge as it would. The keys of others and the tokens that are
/// known live on from `before`, whose credentials are judged by the same.
///
/// # Errors
/// When the keys of another issuer cannot be read, or what they are fetched with.
pub fn authenticator(
    ready: &Ready,
    section: &config::Api,
    api: &Api,
    signing: &SigningKey,
    store: &Store,
    limiter: &Arc<Limiter>,
    before: Option<&Service>,
) -> anyhow::Result<Authenticator> {
    let listener = listener_of(ready, section)?;
    Ok(Authenticator {
        tokens: verifier(api, signing),
        issuers: match before {
            Some(before) => before.authenticator.issuers.clone(),
            None => foreign_issuers(section)?.into(),
        },
        keys: key_format(api),
        store: store.clone(),
        verified: match before {
            Some(before) => before.authenticator.verified.clone(),
            None => Arc::new(VerifiedCache::new(VERIFIED_TOKENS, VERIFIED_BYTES)),
        },
        certificates: section.credentials.certificate.clone(),
        cold: ColdLimit::new(&listener.name.value, listener.limits.cold_verifications, limiter.clone()),
    })
}

fn listener_of<'a>(ready: &'a Ready, section: &config::Api) -> anyhow::Result<&'a config::Listener> {
    ready.config.listener_of(section).ok_or_else(|| anyhow!("`{}` has no listener", section.label()))
}

fn upstream_of(ready: &Ready, section: &config::Api) -> anyhow::Result<config::Upstream> {
    ready.config.upstream_of(section).ok_or_else(|| anyhow!("`{}` has no upstream", section.label()))
}

fn doors(ready: &Ready) -> Vec<Door> {
    let index_of = |name: &str| ready.apis.iter().position(|api| &*api.facts.name == name);
    let door = |listener: &config::Listener| Door {
        name: listener.name.value.as_str().into(),
        default_api: listener.default_api.as_ref().and_then(|name| index_of(&name.value)),
        max_uri_bytes: listener.limits.uri_bytes.0,
        max_head_bytes: listener.limits.header_bytes.0,
        max_headers: listener.limits.headers,
        body_progress: listener.timeouts.body_progress,
    };
    ready.config.listeners.iter().map(door).collect()
}
