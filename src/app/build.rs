//! From a checked config to a pipeline: opens the store, loads the signing keys, and puts every API together.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::anyhow;
use tokio::runtime::Handle;

use crate::app::issuers::foreign_issuers;
use crate::app::load::Ready;
use crate::app::signing::{key_format, signing_key, verifier};
use crate::config;
use crate::contract::Api;
use crate::counter::Counters;
use crate::issuer::Issuer;
use crate::limiter::{Limiter, Memory, Shared};
use crate::observe::{AccessLog, Metrics, RecentRefusals};
use crate::password::Passwords;
use crate::pipeline::{Authenticator, Books, ColdLimit, Door, Fallback, Pipeline, Routing, Service};
use crate::store::Store;
use crate::token::{SigningKey, VerifiedCache};

/// How many logins may wait for a hashing thread; the next one is answered 503.
const PASSWORD_QUEUE: usize = 32;

/// Verified tokens that each API remembers, and what they may take.
const VERIFIED_TOKENS: usize = 100_000;
const VERIFIED_BYTES: u64 = 64 << 20;

/// Opens the store that the config names.
///
/// # Errors
/// What is wrong with it and what would be right.
pub async fn open_store(ready: &Ready, control: Handle) -> anyhow::Result<Store> {
    Ok(Store::open(ready.store_options(), control).await?)
}

/// Builds what all workers share.
///
/// # Errors
/// When a signing key cannot be loaded or made.
pub async fn pipeline(
    ready: &Ready,
    store: &Store,
    counters: Option<&Counters>,
    log: AccessLog,
    metrics: Metrics,
) -> anyhow::Result<Arc<Pipeline>> {
    let limiter = Arc::new(limiter(counters, &metrics));
    // One core stays free for requests, whatever is hashed.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let passwords = Arc::new(Passwords::start(cores.saturating_sub(1).max(1), PASSWORD_QUEUE));
    let mut services = Vec::new();
    let mut apis = Vec::new();
    for (section, api) in ready.config.apis.iter().zip(&ready.apis) {
        let upstream = ready.config.upstream_of(section).ok_or_else(|| anyhow!("`{}` has no upstream", api.facts.name))?;
        let api = Arc::new(api.clone());
        let listener = listener_of(ready, section)?;
        apis.push((Arc::<str>::from(listener.name.value.as_str()), api.clone()));
        let name = upstream.name.value.as_str().into();
        let signing = Arc::new(signing_key(&api, store).await?);
        let authenticator = authenticator(ready, section, &api, &signing, store, &limiter)?;
        let issuer = Issuer {
            api: api.clone(),
            store: store.clone(),
            passwords: passwords.clone(),
            signing,
            keys: key_format(&api),
            limiter: limiter.clone(),
        };
        services.push(Service::new(api, authenticator, issuer, name, &metrics));
    }
    let routing = Routing::new(apis.iter().map(|(listener, api)| (listener.clone(), &**api)));
    let unrouted = metrics.route("", "");
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
    let caches: Vec<_> = services.iter().map(|service| service.authenticator.verified.clone()).collect();
    metrics.gauge("gateward_verified_tokens", "Tokens whose signature need not be verified again", move || {
        f64::from(caches.iter().map(|cache| u32::try_from(cache.count()).unwrap_or(u32::MAX)).sum::<u32>())
    });
    let in_flight = Arc::new(AtomicU64::new(0));
    let shown = in_flight.clone();
    metrics.gauge("gateward_requests_in_flight", "Requests whose answer has not gone out yet", move || {
        f64::from(u32::try_from(shown.load(std::sync::atomic::Ordering::Relaxed)).unwrap_or(u32::MAX))
    });
    Ok(Arc::new(Pipeline {
        routing,
        services,
        limiter,
        fallback: Fallback::default(),
        doors: doors(ready),
        books: Arc::new(Books { log, refusals: RecentRefusals::default(), unrouted, in_flight }),
    }))
}

/// Without shared counters, this process counts for itself. Called on the control plane's runtime.
fn limiter(counters: Option<&Counters>, metrics: &Metrics) -> Limiter {
    let node = Memory::new(Memory::DEFAULT_CAPACITY);
    match counters {
        Some(counters) => Limiter::Shared { node, shared: Box::new(Shared::new(counters.clone(), &Handle::current(), metrics)) },
        None => Limiter::Memory(node),
    }
}

/// What one API accepts: for the server, and for commands that judge as it would.
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
) -> anyhow::Result<Authenticator> {
    let listener = listener_of(ready, section)?;
    Ok(Authenticator {
        tokens: verifier(api, signing),
        issuers: foreign_issuers(section)?,
        keys: key_format(api),
        store: store.clone(),
        verified: Arc::new(VerifiedCache::new(VERIFIED_TOKENS, VERIFIED_BYTES)),
        certificates: section.credentials.certificate.clone(),
        cold: ColdLimit::new(&listener.name.value, listener.limits.cold_verifications, limiter.clone()),
    })
}

fn listener_of<'a>(ready: &'a Ready, section: &config::Api) -> anyhow::Result<&'a config::Listener> {
    ready.config.listener_of(section).ok_or_else(|| anyhow!("`{}` has no listener", section.label()))
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
