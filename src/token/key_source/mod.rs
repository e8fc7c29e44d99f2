//! The keys of one other issuer, kept fresh in the background. A request only ever looks at what is there: it waits for no
//! fetch, and when there is nothing to judge by, that is said, never guessed.

mod discovery;
mod schedule;
mod status;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::clock::{self, Now, Tick, Timestamp};
use crate::config::JwsAlgorithm;
use crate::outbound::{Client, FetchLimits};
use crate::random;
use crate::token::KeySet;
pub use schedule::Miss;
use schedule::{Cause, Schedule};
pub use status::{KeyLine, KeyStatus};

/// Where one issuer's keys come from, and those that it has now.
pub struct KeySource {
    /// What logs and commands call the issuer.
    label: String,
    current: ArcSwapOption<Keys>,
    /// `None` where the keys are in the config.
    remote: Option<Remote>,
}

/// A set of keys as it was fetched.
#[derive(Debug)]
pub struct Keys {
    pub set: KeySet,
    /// Grows by one whenever the set is another one than before. Says nothing across two sources.
    pub generation: u64,
    pub fetched_at: Timestamp,
}

/// How keys are fetched.
#[derive(Clone)]
pub struct Fetching {
    pub place: KeyPlace,
    pub client: Client,
    /// What the issuer's tokens may be signed with.
    pub algorithms: Vec<JwsAlgorithm>,
    pub refresh_interval: Duration,
    /// How long after a fetch its keys may be used.
    pub max_stale: Duration,
}

/// Where keys are fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// Where the issuer's metadata says.
    Discover {
        issuer: String,
    },
    Url(String),
}

/// There are no keys that may be used: a failure of ours or the issuer's, never the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoKeys {
    /// For operators.
    pub detail: String,
}

struct Remote {
    fetching: Fetching,
    progress: Mutex<Progress>,
    /// Who holds it may fetch.
    turn: tokio::sync::Mutex<()>,
    /// Tells the loop that a fetch may be due earlier.
    wishes: Notify,
}

struct Progress {
    schedule: Schedule,
    last_error: Option<String>,
    /// Where the keys were found last.
    url: Option<String>,
}

/// A fetch that has begun, and is over when this is dropped: also when nobody waits for it any longer.
struct Flight<'a>(&'a Remote);

impl KeySource {
    /// Keys that are fetched. There are none until [`Self::run`] or [`Self::refresh_now`] has brought some.
    pub fn fetched(label: impl Into<String>, fetching: Fetching) -> Arc<Self> {
        let url = match &fetching.place {
            KeyPlace::Discover { .. } => None,
            KeyPlace::Url(url) => Some(url.clone()),
        };
        let progress = Progress { schedule: Schedule::new(fetching.refresh_interval), last_error: None, url };
        let (turn, wishes) = (tokio::sync::Mutex::default(), Notify::new());
        let remote = Some(Remote { fetching, progress: Mutex::new(progress), turn, wishes });
        Arc::new(Self { label: label.into(), current: ArcSwapOption::empty(), remote })
    }

    /// Keys that never change.
    pub fn fixed(label: impl Into<String>, set: KeySet) -> Arc<Self> {
        let keys = Keys { set, generation: FIRST_GENERATION, fetched_at: clock::now().wall };
        Arc::new(Self { label: label.into(), current: ArcSwapOption::from_pointee(keys), remote: None })
    }

    /// The keys to judge a token by. Takes no lock where there are some.
    ///
    /// # Errors
    /// [`NoKeys`] when none were ever fetched, none for too long, or the issuer has taken all of them back.
    pub fn current(&self, now: Timestamp) -> Result<Arc<Keys>, NoKeys> {
        let keys = self.current.load_full();
        let Some(remote) = &self.remote else { return keys.ok_or_else(|| self.no_keys("there are none")) };
        match keys {
            Some(keys) if keys.set.is_empty() => {
                Err(self.no_keys(&format!("the issuer shows none that can be used. {}", remote.trouble())))
            }
            Some(keys) if now <= remote.usable_until(&keys) => Ok(keys),
            Some(keys) => Err(self.no_keys(&format!("those of {} are too old. {}", keys.fetched_at, remote.trouble()))),
            None => Err(self.no_keys(&format!("none were fetched yet. {}", remote.trouble()))),
        }
    }

    /// What it means that none of the keys answers to this `kid`. Has the keys fetched where that may help; waits for
    /// nothing.
    pub fn miss(&self, kid: &str, now: Tick) -> Miss {
        let Some(remote) = &self.remote else { return Miss::Unknown };
        let mut progress = remote.progress();
        // They may have come since the caller looked; before the lock that would be too early to say.
        if self.current.load().as_ref().is_some_and(|keys| keys.set.knows(kid)) {
            return Miss::Pending;
        }
        let (before, _) = progress.schedule.due();
        let miss = progress.schedule.miss(kid, now);
        if progress.schedule.due().0 < before {
            remote.wishes.notify_one();
        }
        miss
    }

    /// Keeps the keys fresh until told to stop. Returns at once where nothing is fetched.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let Some(remote) = &self.remote else { return };
        tokio::select! {
            // An error means that nobody is left who could say so.
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.keep_fresh(remote) => {}
        }
    }

    async fn keep_fresh(&self, remote: &Remote) {
        loop {
            let (due, cause) = remote.progress().schedule.due();
            let pause = Duration::from_micros(due.since(clock::now().tick));
            tokio::select! {
                biased;
                () = remote.wishes.notified() => continue,
                () = sleep(pause) => {}
            }
            // A failure was logged, and decides when to try again.
            let _ = self.refresh(remote, cause).await;
        }
    }

    /// Fetches the keys now.
    ///
    /// # Errors
    /// Why there are no newer ones; the old ones stay.
    /// Whether its keys are fetched, and not in the config.
    pub fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    pub async fn refresh_now(&self) -> Result<(), String> {
        match &self.remote {
            Some(remote) => self.refresh(remote, Cause::Operator).await,
            None => Err(format!("the keys of {} are in the config; nothing is fetched", self.label)),
        }
    }

    /// One fetch at a time. Whoever has waited for one that began after the call takes its outcome.
    async fn refresh(&self, remote: &Remote, cause: Cause) -> Result<(), String> {
        let begun = remote.progress().schedule.begun();
        let _turn = remote.turn.lock().await;
        {
            let progress = remote.progress();
            if progress.schedule.begun() != begun {
                return progress.last_error.clone().map_or(Ok(()), Err);
            }
        }
        let _flight = Flight::begin(remote, cause);
        match remote.fetch().await {
            Ok((set, max_age)) => {
                self.take(remote, set, max_age);
                Ok(())
            }
            Err(why) => {
                let why = match why {
                    Trouble::Fetch(why) => why,
                    Trouble::Withdrawn(set, why) => {
                        self.withdraw(set);
                        why
                    }
                };
                self.go_without(remote, cause, &why);
                Err(why)
            }
        }
    }

    /// New keys, or the same ones again.
    fn take(&self, remote: &Remote, set: KeySet, max_age: Option<Duration>) {
        let old = self.current.load_full();
        let generation = match &old {
            Some(old) if old.set == set => old.generation,
            Some(old) => old.generation.saturating_add(1),
            None => FIRST_GENERATION,
        };
        let is_changed = old.is_none_or(|old| old.generation != generation);
        let now = clock::now();
        let (count, skipped) = (set.len(), set.skipped().join("; "));
        // Before the schedule knows: a `kid` that these keys answer to must not be called unknown in between.
        self.current.store(Some(Arc::new(Keys { set, generation, fetched_at: now.wall })));
        let mut progress = remote.progress();
        progress.last_error = None;
        let has_failed = progress.schedule.succeeded(max_age, now.tick, chance());
        drop(progress);
        let issuer = &self.label;
        if is_changed {
            tracing::info!(issuer, generation, "the issuer's keys are new: {count} can be used");
        } else if has_failed {
            tracing::info!(issuer, "the issuer's keys can be fetched again: {count} can be used, the same as before");
        }
        if is_changed && !skipped.is_empty() {
            tracing::warn!(issuer, "some of the issuer's keys are not used: {skipped}");
        }
    }

    /// The issuer has answered, and shows no key that can be used: what it took back is not gone on with, and nothing is
    /// said of its tokens until it shows keys again.
    fn withdraw(&self, set: KeySet) {
        let generation = self.current.load().as_ref().map_or(FIRST_GENERATION, |old| old.generation.saturating_add(1));
        self.current.store(Some(Arc::new(Keys { set, generation, fetched_at: clock::now().wall })));
    }

    /// No new keys: the old ones stay for as long as they may.
    fn go_without(&self, remote: &Remote, cause: Cause, why: &str) {
        let mut progress = remote.progress();
        progress.last_error = Some(why.to_owned());
        let is_news = progress.schedule.failed(cause, clock::now().tick, chance());
        drop(progress);
        if !is_news {
            return;
        }
        let issuer = &self.label;
        match self.current.load().as_deref() {
            Some(keys) if keys.set.is_empty() => {
                tracing::warn!(
                    issuer,
                    "the issuer has taken its keys back; its tokens are answered 503 until it shows others: {why}"
                );
            }
            Some(keys) => {
                let until = remote.usable_until(keys);
                tracing::warn!(
                    issuer,
                    "the issuer's keys cannot be fetched; those of {} go on until {until}: {why}",
                    keys.fetched_at
                );
            }
            None => tracing::warn!(issuer, "the issuer's keys cannot be fetched; its tokens are answered 503 until then: {why}"),
        }
    }

    pub fn status(&self, now: Now) -> KeyStatus {
        let keys = self.current.load_full();
        let line = |(kid, algorithms): (String, Vec<JwsAlgorithm>)| KeyLine {
            kid,
            algorithms: algorithms.into_iter().map(JwsAlgorithm::as_str).collect(),
        };
        let remote = self.remote.as_ref();
        let until = keys.as_ref().zip(remote).map(|(keys, remote)| remote.usable_until(keys));
        let (mut url, mut next_refresh, mut last_error) = (None, None, None);
        if let Some(remote) = remote {
            let progress = remote.progress();
            let wait = Duration::from_micros(progress.schedule.due().0.since(now.tick));
            next_refresh = Some(now.wall.plus(wait).rfc3339());
            url = progress.url.as_deref().map(|url| url.split('?').next().unwrap_or_default().to_owned());
            last_error.clone_from(&progress.last_error);
        }
        KeyStatus {
            issuer: self.label.clone(),
            url,
            usable: keys.is_some() && until.is_none_or(|until| now.wall <= until),
            keys: keys.iter().flat_map(|keys| keys.set.describe()).map(line).collect(),
            skipped: keys.iter().flat_map(|keys| keys.set.skipped()).cloned().collect(),
            generation: keys.as_ref().map(|keys| keys.generation),
            fetched_at: keys.as_ref().map(|keys| keys.fetched_at.rfc3339()),
            usable_until: until.map(Timestamp::rfc3339),
            next_refresh,
            last_error,
        }
    }

    fn no_keys(&self, why: &str) -> NoKeys {
        NoKeys { detail: format!("no keys of the issuer {}: {why}", self.label) }
    }
}

/// Why there are no new keys.
enum Trouble {
    Fetch(String),
    /// The issuer has answered with a set that has no key for us.
    Withdrawn(KeySet, String),
}

impl Remote {
    /// Keys that can be used, and how long the answer lets them be.
    async fn fetch(&self) -> Result<(KeySet, Option<Duration>), Trouble> {
        let Fetching { place, client, algorithms, .. } = &self.fetching;
        let url = match place {
            KeyPlace::Discover { issuer } => {
                let url = discovery::jwks_uri(client, issuer).await.map_err(Trouble::Fetch)?;
                self.progress().url = Some(url.clone());
                url
            }
            KeyPlace::Url(url) => url.clone(),
        };
        let fetched = client.get(&url, &KEYS).await.map_err(|error| Trouble::Fetch(error.to_string()))?;
        let set = KeySet::parse(&fetched.body, algorithms).map_err(Trouble::Fetch)?;
        if set.is_empty() {
            let reasons: Vec<&str> = set.skipped().iter().take(MOST_REASONS).map(String::as_str).collect();
            let why = format!("no key of the key set can be used ({})", reasons.join("; "));
            return Err(Trouble::Withdrawn(set, why));
        }
        Ok((set, fetched.max_age))
    }

    fn usable_until(&self, keys: &Keys) -> Timestamp {
        keys.fetched_at.plus(self.fetching.max_stale)
    }

    fn trouble(&self) -> String {
        self.progress()
            .last_error
            .as_ref()
            .map_or_else(|| "The first fetch is not over".to_owned(), |why| format!("Last failure: {why}"))
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Flight<'a> {
    fn begin(remote: &'a Remote, cause: Cause) -> Self {
        remote.progress().schedule.begin(cause, clock::now().tick);
        Self(remote)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.progress().schedule.land();
    }
}

fn chance() -> u16 {
    u16::from_be_bytes(random::bytes())
}

/// For a set of keys; the metadata has its own.
const KEYS: FetchLimits = FetchLimits { bytes: 512 << 10, time: Duration::from_secs(5) };
const FIRST_GENERATION: u64 = 1;
/// How many keys that cannot be used a message gives the reason for.
const MOST_REASONS: usize = 3;
