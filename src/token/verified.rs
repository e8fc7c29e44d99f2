//! Remembers what verified tokens said, so that a signature is checked once and not with every request. It never says that a
//! token is good: the times, the keys and the revocations of now are the caller's to ask.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{Hash, Hasher};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, Weighter};

use crate::identity::Secret;

/// What the tokens of ONE API said when their signature was verified: two APIs judge one token differently, so each has a
/// cache of its own. `V` is cloned with every hit, e.g. an `Arc`. It holds verified claims and the generation of the key
/// set that verified them, never a decision about a route.
///
/// With every hit the caller asks again whatever may have changed since:
/// - is the generation that of the key set now? If not, the token is verified anew: its key may be gone;
/// - is now still between `nbf` and `exp`, with the leeway?
/// - are session, account and token still good?
///
/// Only tokens that were verified are put in: a stranger's cannot push others out.
pub struct VerifiedCache<V> {
    entries: Cache<Token, V, Weight, RandomState>,
}

/// A whole token, overwritten when it is dropped.
struct Token(Secret);

/// A token that is looked up.
struct Presented<'a>(&'a str);

/// An entry weighs what it takes, and at least its share, so that the one bound on the weight bounds bytes and number.
#[derive(Clone)]
struct Weight {
    least: u64,
}

/// What is remembered knows what it takes.
pub trait Held {
    /// About how many bytes of memory.
    fn held_bytes(&self) -> u64;
}

impl<V: Clone + Held> VerifiedCache<V> {
    /// Holds at most so many tokens and so many bytes. What has not been asked for lately goes first.
    pub fn new(max_entries: usize, max_bytes: u64) -> Self {
        let entries = u64::try_from(max_entries).unwrap_or(u64::MAX).max(1);
        let weight = Weight { least: max_bytes.div_ceil(entries).max(1) };
        Self { entries: Cache::with(max_entries.max(1), max_bytes, weight, RandomState::new(), DefaultLifecycle::default()) }
    }

    /// What was put in for this very token, all of its text compared.
    pub fn get(&self, token: &str) -> Option<V> {
        self.entries.get(&Presented(token))
    }

    /// Remembers what a verified token said, in place of what was there.
    pub fn put(&self, token: &str, value: V) {
        self.entries.insert(Token(Secret::new(token)), value);
    }

    /// How many tokens are remembered.
    pub fn count(&self) -> usize {
        self.entries.len()
    }
}

impl<V> fmt::Debug for VerifiedCache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifiedCache(…)")
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose() == other.0.expose()
    }
}

impl Eq for Token {}

impl Hash for Token {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Presented(self.0.expose()).hash(state);
    }
}

impl Hash for Presented<'_> {
    /// The end of a token is its signature, which differs where anything does: hashing the rest as well would cost time and
    /// tell no more. The hasher's key is random, and tokens of one hash are still told apart by their text.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let bytes = self.0.as_bytes();
        bytes.get(bytes.len().saturating_sub(HASHED_BYTES)..).unwrap_or(bytes).hash(state);
    }
}

impl Equivalent<Token> for Presented<'_> {
    fn equivalent(&self, token: &Token) -> bool {
        self.0 == token.0.expose()
    }
}

impl<V: Held> Weighter<Token, V> for Weight {
    fn weight(&self, token: &Token, value: &V) -> u64 {
        let length = u64::try_from(token.0.expose().len()).unwrap_or(u64::MAX);
        length.saturating_add(value.held_bytes()).saturating_add(ENTRY).max(self.least)
    }
}

const HASHED_BYTES: usize = 64;
/// What an entry takes beside its token and its value.
const ENTRY: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    macro_rules! weightless {
        ($($type:ty),*) => { $(impl Held for $type { fn held_bytes(&self) -> u64 { 0 } })* };
    }
    weightless!(i32, u32, usize, &str, String, (), Arc<()>);

    fn hash(token: &str) -> u64 {
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        Presented(token).hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn a_token_finds_what_was_put_in_for_it_and_the_last_put_counts() {
        let cache = VerifiedCache::new(10, 100_000);
        assert_eq!(cache.get("a.b.c"), None);
        cache.put("a.b.c", 1);
        cache.put("a.b.c", 2);
        assert_eq!((cache.get("a.b.c"), cache.count()), (Some(2), 1));
        assert_eq!(format!("{cache:?}"), "VerifiedCache(…)");
    }

    /// F12: what is alike when its parts are put side by side is not alike.
    #[test]
    fn tokens_that_share_a_beginning_an_end_or_all_letters_are_different_tokens() {
        let tail = "x".repeat(HASHED_BYTES);
        let tokens = ["ab.c.", "a.bc.", "a.b.c", "abc..", "", "ab", "c", "abc", "ABC"];
        let tokens: Vec<String> = tokens.iter().flat_map(|head| [(*head).to_owned(), format!("{head}{tail}")]).collect();
        let cache = VerifiedCache::new(1000, 1 << 20);
        for (at, token) in tokens.iter().enumerate() {
            assert_eq!(cache.get(token), None, "{token:?} before it was put in");
            cache.put(token, at);
        }
        for (at, token) in tokens.iter().enumerate() {
            assert_eq!(cache.get(token), Some(at), "{token:?}");
        }
    }

    /// F12: a hash that collides leads to no other token's value.
    #[test]
    fn tokens_of_one_hash_are_told_apart_by_their_text() {
        let signature = "s".repeat(HASHED_BYTES);
        let (mine, yours) = (format!("mine.{signature}"), format!("yours.{signature}"));
        assert_eq!(hash(&mine), hash(&yours));
        let cache = VerifiedCache::new(1000, 1 << 20);
        cache.put(&mine, "me");
        assert_eq!(cache.get(&yours), None);
        cache.put(&yours, "you");
        assert_eq!((cache.get(&mine), cache.get(&yours)), (Some("me"), Some("you")));
        for other in 0..500 {
            let other = format!("{other}.{signature}");
            assert_eq!(cache.get(&other), None);
            cache.put(&other, "other");
        }
        assert_eq!(cache.get(&yours).filter(|found| *found != "you"), None);
    }

    #[test]
    fn a_million_tokens_leave_no_more_than_the_bound() {
        const ENTRIES: usize = 1000;
        let (by_number, by_bytes) = (VerifiedCache::new(ENTRIES, 10_000_000), VerifiedCache::new(10_000, 100_000));
        let counted = Arc::new(());
        for number in 0..1_000_000_u32 {
            let token = format!("{number:0100}");
            by_number.put(&token, counted.clone());
            if number % 10 == 0 {
                by_bytes.put(&token, ());
            }
        }
        // Values that are still alive, whatever the cache says of itself.
        let alive = Arc::strong_count(&counted) - 1;
        assert_eq!(alive, by_number.count());
        assert!((ENTRIES / 2..=ENTRIES).contains(&alive), "{alive}");
        // 100 bytes and what an entry takes.
        assert!((81..=163).contains(&by_bytes.count()), "{}", by_bytes.count());
    }

    #[test]
    fn a_token_larger_than_the_cache_is_not_kept() {
        let cache = VerifiedCache::new(10, 1000);
        cache.put(&"a".repeat(600), ());
        assert_eq!(cache.get(&"a".repeat(600)), None);
        let none = VerifiedCache::new(0, 0);
        none.put("a", ());
        assert_eq!(none.get("a"), None);
    }

    /// F12: many at once, each with its own token, none gets another's value.
    #[test]
    fn a_value_reaches_its_own_token_only_however_many_ask_at_once() {
        let cache = VerifiedCache::new(64, 1 << 20);
        let signature = "s".repeat(HASHED_BYTES);
        let run = |first: usize| {
            let mut hits = 0;
            for turn in 0..20_000 {
                let own = (first * 7 + turn / 3) % 100;
                let token = format!("{own}.{signature}");
                match cache.get(&token) {
                    Some(found) => {
                        assert_eq!(found, own);
                        hits += 1;
                    }
                    None => cache.put(&token, own),
                }
            }
            hits
        };
        let hits: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|first| scope.spawn(move || run(first))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(hits > 0 && cache.count() <= 64, "{hits} hits, {} tokens", cache.count());
    }
}
