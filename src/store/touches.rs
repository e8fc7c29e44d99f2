//! When keys were last used: noted on the request path without waiting, written to the store now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::identity::KeyId;
use crate::store::directory::Shards;

/// A note per key that was used lately. At most [`CAPACITY`] keys; what comes above is not noted, which makes a
/// last use look older and nothing else.
#[derive(Default)]
pub(super) struct Touches {
    noted: Shards<Arc<str>, Arc<Note>>,
    count: AtomicUsize,
}

/// Milliseconds since the epoch, both.
#[derive(Default)]
struct Note {
    used_at: AtomicU64,
    written: AtomicU64,
}

impl Touches {
    pub(super) fn note(&self, id: &KeyId, at: Timestamp) {
        match self.noted.find(id.as_str()) {
            // A store only each second: the cache line of a busy key then stays shared between the cores.
            Some(note) => {
                if note.used_at.load(Ordering::Relaxed).saturating_add(1000) <= at.0 {
                    note.used_at.fetch_max(at.0, Ordering::Relaxed);
                }
            }
            None if self.count.fetch_add(1, Ordering::Relaxed) < CAPACITY => {
                let note = Note { used_at: AtomicU64::new(at.0), written: AtomicU64::new(0) };
                self.noted.set(&id.0, Some(&Arc::new(note)));
            }
            None => {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// What the store does not have yet.
    pub(super) fn unwritten(&self) -> Vec<(Arc<str>, Timestamp)> {
        let unwritten = |(id, note): (Arc<str>, Arc<Note>)| {
            let used_at = note.used_at.load(Ordering::Relaxed);
            (used_at > note.written.load(Ordering::Relaxed)).then_some((id, Timestamp(used_at)))
        };
        self.noted.entries().filter_map(unwritten).collect()
    }

    /// Remembers that these were committed.
    pub(super) fn written(&self, committed: &[(Arc<str>, Timestamp)]) {
        for (id, at) in committed {
            if let Some(note) = self.noted.find(&**id) {
                note.written.store(at.0, Ordering::Relaxed);
            }
        }
    }

    /// Drops the notes of keys that were not used for a while and are written.
    pub(super) fn forget_idle(&self, now: Timestamp) {
        self.noted.retain(|_, note| {
            let used_at = note.used_at.load(Ordering::Relaxed);
            used_at > now.minus(IDLE).0 || used_at > note.written.load(Ordering::Relaxed)
        });
        self.count.store(self.noted.len(), Ordering::Relaxed);
    }
}

const CAPACITY: usize = 65_536;
const IDLE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_written_once_and_again_when_the_key_is_used_again() {
        let touches = Touches::default();
        let key = KeyId::new("abc");
        touches.note(&key, Timestamp(10_000));
        touches.note(&key, Timestamp(10_500));
        let first = touches.unwritten();
        assert_eq!(first, [("abc".into(), Timestamp(10_000))]);
        touches.written(&first);
        assert_eq!(touches.unwritten(), []);
        touches.note(&key, Timestamp(70_000));
        assert_eq!(touches.unwritten(), [("abc".into(), Timestamp(70_000))]);
    }

    #[test]
    fn idle_keys_are_forgotten_only_after_they_were_written() {
        let touches = Touches::default();
        touches.note(&KeyId::new("abc"), Timestamp(1));
        let later = Timestamp(1).plus(IDLE);
        touches.forget_idle(later);
        assert_eq!(touches.noted.len(), 1);
        touches.written(&touches.unwritten());
        touches.forget_idle(later);
        assert_eq!(touches.noted.len(), 0);
    }

    #[test]
    fn keys_above_the_capacity_are_not_noted() {
        let touches = Touches::default();
        touches.count.store(CAPACITY, Ordering::Relaxed);
        touches.note(&KeyId::new("abc"), Timestamp(1));
        assert_eq!(touches.noted.len(), 0);
        assert_eq!(touches.count.load(Ordering::Relaxed), CAPACITY);
    }
}
