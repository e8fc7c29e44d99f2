//! One worker: a thread with a runtime of its own, a socket of every listener and connections of its own to every upstream.
//! It is told of each new generation of the config, and goes over to it between two requests.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};
use http::{Request, Response};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::app::build::Generation;
use crate::app::sockets::Spot;
use crate::body::{Body, Incoming};
use crate::clock;
use crate::config::Listener;
use crate::listener::{self, ConnectionInfo, Fault, Handler, Live, Settings, Trust, client_address};
use crate::pipeline::{self, Arrival, Serves, Worker};

/// What a worker is told.
pub enum Told {
    Change(Change),
    /// To be answered by a worker that is alive.
    Ping(oneshot::Sender<()>),
}

/// The config to serve from now on, and sockets for listeners that the worker does not have yet.
pub struct Change {
    pub generation: Arc<Generation>,
    pub sockets: BTreeMap<Spot, Vec<TcpListener>>,
    /// Answered once every request that comes is served by it.
    pub done: oneshot::Sender<()>,
}

/// The threads of all workers.
pub struct Workers {
    threads: Vec<JoinHandle<anyhow::Result<usize>>>,
    ears: Vec<mpsc::Sender<Told>>,
}

impl Workers {
    /// Starts as many as there are shares of sockets. `ended` is notified when one of them ends.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        generation: &Arc<Generation>,
        shares: Vec<BTreeMap<Spot, Vec<TcpListener>>>,
        draining: &watch::Receiver<bool>,
        ended: &Arc<Notify>,
    ) -> anyhow::Result<Self> {
        let workers = shares.len();
        let mut all = Self { threads: Vec::new(), ears: Vec::new() };
        for (number, sockets) in shares.into_iter().enumerate() {
            let (sender, ear) = mpsc::channel(1);
            let (first, draining) = (generation.clone(), draining.clone());
            let ended = OnEnd(ended.clone());
            let run = move || {
                let _ended = ended;
                work(&first, sockets, workers, ear, draining)
            };
            let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(run);
            all.threads.push(thread.context("a worker thread cannot be started")?);
            all.ears.push(sender);
        }
        Ok(all)
    }

    /// How they are told something.
    pub fn ears(&self) -> Vec<mpsc::Sender<Told>> {
        self.ears.clone()
    }

    /// Waits for all of them, also when one has failed: the others still have requests to finish. How many connections were
    /// cut.
    ///
    /// # Errors
    /// The first one.
    pub fn join(self) -> anyhow::Result<usize> {
        let ends: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        ends.into_iter().map(|end| end.map_err(|_| anyhow!("a worker thread panicked"))?).sum()
    }
}

/// Says that a worker's thread is over, however it came to that.
struct OnEnd(Arc<Notify>);

impl Drop for OnEnd {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// One worker's life, until the drain is over. How many connections were cut.
fn work(
    first: &Arc<Generation>,
    sockets: BTreeMap<Spot, Vec<TcpListener>>,
    workers: usize,
    mut ear: mpsc::Receiver<Told>,
    mut draining: watch::Receiver<bool>,
) -> anyhow::Result<usize> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let runtime = runtime.context("a worker's runtime cannot be started")?;
    runtime.block_on(async move {
        let mut floor = Floor { workers, open: BTreeMap::new(), pools: Vec::new(), serving: JoinSet::new() };
        floor.adopt(first, sockets);
        let mut cut = 0;
        loop {
            tokio::select! {
                biased;
                _ = draining.wait_for(|begun| *begun) => break,
                Some(told) = ear.recv() => floor.hear(told),
                Some(ended) = floor.serving.join_next() => cut += number_cut(ended)?,
            }
        }
        floor.open.values().for_each(Open::drain);
        while let Some(ended) = floor.serving.join_next().await {
            cut += number_cut(ended)?;
        }
        Ok(cut)
    })
}

fn number_cut(ended: Result<std::io::Result<usize>, tokio::task::JoinError>) -> anyhow::Result<usize> {
    ended.context("a listener's task ended early")?.context("a socket cannot be watched")
}

/// What a worker has open.
struct Floor {
    workers: usize,
    open: BTreeMap<Spot, Open>,
    /// Connections to each upstream of the generation.
    pools: Vec<(Arc<pipeline::Fleet>, Rc<pipeline::Upstream>)>,
    serving: JoinSet<std::io::Result<usize>>,
}

/// A listener that is served.
struct Open {
    gate: Rc<Gate>,
    settings: Rc<Live<Settings>>,
    drain: watch::Sender<bool>,
}

impl Open {
    fn drain(&self) {
        self.drain.send_replace(true);
    }
}

impl Floor {
    fn hear(&mut self, told: Told) {
        let answer = match told {
            Told::Change(Change { generation, sockets, done }) => {
                self.adopt(&generation, sockets);
                done
            }
            Told::Ping(answer) => answer,
        };
        // Who asked may have gone: a change holds all the same.
        let _ = answer.send(());
    }

    /// Goes over to a generation. Requests that have begun keep theirs, and so do connections to upstreams that are gone.
    fn adopt(&mut self, generation: &Arc<Generation>, mut sockets: BTreeMap<Spot, Vec<TcpListener>>) {
        let worker = self.worker(generation);
        let config = &generation.ready.config;
        let sharers = self.workers.saturating_mul(config.listeners.len());
        let mut open = BTreeMap::new();
        for listener in &config.listeners {
            let spot = Spot::of(listener);
            let settings = Settings::new(listener, sharers, config.server.drain_timeout);
            let settings = settings.with_tls(generation.certificates.of(listener));
            let view = View::new(worker.clone(), listener);
            let kept = match self.open.remove(&spot) {
                Some(kept) => {
                    kept.settings.set(settings);
                    kept.gate.view.set(view);
                    kept
                }
                None => self.serve(settings, view, sockets.remove(&spot).unwrap_or_default()),
            };
            open.insert(spot, kept);
        }
        let gone = std::mem::replace(&mut self.open, open);
        gone.values().for_each(Open::drain);
    }

    fn serve(&mut self, settings: Settings, view: View, sockets: Vec<TcpListener>) -> Open {
        let gate = Rc::new(Gate { view: Live::new(view), warned: Cell::new(false) });
        let (drain, draining) = watch::channel(false);
        let settings = Live::new(settings);
        for socket in sockets {
            self.serving.spawn_local(listener::serve(socket, settings.clone(), gate.clone(), draining.clone()));
        }
        Open { gate, settings, drain }
    }

    fn worker(&mut self, generation: &Generation) -> Rc<Worker> {
        let mut pools: Vec<(Arc<pipeline::Fleet>, Rc<pipeline::Upstream>)> = Vec::new();
        let mut upstreams = Vec::new();
        for upstream in &generation.upstreams {
            let kept = pools.iter().chain(&self.pools).find(|(known, _)| Arc::ptr_eq(known, upstream));
            let pool = kept.map_or_else(|| Rc::new(pipeline::Upstream::new(upstream.clone())), |(_, pool)| pool.clone());
            pools.push((upstream.clone(), pool.clone()));
            upstreams.push(pool);
        }
        self.pools = pools;
        let response_timeouts = generation.upstreams.iter().map(|upstream| upstream.config.timeouts.response).collect();
        Rc::new(Worker { pipeline: generation.pipeline.clone(), upstreams, response_timeouts })
    }
}

/// One listener of one worker: says who the client is, and hands the request on.
struct Gate {
    view: Rc<Live<View>>,
    /// An address header from someone who is not trusted was ignored, and that was said.
    warned: Cell<bool>,
}

/// A generation as one listener sees it. A request takes it once, when it begins.
struct View {
    worker: Rc<Worker>,
    listener: Arc<str>,
    serves: Serves,
    trusted: Trust,
}

impl View {
    fn new(worker: Rc<Worker>, config: &Listener) -> Self {
        let serves = if config.decides_for.is_some() { Serves::Decisions } else { Serves::Requests };
        Self { worker, listener: config.name.value.as_str().into(), serves, trusted: Trust::new(&config.trusted_proxies) }
    }
}

impl Handler for Gate {
    async fn call(&self, request: Request<Incoming>, connection: ConnectionInfo, fault: Option<Fault>) -> Response<Body> {
        let view = self.view.get();
        let client = client_address(connection.peer.ip(), request.headers(), &view.trusted);
        if let Some(header) = client.ignored_header
            && !self.warned.replace(true)
        {
            let peer = connection.peer.ip();
            tracing::warn!(%peer, header, "an address header was ignored: its sender is not in trusted_proxies; said once");
        }
        let ConnectionInfo { peer, tls } = connection;
        let (listener, serves) = (view.listener.clone(), view.serves);
        let arrival = Arrival { now: clock::now(), listener, serves, client, peer, tls, fault };
        view.worker.clone().serve(request, arrival).await
    }
}
