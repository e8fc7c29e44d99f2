//! Runs the gateway: binds, starts one thread with a runtime of its own per worker, and stops all of it in reverse.

use std::cell::Cell;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use http::{Request, Response};
use tokio::runtime::{Builder, LocalOptions, Runtime};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::admin::{self, AdminState};
use crate::app::build;
use crate::app::certificates::Certificates;
use crate::app::load::Ready;
use crate::app::signals::StopSignals;
use crate::body::{Body, Incoming};
use crate::clock;
use crate::config::{CountersUrl, Listener, Upstream, Workers};
use crate::counter::Counters;
use crate::listener::{self, ConnectionInfo, Fault, Handler, Settings, Trust, client_address};
use crate::observe::{AccessLog, Health, Metrics};
use crate::pipeline::{self, Arrival, Pipeline, Question, Worker};
use crate::store::Store;
use crate::token::KeySource;

/// What a request to be explained looks like.
const QUESTION: &str = "a question has a `method` and a `url`; it may have `headers` (a list of pairs, name and value), an `ip` \
                        and a `listener`";

/// How often the store is asked whether it can be read and written.
const STORE_CHECK: Duration = Duration::from_secs(2);
/// How often it is looked whether the keys of all issuers are known.
const KEYS_CHECK: Duration = Duration::from_millis(250);

/// Serves until SIGTERM or SIGINT, then drains. `started` is called once requests are taken.
///
/// # Errors
/// What could not be opened, bound or built: nothing was served then.
pub fn serve(ready: &Ready, log: &AccessLog, started: impl FnOnce(&Pipeline)) -> anyhow::Result<()> {
    let control = control_runtime()?;
    let workers = worker_count(ready.config.server.workers);
    let health = Health::default();
    health.set("listeners", Err("not bound yet".to_owned()));
    let metrics = Metrics::default();
    let certificates = Certificates::open(&ready.config, &metrics)?;
    let store = control.block_on(build::open_store(ready, control.handle().clone()))?;
    let counters = Counters::start(&ready.config.counters, control.handle().clone(), &metrics)?;
    if let Some(counters) = &counters {
        let store = store.clone();
        counters.share_changes(store.committed(), move || store.look_now());
    }
    let pipeline = control.block_on(build::pipeline(ready, &store, counters.as_ref(), log.clone(), metrics.clone()))?;
    // Before anyone can connect: a signal that nobody waits for ends the process at once.
    let mut signals = control.block_on(async { StopSignals::listen() })?;
    let sockets = bind_all(ready, workers)?;
    let admin_address = ready.config.admin.address;
    let admin_socket = TcpListener::bind(admin_address).map_err(|error| bind_error("admin", admin_address, &error))?;
    let (stop, stopping) = watch::channel(false);
    let state = AdminState {
        health: health.clone(),
        metrics,
        refusals: pipeline.books.refusals.clone(),
        explain: explain_fn(pipeline.clone()),
        keys: key_sources(&pipeline),
    };
    follow_keys(&control, &state.keys, &health, &stopping);
    let admin = control.spawn(admin::serve(admin_socket, state, stopping.clone()));
    control.spawn(certificates.clone().watch(stopping.clone()));
    let watcher = control.spawn(watch_store(store.clone(), health.clone()));
    let (drain, draining) = watch::channel(false);
    let ended = Arc::new(Notify::new());
    let threads = start_workers(ready, &certificates, &pipeline, sockets, &draining, &ended)?;
    health.set("listeners", Ok(()));
    announce(ready, &store, workers);
    started(&pipeline);
    let time = ready.config.server.drain_timeout;
    control.block_on(async {
        tokio::select! {
            () = signals.any() => tracing::info!("stopping: requests in flight have {time:?}"),
            // Half a gateway that calls itself ready is worse than none: whoever watches the process starts a whole one.
            () = ended.notified() => tracing::error!("stopping, because a worker has ended: the others' requests have {time:?}"),
        }
    });
    health.drain();
    let _ = drain.send(true);
    let cut = join(threads);
    watcher.abort();
    let _ = stop.send(true);
    control.block_on(async {
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

fn worker_count(workers: Workers) -> usize {
    match workers {
        Workers::Auto => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        Workers::Exactly(count) => count,
    }
}

/// Sockets by listener, each with one for every worker.
fn bind_all(ready: &Ready, workers: usize) -> anyhow::Result<Vec<Vec<TcpListener>>> {
    let bind = |listener: &Listener| {
        listener::bind(listener, workers).map_err(|error| bind_error(&listener.name.value, listener.address, &error))
    };
    ready.config.listeners.iter().map(bind).collect()
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the operating system's errors are an open set: the others are said in its words"
)]
fn bind_error(name: &str, address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow!("the listener `{name}` cannot have {address}: another process has it; stop that one or choose another port")
        }
        std::io::ErrorKind::PermissionDenied => {
            anyhow!("the listener `{name}` may not have {address}: ports below 1024 need the capability CAP_NET_BIND_SERVICE")
        }
        _ => anyhow!("the listener `{name}` cannot have {address}: {error}"),
    }
}

type Threads = Vec<JoinHandle<anyhow::Result<usize>>>;

fn start_workers(
    ready: &Ready,
    certificates: &Certificates,
    pipeline: &Arc<Pipeline>,
    sockets: Vec<Vec<TcpListener>>,
    draining: &watch::Receiver<bool>,
    ended: &Arc<Notify>,
) -> anyhow::Result<Threads> {
    let workers = sockets.first().map_or(0, Vec::len);
    let upstreams: Vec<Upstream> = ready
        .config
        .apis
        .iter()
        .map(|api| ready.config.upstream_of(api))
        .collect::<Option<_>>()
        .context("an API has no upstream")?;
    let mut by_worker: Vec<Vec<(Listener, TcpListener)>> = (0..workers).map(|_| Vec::new()).collect();
    for (listener, own) in ready.config.listeners.iter().zip(sockets) {
        for (worker, socket) in by_worker.iter_mut().zip(own) {
            worker.push((listener.clone(), socket));
        }
    }
    let drain_timeout = ready.config.server.drain_timeout;
    let mut threads = Vec::new();
    for (number, sockets) in by_worker.into_iter().enumerate() {
        let (pipeline, upstreams, draining) = (pipeline.clone(), upstreams.clone(), draining.clone());
        let certificates = certificates.clone();
        let sharers = workers.saturating_mul(sockets.len());
        let ended = OnEnd(ended.clone());
        let run = move || {
            let _ended = ended;
            work(pipeline, &upstreams, &certificates, sockets, sharers, drain_timeout, &draining)
        };
        let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(run);
        threads.push(thread.context("a worker thread cannot be started")?);
    }
    Ok(threads)
}

/// One worker's life: its listeners on its own runtime, until the drain is over.
fn work(
    pipeline: Arc<Pipeline>,
    upstreams: &[Upstream],
    certificates: &Certificates,
    sockets: Vec<(Listener, TcpListener)>,
    sharers: usize,
    drain_timeout: Duration,
    draining: &watch::Receiver<bool>,
) -> anyhow::Result<usize> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let runtime = runtime.context("a worker's runtime cannot be started")?;
    runtime.block_on(async move {
        let worker = Rc::new(Worker {
            pipeline,
            upstreams: upstreams.iter().map(|upstream| Rc::new(pipeline::Upstream::new(upstream))).collect(),
            response_timeouts: upstreams.iter().map(|upstream| upstream.timeouts.response).collect(),
        });
        let mut serving = JoinSet::new();
        for (config, socket) in sockets {
            let settings = Rc::new(Settings::new(&config, sharers, drain_timeout).with_tls(certificates.of(&config)));
            let gate = Rc::new(Gate::new(worker.clone(), &config));
            serving.spawn_local(listener::serve(socket, settings, gate, draining.clone()));
        }
        let mut cut = 0;
        while let Some(ended) = serving.join_next().await {
            cut += ended.context("a listener's task ended early")?.context("a socket cannot be watched")?;
        }
        Ok(cut)
    })
}

/// Waits for all of them, also when one has failed: the others still have requests to finish.
fn join(threads: Threads) -> anyhow::Result<usize> {
    let ends: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
    ends.into_iter().map(|end| end.map_err(|_| anyhow!("a worker thread panicked"))?).sum()
}

/// Says that a worker's thread is over, however it came to that.
struct OnEnd(Arc<Notify>);

impl Drop for OnEnd {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// One listener of one worker: says who the client is, and hands the request on.
struct Gate {
    worker: Rc<Worker>,
    listener: Arc<str>,
    trusted: Trust,
    /// An address header from someone who is not trusted was ignored, and that was said.
    warned: Cell<bool>,
}

impl Gate {
    fn new(worker: Rc<Worker>, config: &Listener) -> Self {
        let trusted = Trust::new(&config.trusted_proxies);
        Self { worker, listener: config.name.value.as_str().into(), trusted, warned: Cell::new(false) }
    }
}

impl Handler for Gate {
    async fn call(&self, request: Request<Incoming>, connection: ConnectionInfo, fault: Option<Fault>) -> Response<Body> {
        let client = client_address(connection.peer.ip(), request.headers(), &self.trusted);
        if let Some(header) = client.ignored_header
            && !self.warned.replace(true)
        {
            let peer = connection.peer.ip();
            tracing::warn!(%peer, header, "an address header was ignored: its sender is not in trusted_proxies; said once");
        }
        let ConnectionInfo { peer, tls } = connection;
        let arrival = Arrival { now: clock::now(), listener: self.listener.clone(), client, peer, tls, fault };
        self.worker.clone().serve(request, arrival).await
    }
}

fn key_sources(pipeline: &Pipeline) -> Arc<[Arc<KeySource>]> {
    pipeline.services.iter().flat_map(|service| &service.authenticator.issuers).map(|issuer| issuer.keys.clone()).collect()
}

/// Fetches the keys of other issuers, and goes on to do so.
fn follow_keys(control: &Runtime, keys: &Arc<[Arc<KeySource>]>, health: &Health, stopping: &watch::Receiver<bool>) {
    for source in keys.iter().cloned() {
        control.spawn(source.run(stopping.clone()));
    }
    if !keys.is_empty() {
        control.spawn(watch_keys(keys.clone(), health.clone(), stopping.clone()));
    }
}

/// Not ready until the keys of every issuer were known once: a new process that cannot reach an issuer must not take the place
/// of one that could. Later an issuer that is away is an event for its tokens alone, and no reason to take the others' away.
async fn watch_keys(sources: Arc<[Arc<KeySource>]>, health: Health, mut stop: watch::Receiver<bool>) {
    let mut waited_for: Vec<Arc<KeySource>> = sources.to_vec();
    while !*stop.borrow() {
        let now = clock::now().wall;
        waited_for.retain(|source| source.current(now).is_err());
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

fn explain_fn(pipeline: Arc<Pipeline>) -> admin::ExplainFn {
    Arc::new(move |question| {
        let pipeline = pipeline.clone();
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
        tracing::info!("listening on {scheme}://{} ({} workers)", listener.address, workers);
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
