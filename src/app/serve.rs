//! Runs the gateway: binds, starts one thread with a runtime of its own per worker, and stops all of it in reverse.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::admin::{self, AdminState, NotReloaded};
use crate::app::build::{self, Foundation, Generation};
use crate::app::certificates;
use crate::app::load::Ready;
use crate::app::reload::{Call, InEffect, LastReload, Refused, Reloader};
use crate::app::service_manager;
use crate::app::signals::{ReloadSignal, StopSignals};
use crate::app::sockets::{Inherited, Listening};
use crate::app::sources::Sources;
use crate::app::takeover::{self, Predecessor};
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
    /// Sockets that systemd has bound.
    pub sockets: Vec<TcpListener>,
    pub beginning: Beginning,
}

/// How a process begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    Afresh,
    /// It takes the place of one that runs.
    Takeover,
}

/// Serves until SIGTERM or SIGINT, or until another process has taken over, then drains. `started` is called once requests
/// are taken.
///
/// # Errors
/// What could not be opened, bound or built: nothing was served then.
pub fn serve(given: Given, started: impl FnOnce(&Pipeline)) -> anyhow::Result<()> {
    let Given { ready, environment, log, diagnostics, sockets, beginning } = given;
    let workers = worker_count(ready.config.server.workers);
    let mut control = Control::open(&ready)?;
    let foundation = control.foundation(log.clone());
    let (path, watch, upgrade_socket) =
        (ready.path.clone(), Watch::new(&ready.files), ready.config.server.upgrade_socket.clone());
    let first = Arc::new(control.runtime.block_on(Generation::build(ready, &foundation, None))?);
    foundation.show_caches(&first.pipeline);
    foundation.show_upstreams(&first.upstreams);
    // Before anyone can connect: a signal that nobody waits for ends the process at once.
    let (mut signals, reload_signal) =
        control.runtime.block_on(async { anyhow::Ok((StopSignals::listen()?, ReloadSignal::listen()?)) })?;
    let mut listening = Listening::new(upgrade_socket.as_deref());
    let (predecessor, mut inherited) = inherit(sockets, beginning, upgrade_socket.as_deref())?;
    let config = &first.ready.config;
    let bound = listening.bind(&config.listeners, workers, &mut inherited)?;
    let admin_socket = listening.bind_admin(config.admin.address, &mut inherited)?;
    check_left(&inherited, predecessor.as_ref())?;
    listening.keep(&config.listeners, bound.kept);
    let in_effect = Arc::new(ArcSwap::new(first.clone()));
    let (calls, called) = mpsc::channel(WAITING_CALLS);
    let sources = control.start(&in_effect, admin_socket, calls.clone());
    let (drain, draining) = watch::channel(false);
    let ended = Arc::new(Notify::new());
    let threads = Workers::start(&first, bound.shares, &draining, &ended)?;
    let outcome = LastReload::at_start(clock::now().wall, &control.metrics, &in_effect);
    let (in_effect_then, ears) = (in_effect.clone(), threads.ears());
    let alive = control.runtime.spawn(service_manager::stay_alive(ears.clone()));
    let reloader =
        Reloader { path, environment, foundation, in_effect, workers: ears, listening, sources, watch, diagnostics, outcome };
    let reloads = control.runtime.spawn(reloader.run(called, reload_signal, draining));
    control.health.set("listeners", Ok(()));
    announce(&first.ready, &control.store, workers);
    let upgrades = control.runtime.block_on(async { upgrade_socket.as_deref().map(takeover::listen).transpose() })?;
    // From here on nothing can fail that would leave the place empty.
    if let Some(predecessor) = predecessor {
        predecessor.release();
    }
    service_manager::ready();
    started(&first.pipeline);
    let end = control.runtime.block_on(async {
        tokio::select! {
            () = signals.any() => End::Signal,
            () = ended.notified() => End::WorkerEnded,
            () = succeeded(upgrades, calls) => End::Succeeded,
        }
    });
    end.announce(in_effect_then.load().ready.config.server.drain_timeout);
    service_manager::stopping();
    control.health.drain();
    if end == End::Succeeded {
        control.leave_admin();
    }
    let _ = drain.send(true);
    let cut = threads.join();
    alive.abort();
    control.runtime.block_on(async { drop(reloads.await) });
    control.close();
    report_end(&cut, &log);
    cut.map(|_| ())
}

/// What a process inherits: from the one whose place it takes, else from systemd.
fn inherit(
    sockets: Vec<TcpListener>,
    beginning: Beginning,
    upgrade_socket: Option<&Path>,
) -> anyhow::Result<(Option<Predecessor>, Inherited)> {
    if beginning == Beginning::Afresh {
        return Ok((None, Inherited::new(sockets)));
    }
    let path =
        upgrade_socket.context("--takeover needs `server.upgrade_socket` in the config, here and of the process that runs")?;
    let Some(mut predecessor) = Predecessor::ask(path)? else {
        tracing::info!("nobody hands sockets over at {}: this is an ordinary start", path.display());
        return Ok((None, Inherited::new(sockets)));
    };
    let sockets = std::mem::take(&mut predecessor.sockets);
    Ok((Some(predecessor), Inherited::new(sockets)))
}

/// A socket that nobody serves would take connections and answer none.
fn check_left(inherited: &Inherited, predecessor: Option<&Predecessor>) -> anyhow::Result<()> {
    match (inherited.left().as_slice(), predecessor) {
        ([], _) => Ok(()),
        // The one that hands it over serves what waits there, and closes it.
        (_, Some(_)) => Ok(()),
        (left, None) => bail!(
            "sockets were passed for {}, and no listener of the config has that address: `address` is to be that of `ListenStream=`",
            left.join(", ")
        ),
    }
}

async fn succeeded(upgrades: Option<UnixListener>, calls: mpsc::Sender<Call>) {
    match upgrades {
        Some(upgrades) => takeover::successor(upgrades, calls).await,
        None => std::future::pending().await,
    }
}

/// Why a process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Signal,
    /// Half a gateway that calls itself ready is worse than none: whoever watches the process starts a whole one.
    WorkerEnded,
    Succeeded,
}

impl End {
    fn announce(self, time: Duration) {
        match self {
            Self::Signal => tracing::info!("stopping: requests in flight have {time:?}"),
            Self::WorkerEnded => tracing::error!("stopping, because a worker has ended: the others' requests have {time:?}"),
            Self::Succeeded => {
                tracing::info!("stopping, because another process has taken over: requests in flight have {time:?}");
            }
        }
    }
}

fn report_end(cut: &anyhow::Result<usize>, log: &AccessLog) {
    match cut {
        Ok(0) => tracing::info!("stopped; every request was finished"),
        Ok(cut) => tracing::warn!("stopped; {cut} connections were cut because the drain time was over"),
        Err(error) => tracing::error!("stopped; {error:#}"),
    }
    if !log.close(Duration::from_secs(2)) {
        tracing::warn!("the access log could not be written to its end");
    }
}

/// Everything that carries no request: store, counters, admin listener, keys of other issuers.
struct Control {
    runtime: Runtime,
    health: Health,
    metrics: Metrics,
    store: Store,
    counters: Option<Counters>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    stop_admin: watch::Sender<bool>,
    admin: Option<JoinHandle<std::io::Result<()>>>,
}

impl Control {
    fn open(ready: &Ready) -> anyhow::Result<Self> {
        let runtime = control_runtime()?;
        let health = Health::default();
        health.set("listeners", Err("not bound yet".to_owned()));
        let metrics = Metrics::default();
        let store = runtime.block_on(build::open_store(ready, runtime.handle().clone()))?;
        let counters = Counters::start(&ready.config.counters, runtime.handle().clone(), &metrics)?;
        if let Some(counters) = &counters {
            let store = store.clone();
            counters.share_changes(store.committed(), move || store.look_now());
        }
        let (stop, stop_admin) = (watch::Sender::new(false), watch::Sender::new(false));
        Ok(Self { runtime, health, metrics, store, counters, tasks: JoinSet::new(), stop, stop_admin, admin: None })
    }

    fn foundation(&self, log: AccessLog) -> Foundation {
        let _inside = self.runtime.enter();
        Foundation::new(self.store.clone(), self.counters.as_ref(), log, self.metrics.clone())
    }

    /// Starts what runs beside the requests. The keys of other issuers are kept fresh by what is returned.
    fn start(&mut self, in_effect: &InEffect, admin_socket: TcpListener, calls: mpsc::Sender<Call>) -> Sources {
        let handle = self.runtime.handle();
        let first = in_effect.load();
        let mut sources = Sources::new(handle.clone(), self.stop.subscribe());
        sources.keep(&first);
        if !first.key_sources().is_empty() {
            self.tasks.spawn_on(watch_keys(in_effect.clone(), self.health.clone(), self.stop.subscribe()), handle);
        }
        let keys_of = in_effect.clone();
        let state = AdminState {
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            refusals: first.pipeline.books.refusals.clone(),
            explain: explain_fn(in_effect.clone()),
            keys: Arc::new(move || keys_of.load().key_sources()),
            reload: reload_fn(calls),
        };
        self.admin = Some(handle.spawn(admin::serve(admin_socket, state, self.stop_admin.subscribe())));
        certificates::show(&self.metrics, in_effect.clone());
        self.tasks.spawn_on(certificates::watch(in_effect.clone(), self.stop.subscribe()), handle);
        self.tasks.spawn_on(watch_store(self.store.clone(), self.health.clone()), handle);
        sources
    }

    /// Whoever asks at the admin listener from now on is answered by the process that has taken over.
    fn leave_admin(&self) {
        self.stop_admin.send_replace(true);
    }

    fn close(mut self) {
        self.stop.send_replace(true);
        self.stop_admin.send_replace(true);
        self.tasks.abort_all();
        self.runtime.block_on(async {
            if let Some(admin) = self.admin {
                let _ = admin.await;
            }
            if let Some(counters) = &self.counters {
                counters.close().await;
            }
            self.store.close().await;
        });
    }
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
            calls.send(Call::Reload(answer)).await.map_err(|_| gone())?;
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
        let scheme = if listener.tls.is_some() { "https" } else { "http" };
        match &listener.decides_for {
            None => tracing::info!("listening on {scheme}://{} ({} workers)", listener.address, workers),
            Some(other) => tracing::info!("deciding for `{}` at {scheme}://{}/decisions", other.value, listener.address),
        }
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
