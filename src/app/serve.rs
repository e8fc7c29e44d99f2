//! Runs the gateway: binds, starts one thread with a runtime of its own per worker, and stops all of it in reverse.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::admin::{self, AdminState, NotReloaded};
use crate::app::build::{self, Foundation, Generation};
use crate::app::load::Ready;
use crate::app::reload::{Call, InEffect, LastReload, Refused, Reloader};
use crate::app::signals::{ReloadSignal, StopSignals};
use crate::app::sockets::{Listening, bind_error};
use crate::app::sources::Sources;
use crate::app::watch::Watch;
use crate::app::worker::Workers;
use crate::clock;
use crate::config::{self, CountersUrl};
use crate::counter::Counters;
use crate::observe::{AccessLog, Diagnostics, Health, Metrics};
use crate::pipeline::{Pipeline, Question};
use crate::store::Store;
use crate::token::KeySource;

/// What a request to be explained looks like.
const QUESTION: &str = "a question has a `method` and a `url`; it may have `headers` (a list of pairs, name and value), an `ip` \
                        and a `listener`";

/// How often the store is asked whether it can be read and written.
const STORE_CHECK: Duration = Duration::from_secs(2);
/// How often it is looked whether the keys of all issuers are known.
const KEYS_CHECK: Duration = Duration::from_millis(250);
/// Calls for a reload that may wait for the one before.
const WAITING_CALLS: usize = 8;

/// What the gateway is given by whoever starts it.
pub struct Given {
    pub ready: Ready,
    /// What `${env:NAME}` asks when the config is read again.
    pub environment: fn(&str) -> Option<String>,
    pub log: AccessLog,
    pub diagnostics: Arc<Diagnostics>,
}

/// Serves until SIGTERM or SIGINT, then drains. `started` is called once requests are taken.
///
/// # Errors
/// What could not be opened, bound or built: nothing was served then.
pub fn serve(given: Given, started: impl FnOnce(&Pipeline)) -> anyhow::Result<()> {
    let Given { ready, environment, log, diagnostics } = given;
    let control = control_runtime()?;
    let workers = worker_count(ready.config.server.workers);
    let health = Health::default();
    health.set("listeners", Err("not bound yet".to_owned()));
    let metrics = Metrics::default();
    let store = control.block_on(build::open_store(&ready, control.handle().clone()))?;
    let counters = Counters::start(&ready.config.counters, control.handle().clone(), &metrics)?;
    if let Some(counters) = &counters {
        let store = store.clone();
        counters.share_changes(store.committed(), move || store.look_now());
    }
    let foundation = control.block_on(async { Foundation::new(store.clone(), counters.as_ref(), log.clone(), metrics.clone()) });
    let (path, watch) = (ready.path.clone(), Watch::new(&ready.files));
    let first = Arc::new(control.block_on(Generation::build(ready, &foundation, None))?);
    foundation.show_caches(&first.pipeline);
    // Before anyone can connect: a signal that nobody waits for ends the process at once.
    let (mut signals, reload_signal) =
        control.block_on(async { anyhow::Ok((StopSignals::listen()?, ReloadSignal::listen()?)) })?;
    let mut listening = Listening::default();
    let listeners = &first.ready.config.listeners;
    let bound = listening.bind(listeners, workers)?;
    listening.keep(listeners, bound.kept);
    let admin_address = first.ready.config.admin.address;
    let admin_socket = TcpListener::bind(admin_address).map_err(|error| bind_error("admin", admin_address, &error))?;
    let (stop, stopping) = watch::channel(false);
    let (drain, draining) = watch::channel(false);
    let in_effect = Arc::new(ArcSwap::new(first.clone()));
    let mut sources = Sources::new(control.handle().clone(), stopping.clone());
    sources.keep(&first);
    if !first.key_sources().is_empty() {
        control.spawn(watch_keys(in_effect.clone(), health.clone(), stopping.clone()));
    }
    let (calls, called) = mpsc::channel(WAITING_CALLS);
    let keys_of = in_effect.clone();
    let state = AdminState {
        health: health.clone(),
        metrics: metrics.clone(),
        refusals: first.pipeline.books.refusals.clone(),
        explain: explain_fn(in_effect.clone()),
        keys: Arc::new(move || keys_of.load().key_sources()),
        reload: reload_fn(calls),
    };
    let admin = control.spawn(admin::serve(admin_socket, state, stopping.clone()));
    let watcher = control.spawn(watch_store(store.clone(), health.clone()));
    let ended = Arc::new(Notify::new());
    let threads = Workers::start(&first, bound.shares, &draining, &ended)?;
    let reloader = Reloader {
        path,
        environment,
        outcome: LastReload::at_start(clock::now().wall, &metrics, &in_effect),
        foundation,
        in_effect: in_effect.clone(),
        workers: threads.changes(),
        listening,
        sources,
        watch,
        diagnostics,
    };
    let reloads = control.spawn(reloader.run(called, reload_signal, draining.clone()));
    health.set("listeners", Ok(()));
    announce(&first.ready, &store, workers);
    started(&first.pipeline);
    control.block_on(async {
        tokio::select! {
            () = signals.any() => tracing::info!("stopping: requests in flight have {:?}", drain_time(&in_effect)),
            // Half a gateway that calls itself ready is worse than none: whoever watches the process starts a whole one.
            () = ended.notified() => {
                tracing::error!("stopping, because a worker has ended: the others' requests have {:?}", drain_time(&in_effect));
            }
        }
    });
    health.drain();
    let _ = drain.send(true);
    let cut = threads.join();
    watcher.abort();
    let _ = stop.send(true);
    control.block_on(async {
        let _ = reloads.await;
        let _ = admin.await;
        if let Some(counters) = &counters {
            counters.close().await;
        }
        store.close().await;
    });
    match &cut {
        Ok(0) => tracing::info!("stopped; every request was finished"),
        Ok(cut) => tracing::warn!("stopped; {cut} connections were cut because the drain time was over"),
        Err(error) => tracing::error!("stopped; {error:#}"),
    }
    if !log.close(Duration::from_secs(2)) {
        tracing::warn!("the access log could not be written to its end");
    }
    cut.map(|_| ())
}

fn drain_time(in_effect: &InEffect) -> Duration {
    in_effect.load().ready.config.server.drain_timeout
}

/// The runtime of everything that carries no request: store, admin, signals.
pub fn control_runtime() -> anyhow::Result<Runtime> {
    const FAILED: &str = "the control runtime cannot be started";
    // The process's first runtime makes a pair of sockets for signals, and panics where there is none to be had. Three pairs
    // are as many files as all of it takes.
    let room: std::io::Result<Vec<_>> = (0..3).map(|_| UnixStream::pair()).collect();
    drop(room.context(FAILED)?);
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).thread_name("control").enable_all();
    builder.build().context(FAILED)
}

fn worker_count(workers: config::Workers) -> usize {
    match workers {
        config::Workers::Auto => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        config::Workers::Exactly(count) => count,
    }
}

/// Not ready until the keys of every issuer were known once: a new process that cannot reach an issuer must not take the place
/// of one that could. Later an issuer that is away is an event for its tokens alone, and no reason to take the others' away.
async fn watch_keys(in_effect: InEffect, health: Health, mut stop: watch::Receiver<bool>) {
    let mut waited_for: Vec<Arc<KeySource>> = in_effect.load().key_sources();
    while !*stop.borrow() {
        let now = clock::now().wall;
        let wanted = in_effect.load().key_sources();
        let is_wanted = |source: &Arc<KeySource>| wanted.iter().any(|wanted| Arc::ptr_eq(wanted, source));
        waited_for.retain(|source| is_wanted(source) && source.current(now).is_err());
        let missing = waited_for.iter().find_map(|source| source.current(now).err().map(|none| none.detail));
        health.set("issuers", missing.map_or(Ok(()), Err));
        if waited_for.is_empty() {
            return;
        }
        let _ = tokio::time::timeout(KEYS_CHECK, stop.wait_for(|stop| *stop)).await;
    }
}

async fn watch_store(store: Store, health: Health) {
    loop {
        health.set("store", store.health().await.map_err(|failure| failure.to_string()));
        tokio::time::sleep(STORE_CHECK).await;
    }
}

fn reload_fn(calls: mpsc::Sender<Call>) -> admin::ReloadFn {
    Arc::new(move || {
        let calls = calls.clone();
        Box::pin(async move {
            let (answer, outcome) = oneshot::channel();
            let gone = || NotReloaded { code: "stopping", message: "the gateway is stopping".to_owned(), details: Value::Null };
            calls.send(answer).await.map_err(|_| gone())?;
            outcome.await.map_err(|_| gone())?.map_err(|refused| {
                let message = refused.words();
                let (code, details) = match refused {
                    Refused::Invalid { mistakes, .. } => ("invalid_config", mistakes),
                    Refused::Restart(keys) => ("restart_needed", json!(keys)),
                    Refused::Failed(_) => ("not_available", Value::Null),
                };
                NotReloaded { code, message, details }
            })
        })
    })
}

fn explain_fn(in_effect: InEffect) -> admin::ExplainFn {
    Arc::new(move |question| {
        let pipeline = in_effect.load().pipeline.clone();
        Box::pin(async move {
            // serde's own words would repeat what stands there, which may be a credential.
            let question: Question = serde_json::from_value(question).map_err(|_| QUESTION.to_owned())?;
            let explanation = pipeline.explain(&question, clock::now()).await?;
            serde_json::to_value(explanation).map_err(|error| error.to_string())
        })
    })
}

/// Says where the gateway listens and counts, and for a realm without accounts how to make the first.
fn announce(ready: &Ready, store: &Store, workers: usize) {
    for listener in &ready.config.listeners {
        tracing::info!("listening on http://{} ({} workers)", listener.address, workers);
    }
    tracing::info!("admin endpoints on http://{}", ready.config.admin.address);
    let counters = &ready.config.counters;
    match &counters.url {
        CountersUrl::Redis(url) => tracing::info!("limits are counted at {url}, with {} nodes", counters.nodes),
        CountersUrl::Memory if counters.nodes > 1 => {
            let why = "`counters.url` is \"memory:\": a limit lets through its whole quota on each node";
            tracing::warn!("each of the {} nodes counts for itself, because {why}", counters.nodes);
        }
        CountersUrl::Memory => {}
    }
    let mut realms: Vec<&str> = Vec::new();
    for api in &ready.apis {
        let realm = &*api.facts.realm;
        if realms.contains(&realm) || store.directory().account_count(realm) > 0 {
            continue;
        }
        realms.push(realm);
        let highest = api.vocabulary.roles.iter().max_by_key(|(_, rule)| rule.rank).map_or("ROLE", |(name, _)| name);
        let config = ready.path.display();
        tracing::info!(
            "the realm {realm} has no account yet; the first admin: gateward user add admin --role {highest} --realm {realm} --config {config}"
        );
    }
}
