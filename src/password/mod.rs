//! Password hashing: Argon2id on threads of its own, behind a bounded queue, so that a flood of logins costs neither the
//! proxied requests nor the memory of the machine. Knows no account, and takes no decision but right or wrong.

mod phc;

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use tracing::warn;

use crate::identity::Secret;
use crate::rejection::Failure;

use phc::{Stored, Workspace};

/// The hashing threads. Dropping it stops them, after the hash that each is at.
pub struct Passwords {
    /// Taken when the threads are to stop.
    jobs: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `outdated`: the stored string was made with other parameters than today's and is to be replaced.
    Right {
        outdated: bool,
    },
    Wrong,
}

struct Job {
    password: Secret,
    task: Task,
}

enum Task {
    Verify { stored: Option<Secret>, reply: oneshot::Sender<Verdict> },
    Hash { reply: oneshot::Sender<Result<Secret, String>> },
}

impl Passwords {
    /// Starts `permits` threads (at least one), each of which uses 19 MiB while it hashes; `queue` more requests may wait.
    ///
    /// # Panics
    /// When no thread can be started or Argon2 does not work: the program is just starting, and no login could be served.
    #[expect(clippy::expect_used, reason = "at start; a gateway without a working dummy would tell unknown accounts apart")]
    pub fn start(permits: usize, queue: usize) -> Self {
        let (jobs, incoming) = sync_channel(queue);
        let incoming = Arc::new(Mutex::new(incoming));
        let dummy = Arc::new(dummy().expect("Argon2 makes a string that it can read"));
        let thread = |number: usize| {
            let (incoming, dummy) = (Arc::clone(&incoming), Arc::clone(&dummy));
            let builder = std::thread::Builder::new().name(format!("password-{number}"));
            builder.spawn(move || work(&incoming, &dummy)).expect("the system starts a thread")
        };
        Self { jobs: Some(jobs), threads: (0..permits.max(1)).map(thread).collect() }
    }

    /// Whether the password is the stored one, byte for byte: nothing is trimmed, folded or cut. With `None` (there is no
    /// such account, or it may not log in) a hash of the same cost is made and the answer is [`Verdict::Wrong`].
    ///
    /// The caller refuses passwords longer than 1 KiB.
    ///
    /// # Errors
    /// [`Failure::HashingBusy`] when the queue is full.
    pub async fn verify(&self, password: Secret, stored: Option<Secret>) -> Result<Verdict, Failure> {
        let (reply, verdict) = oneshot::channel();
        self.queue(Job { password, task: Task::Verify { stored, reply } })?;
        verdict.await.map_err(|_| stopped())
    }

    /// A PHC string for the password, with a new salt and today's parameters.
    ///
    /// # Errors
    /// [`Failure::HashingBusy`] when the queue is full.
    pub async fn hash(&self, password: Secret) -> Result<Secret, Failure> {
        let (reply, made) = oneshot::channel();
        self.queue(Job { password, task: Task::Hash { reply } })?;
        made.await.map_err(|_| stopped())?.map_err(|detail| Failure::Internal { detail })
    }

    fn queue(&self, job: Job) -> Result<(), Failure> {
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Failure::HashingBusy,
            TrySendError::Disconnected(_) => stopped(),
        })
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            // A thread that panicked is stopped as well.
            let _ = thread.join();
        }
    }
}

impl Job {
    /// Whether the caller went away while the job waited.
    fn is_abandoned(&self) -> bool {
        match &self.task {
            Task::Verify { reply, .. } => reply.is_closed(),
            Task::Hash { reply } => reply.is_closed(),
        }
    }

    /// A reply that nobody waits for any more is dropped.
    fn run(self, dummy: &Stored, workspace: &mut Workspace) {
        match self.task {
            Task::Verify { stored, reply } => drop(reply.send(verify(&self.password, stored, dummy, workspace))),
            Task::Hash { reply } => drop(reply.send(phc::hash(&self.password))),
        }
    }
}

fn work(incoming: &Mutex<Receiver<Job>>, dummy: &Stored) {
    let mut workspace = Workspace::default();
    loop {
        // The lock is held while waiting, by the one thread whose turn it is, and never while hashing.
        let next = incoming.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        if !job.is_abandoned() {
            job.run(dummy, &mut workspace);
        }
    }
}

/// Every path makes one hash: a string that cannot be used costs the dummy's, so that time tells nothing.
fn verify(password: &Secret, stored: Option<Secret>, dummy: &Stored, workspace: &mut Workspace) -> Verdict {
    let usable = stored.and_then(|stored| {
        Stored::parse(&stored).inspect_err(|why| warn!("a stored password hash cannot be used: {why}; the login is refused")).ok()
    });
    match usable {
        Some(stored) if stored.matches(password, workspace) => Verdict::Right { outdated: stored.is_outdated() },
        Some(_) => Verdict::Wrong,
        None => {
            std::hint::black_box(dummy.matches(password, workspace));
            Verdict::Wrong
        }
    }
}

/// A stored hash of a password that nobody knows, with today's parameters.
fn dummy() -> Result<Stored, String> {
    let stored = phc::hash(&Secret::new(crate::random::token()))?;
    let dummy = Stored::parse(&stored)?;
    if dummy.is_outdated() { Err("the dummy is not of today's parameters".to_owned()) } else { Ok(dummy) }
}

fn stopped() -> Failure {
    Failure::Internal { detail: "the hashing threads have stopped".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn hashed(passwords: &Passwords, password: &str) -> Secret {
        passwords.hash(Secret::new(password)).await.unwrap()
    }

    #[tokio::test]
    async fn the_right_password_is_told_from_every_near_miss() {
        let passwords = Passwords::start(2, 8);
        let stored = hashed(&passwords, "correct horse").await;
        let verify = |text: &str| passwords.verify(Secret::new(text), Some(stored.clone()));
        assert_eq!(verify("correct horse").await.unwrap(), Verdict::Right { outdated: false });
        for wrong in ["Correct horse", "correct horse ", " correct horse", "correct horse\0", "correct hors", ""] {
            assert_eq!(verify(wrong).await.unwrap(), Verdict::Wrong, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn long_passwords_count_whole_and_unicode_forms_stay_apart() {
        let passwords = Passwords::start(1, 8);
        let (mut one, mut other) = ("x".repeat(1024), "x".repeat(1024));
        one.replace_range(1023.., "a");
        other.replace_range(1023.., "b");
        let stored = hashed(&passwords, &one).await;
        assert_eq!(passwords.verify(Secret::new(other), Some(stored.clone())).await.unwrap(), Verdict::Wrong);
        assert_eq!(passwords.verify(Secret::new(one), Some(stored)).await.unwrap(), Verdict::Right { outdated: false });
        let composed = hashed(&passwords, "caf\u{e9}").await;
        assert_eq!(passwords.verify(Secret::new("cafe\u{301}"), Some(composed)).await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn an_unknown_account_and_an_unusable_hash_match_no_password() {
        let passwords = Passwords::start(1, 8);
        for stored in [None, Some(""), Some("secret"), Some("$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW")] {
            for password in ["", "secret", " "] {
                let verdict = passwords.verify(Secret::new(password), stored.map(Secret::new)).await.unwrap();
                assert_eq!(verdict, Verdict::Wrong, "{stored:?} {password:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_hash_of_other_parameters_is_right_and_outdated() {
        let passwords = Passwords::start(1, 8);
        // Made with m=64 KiB, t=1, p=1.
        let stored = phc::tests::with_parameters("pw", 64, 1, 1);
        let verdict = passwords.verify(Secret::new("pw"), Some(Secret::new(stored))).await.unwrap();
        assert_eq!(verdict, Verdict::Right { outdated: true });
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_at_once() {
        let (jobs, incoming) = sync_channel(1);
        let passwords = Passwords { jobs: Some(jobs), threads: Vec::new() };
        let waiting = passwords.verify(Secret::new("a"), None);
        let refused = async {
            let failures = [
                passwords.verify(Secret::new("b"), None).await.unwrap_err(),
                passwords.hash(Secret::new("c")).await.unwrap_err(),
            ];
            drop(incoming);
            failures.map(|failure| failure.code())
        };
        let (waited, refused) = tokio::join!(biased; waiting, refused);
        assert_eq!(refused, ["hashing_busy", "hashing_busy"]);
        assert_eq!(waited.unwrap_err().code(), "internal", "a job that is dropped tells its caller");
        assert_eq!(passwords.hash(Secret::new("d")).await.unwrap_err().code(), "internal");
    }

    #[tokio::test]
    async fn a_job_whose_caller_left_is_not_worked_on() {
        let (reply, verdict) = oneshot::channel();
        let job = Job { password: Secret::new("a"), task: Task::Verify { stored: None, reply } };
        assert!(!job.is_abandoned());
        drop(verdict);
        assert!(job.is_abandoned());
    }

    #[test]
    fn dropping_ends_the_threads() {
        let (jobs, incoming) = sync_channel::<Job>(1);
        let incoming = Arc::new(Mutex::new(incoming));
        let held = Arc::downgrade(&incoming);
        let dummy = dummy().unwrap();
        let thread = std::thread::spawn(move || work(&incoming, &dummy));
        drop(Passwords { jobs: Some(jobs), threads: vec![thread] });
        assert!(held.upgrade().is_none());
    }
}
