//! Takes a changed config over while requests go on: reads and checks it, builds all of it, and only then goes over to it, as a
//! whole or not at all.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::app::build::{Foundation, Generation};
use crate::app::changes::Changes;
use crate::app::load::{Ready, load};
use crate::app::service_manager;
use crate::app::signals::ReloadSignal;
use crate::app::sockets::{Bound, Inherited, Listening};
use crate::app::sources::Sources;
use crate::app::watch::Watch;
use crate::app::worker::{Change, Told};
use crate::clock::{self, Timestamp};
use crate::config::report::Report;
use crate::observe::{Diagnostics, Metrics};

/// The config in effect, for whoever is not on the path of a request.
pub type InEffect = Arc<ArcSwap<Generation>>;

/// Something that is asked of the reloader, and where the answer goes.
pub enum Call {
    Reload(oneshot::Sender<Result<Value, Refused>>),
    /// Copies of all sockets that are listened on, for a process that takes over.
    Lend(oneshot::Sender<Vec<TcpListener>>),
}

/// Why a config was not taken over. The one before it goes on.
#[derive(Debug)]
pub enum Refused {
    /// Its mistakes, each with its place.
    Invalid { words: String, mistakes: Value },
    /// Keys that a running process cannot change.
    Restart(Vec<&'static str>),
    /// Something that it needs is not to be had.
    Failed(String),
}

/// What a reload works on. One at a time: it is owned by the task that makes them.
pub struct Reloader {
    pub path: PathBuf,
    pub environment: fn(&str) -> Option<String>,
    pub foundation: Foundation,
    pub in_effect: InEffect,
    pub workers: Vec<mpsc::Sender<Told>>,
    pub listening: Listening,
    pub sources: Sources,
    pub watch: Watch,
    pub diagnostics: Arc<Diagnostics>,
    pub outcome: Arc<LastReload>,
}

/// How the last reload ended.
#[derive(Default)]
pub struct LastReload {
    failed: AtomicBool,
    at: AtomicU64,
}

impl Reloader {
    /// Reloads whenever a call, a signal or a changed file asks for it, until `draining` becomes true.
    pub async fn run(mut self, mut calls: mpsc::Receiver<Call>, mut signal: ReloadSignal, mut draining: watch::Receiver<bool>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = begun(&mut draining) => return,
                Some(call) = calls.recv() => self.answer(call).await,
                () = signal.comes() => drop(self.reload("SIGHUP").await),
                _ = looks.tick() => {
                    if self.in_effect.load().ready.config.server.watch && self.watch.look() {
                        drop(self.reload("a changed file").await);
                    }
                }
            }
        }
    }

    async fn answer(&mut self, call: Call) {
        // Who asked may have gone.
        match call {
            Call::Reload(answer) => drop(answer.send(self.reload("a call").await)),
            Call::Lend(answer) => match self.listening.lend() {
                Ok(sockets) => drop(answer.send(sockets)),
                Err(error) => tracing::error!("the sockets cannot be handed over: {error}"),
            },
        }
    }

    /// Reads the config anew and goes over to it. Says in the log what came of it.
    async fn reload(&mut self, cause: &str) -> Result<Value, Refused> {
        let begun = clock::tick();
        service_manager::reloading();
        let outcome = self.take_over().await;
        service_manager::ready();
        self.outcome.note(&outcome, clock::now().wall);
        let number = self.in_effect.load().number;
        match outcome {
            Ok(changes) => {
                let time = Duration::from_micros(clock::tick().since(begun));
                let what = match changes.sections() {
                    [] => "nothing has changed".to_owned(),
                    sections => sections.join(", "),
                };
                tracing::info!("generation {number} of the config is in effect after {time:?} (asked for by {cause}): {what}");
                for route in changes.routes.iter().filter(|route| route.opens) {
                    tracing::warn!("the route {} of API {} ({}) is public now", route.name, route.api, route.path);
                }
                let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                Ok(json!({ "generation": number, "microseconds": micros, "sections": changes.sections(), "changes": changes }))
            }
            Err(refused) => {
                let why = refused.words();
                tracing::error!("the config was not reloaded (asked for by {cause}), generation {number} goes on: {why}");
                Err(refused)
            }
        }
    }

    async fn take_over(&mut self) -> Result<Changes, Refused> {
        let old = self.in_effect.load_full();
        let ready = self.read(&old)?;
        let changes = Changes::between(&old.ready, &ready);
        if !changes.restart.is_empty() {
            return Err(Refused::Restart(changes.restart));
        }
        let failed = |error: anyhow::Error| Refused::Failed(format!("{error:#}"));
        let bound =
            self.listening.bind(&ready.config.listeners, self.workers.len(), &mut Inherited::default()).map_err(failed)?;
        let new = Generation::build(ready, &self.foundation, Some(&old)).await.map_err(failed)?;
        self.sources.fetch_new(&new).await.map_err(failed)?;
        self.go_over(Arc::new(new), bound).await;
        Ok(changes)
    }

    fn read(&mut self, old: &Generation) -> Result<Ready, Refused> {
        let mut report = Report::default();
        let ready = load(&self.path, &self.environment, &mut report);
        self.watch.read(ready.as_ref().map_or_else(|| report.files(), |ready| &ready.files), &old.ready.files);
        ready.ok_or_else(|| Refused::Invalid { words: report.to_string(), mistakes: json!(report.diagnostics()) })
    }

    /// Nothing in here can fail.
    async fn go_over(&mut self, new: Arc<Generation>, bound: Bound) {
        let listeners = &new.ready.config.listeners;
        self.foundation.show_caches(&new.pipeline);
        self.foundation.show_upstreams(&new.upstreams);
        self.listening.keep(listeners, bound.kept);
        let mut answers = Vec::new();
        for (worker, sockets) in self.workers.iter().zip(bound.shares) {
            let (done, answer) = oneshot::channel();
            // A worker that has ended stops the whole process, which is under way then.
            if worker.send(Told::Change(Change { generation: new.clone(), sockets, done })).await.is_ok() {
                answers.push(answer);
            }
        }
        for answer in answers {
            let _ = answer.await;
        }
        // Only now is every request served by it: whoever reads its number may rely on that.
        self.in_effect.store(new.clone());
        self.sources.keep(&new);
        self.diagnostics.set_level(new.ready.config.log.level);
    }
}

async fn begun(draining: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could say so.
    let _ = draining.wait_for(|begun| *begun).await;
}

impl Refused {
    /// For the log and for whoever asked.
    pub fn words(&self) -> String {
        match self {
            Self::Invalid { words, .. } => words.clone(),
            Self::Restart(keys) => {
                let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
                format!("{} can only change with a restart", keys.join(", "))
            }
            Self::Failed(why) => why.clone(),
        }
    }
}

impl LastReload {
    /// The start counts as the first: it has succeeded.
    pub fn at_start(now: Timestamp, metrics: &Metrics, in_effect: &InEffect) -> Arc<Self> {
        let last = Arc::new(Self::default());
        last.note(&Ok::<(), Refused>(()), now);
        let shown = in_effect.clone();
        let whole = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        metrics.gauge("gateward_config_generation", "Which config is in effect, counted from 1 at the start", move || {
            whole(shown.load().number)
        });
        let shown = last.clone();
        let help = "Whether the last config that was to be taken over was: 1 or 0";
        metrics.gauge("gateward_config_last_reload_success", help, move || {
            f64::from(u8::from(!shown.failed.load(Ordering::Relaxed)))
        });
        let shown = last.clone();
        let help = "When a config was read last, whatever became of it, as Unix time";
        metrics
            .gauge("gateward_config_last_reload_timestamp_seconds", help, move || whole(shown.at.load(Ordering::Relaxed) / 1000));
        last
    }

    fn note<T>(&self, outcome: &Result<T, Refused>, at: Timestamp) {
        self.failed.store(outcome.is_err(), Ordering::Relaxed);
        self.at.store(at.0, Ordering::Relaxed);
    }
}

/// How often files are looked at; a change is taken over when two looks have found the same.
const LOOK: Duration = Duration::from_secs(1);
