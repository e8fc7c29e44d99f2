//! The store's accounts, keys and ended sessions in memory, for the request path: reads take no lock and never wait.
//!
//! It shows what was committed, never what is about to be. Only the writer and the follower change it, in turn. Its size
//! is the store's: what is dead is pruned, and nothing enters that a caller could make without a committed write.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::Timestamp;
use crate::identity::{Account, AccountId, ApiKey, Digest};

/// How long a revoked or expired key stays, so that a refusal can say which of the two it is.
pub(super) const DEAD_KEYS_STAY: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Default)]
pub struct Directory {
    realms: ArcSwap<HashMap<Arc<str>, Arc<Realm>>>,
    followed_at: AtomicU64,
}

/// A record as it was committed; `None` where there is nothing to show.
#[derive(Debug)]
pub(super) enum Image {
    Account { realm: Arc<str>, id: Arc<str>, account: Option<Arc<Account>> },
    Key { realm: Arc<str>, id: Arc<str>, key: Option<Arc<ApiKey>> },
    Session { realm: Arc<str>, id: Arc<str>, ended: Option<EndedSession> },
}

/// What is remembered of an ended session: when it would have expired, because until then its tokens may turn up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndedSession {
    pub expires_at: Timestamp,
}

#[derive(Default)]
struct Realm {
    accounts: Shards<Arc<str>, Arc<Account>>,
    keys: Shards<Arc<str>, Arc<ApiKey>>,
    /// The same keys once more: one that was made elsewhere says nothing of its id.
    keys_by_digest: Shards<Digest, Arc<ApiKey>>,
    ended: Shards<Arc<str>, EndedSession>,
}

/// A map that is read far more often than written: a read loads one snapshot, a write clones one shard of 256.
pub(super) struct Shards<K, V> {
    hasher: RandomState,
    shards: Box<[ArcSwap<HashMap<K, V>>]>,
}

impl Directory {
    /// One that holds these keys and nothing else, for benches.
    #[cfg(any(test, feature = "internals"))]
    pub fn of_keys(keys: impl IntoIterator<Item = ApiKey>) -> Self {
        let directory = Self::default();
        let image = |key: ApiKey| Image::Key { realm: key.realm.clone(), id: key.id.0.clone(), key: Some(Arc::new(key)) };
        directory.replace(keys.into_iter().map(image).collect());
        directory
    }

    pub fn account(&self, realm: &str, id: &AccountId) -> Option<Arc<Account>> {
        self.realms.load().get(realm)?.accounts.find(id.as_str())
    }

    pub fn key(&self, realm: &str, id: &str) -> Option<Arc<ApiKey>> {
        self.realms.load().get(realm)?.keys.find(id)
    }

    /// The key whose whole text has this digest. All 256 bits are compared.
    pub fn key_by_digest(&self, realm: &str, digest: &Digest) -> Option<Arc<ApiKey>> {
        self.realms.load().get(realm)?.keys_by_digest.find(digest)
    }

    /// Whether the session was ended before its time. `false` for one that expired or never was: tokens carry their own
    /// expiry.
    pub fn session_ended(&self, realm: &str, session: &str) -> bool {
        self.realms.load().get(realm).is_some_and(|realm| realm.ended.find(session).is_some())
    }

    pub fn account_count(&self, realm: &str) -> usize {
        self.realms.load().get(realm).map_or(0, |realm| realm.accounts.len())
    }

    /// When the directory was last known to hold all that other processes had committed. While the store can be read
    /// this is less than a second ago; who must not take "not here" for "does not exist" compares it with now.
    pub fn followed_at(&self) -> Timestamp {
        Timestamp(self.followed_at.load(Ordering::Relaxed))
    }

    pub(super) fn set_followed_at(&self, now: Timestamp) {
        self.followed_at.store(now.0, Ordering::Relaxed);
    }

    pub(super) fn show(&self, image: Image) {
        match image {
            Image::Account { realm, id, account } => self.realm(&realm).accounts.set(&id, account.as_ref()),
            Image::Key { realm, id, key } => self.realm(&realm).show_key(&id, key.as_ref()),
            Image::Session { realm, id, ended } => self.realm(&realm).ended.set(&id, ended.as_ref()),
        }
    }

    /// Shows these records and no others.
    pub(super) fn replace(&self, images: Vec<Image>) {
        let mut realms: HashMap<Arc<str>, Contents> = HashMap::new();
        for image in images {
            match image {
                Image::Account { realm, id, account } => {
                    realms.entry(realm).or_default().accounts.extend(account.map(|account| (id, account)));
                }
                Image::Key { realm, key, .. } => realms.entry(realm).or_default().keys.extend(key),
                Image::Session { realm, id, ended } => {
                    realms.entry(realm).or_default().ended.extend(ended.map(|ended| (id, ended)));
                }
            }
        }
        let realms = realms.into_iter().map(|(name, contents)| (name, Arc::new(contents.into_realm()))).collect();
        self.realms.store(Arc::new(realms));
    }

    /// Forgets ended sessions that would have expired by now, and keys that are long dead.
    pub(super) fn prune(&self, now: Timestamp) {
        self.realms.load().values().for_each(|realm| {
            realm.ended.retain(|_, ended| ended.expires_at > now);
            realm.keys.retain(|_, key| !is_long_dead(key, now));
            realm.keys_by_digest.retain(|_, key| !is_long_dead(key, now));
        });
    }

    fn realm(&self, name: &Arc<str>) -> Arc<Realm> {
        if let Some(realm) = self.realms.load().get(name) {
            return realm.clone();
        }
        let added = Arc::new(Realm::default());
        self.realms.rcu(|realms| {
            let mut realms = HashMap::clone(realms);
            realms.entry(name.clone()).or_insert_with(|| added.clone());
            realms
        });
        self.realms.load().get(name).cloned().unwrap_or(added)
    }
}

impl Realm {
    fn show_key(&self, id: &Arc<str>, key: Option<&Arc<ApiKey>>) {
        if let Some(before) = self.keys.find(&**id).filter(|before| key.is_none_or(|key| key.digest != before.digest)) {
            self.keys_by_digest.set(&before.digest, None);
        }
        self.keys.set(id, key);
        if let Some(key) = key {
            self.keys_by_digest.set(&key.digest, Some(key));
        }
    }
}

/// A realm on its way in: collected in plain maps, so that a full load clones no shard.
#[derive(Default)]
struct Contents {
    accounts: Vec<(Arc<str>, Arc<Account>)>,
    keys: Vec<Arc<ApiKey>>,
    ended: Vec<(Arc<str>, EndedSession)>,
}

impl Contents {
    fn into_realm(self) -> Realm {
        Realm {
            accounts: self.accounts.into_iter().collect(),
            keys_by_digest: self.keys.iter().map(|key| (key.digest, key.clone())).collect(),
            keys: self.keys.into_iter().map(|key| (key.id.0.clone(), key)).collect(),
            ended: self.ended.into_iter().collect(),
        }
    }
}

fn is_long_dead(key: &ApiKey, now: Timestamp) -> bool {
    [key.revoked_at, key.expires_at].into_iter().flatten().any(|died_at| died_at <= now.minus(DEAD_KEYS_STAY))
}

impl<K: Hash + Eq + Clone, V: Clone> Shards<K, V> {
    pub(super) fn find<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.shards.get(self.position(key))?.load().get(key).cloned()
    }

    /// Puts the value in, or takes the key out.
    pub(super) fn set(&self, key: &K, value: Option<&V>) {
        let Some(shard) = self.shards.get(self.position(key)) else { return };
        shard.rcu(|map| {
            let mut map = HashMap::clone(map);
            match value {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
            map
        });
    }

    /// Keeps what `keep` says. A shard that loses nothing is not touched.
    pub(super) fn retain(&self, keep: impl Fn(&K, &V) -> bool) {
        for shard in &self.shards {
            if shard.load().iter().all(|(key, value)| keep(key, value)) {
                continue;
            }
            shard.rcu(|map| {
                let mut map = HashMap::clone(map);
                map.retain(|key, value| keep(key, value));
                map
            });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.load().len()).sum()
    }

    /// A copy of all entries, shard by shard.
    pub(super) fn entries(&self) -> impl Iterator<Item = (K, V)> {
        self.shards.iter().flat_map(|shard| {
            let map = shard.load_full();
            map.iter().map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>()
        })
    }

    fn position<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        usize::from(self.hasher.hash_one(key).to_le_bytes()[0])
    }
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| ArcSwap::default()).collect() }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> FromIterator<(K, V)> for Shards<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut shards = Self::default();
        let mut maps: Vec<HashMap<K, V>> = (0..SHARDS).map(|_| HashMap::new()).collect();
        for (key, value) in entries {
            if let Some(map) = maps.get_mut(shards.position(&key)) {
                map.insert(key, value);
            }
        }
        shards.shards = maps.into_iter().map(ArcSwap::from_pointee).collect();
        shards
    }
}

/// One for each value of the byte that picks the shard.
const SHARDS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Digest, KeyId, Networks, ScopeSet};

    fn key(id: &str, secret: &str) -> ApiKey {
        ApiKey {
            id: KeyId::new(id),
            realm: "main".into(),
            owner: AccountId::new("u1"),
            name: String::new(),
            scopes: ScopeSet::default(),
            tenants: Vec::new(),
            allowed_ips: Networks::default(),
            environment: "live".into(),
            digest: Digest::of(secret),
            created_at: Timestamp(0),
            expires_at: None,
            revoked_at: None,
        }
    }

    fn image(key: ApiKey) -> Image {
        Image::Key { realm: key.realm.clone(), id: key.id.0.clone(), key: Some(Arc::new(key)) }
    }

    #[test]
    fn a_key_shows_as_it_was_last_committed_and_then_no_more() {
        let directory = Directory::default();
        directory.show(image(key("k1", "old")));
        directory.show(image(key("k1", "new")));
        assert!(directory.key("main", "k1").unwrap().digest.is(&Digest::of("new")));
        directory.show(Image::Key { realm: "main".into(), id: "k1".into(), key: None });
        assert!(directory.key("main", "k1").is_none());
    }

    /// The id of the key that a text finds.
    fn found(directory: &Directory, realm: &str, text: &str) -> Option<String> {
        directory.key_by_digest(realm, &Digest::of(text)).map(|key| key.id.to_string())
    }

    /// H2: the index that imported keys are found in follows what is committed.
    #[test]
    fn a_key_is_found_by_the_text_that_it_has_now() {
        let directory = Directory::default();
        let finds = |text: &str| found(&directory, "main", text);
        directory.show(image(key("k1", "old")));
        assert_eq!(finds("old").as_deref(), Some("k1"));
        directory.show(image(ApiKey { revoked_at: Some(Timestamp(7)), ..key("k1", "old") }));
        assert_eq!(directory.key_by_digest("main", &Digest::of("old")).unwrap().revoked_at, Some(Timestamp(7)));
        directory.show(image(key("k1", "new")));
        assert_eq!((finds("old"), finds("new").as_deref()), (None, Some("k1")));
        directory.show(image(key("k2", "other")));
        directory.show(Image::Key { realm: "main".into(), id: "k1".into(), key: None });
        assert_eq!((finds("new"), finds("other").as_deref()), (None, Some("k2")));
        directory.replace(vec![image(key("k3", "third"))]);
        assert_eq!((finds("other"), finds("third").as_deref()), (None, Some("k3")));
    }

    #[test]
    fn records_are_shown_in_their_realm_only() {
        let directory = Directory::default();
        directory.show(image(key("k1", "secret")));
        assert!(directory.key("main", "k1").is_some());
        assert!(directory.key("other", "k1").is_none());
        assert_eq!(found(&directory, "main", "secret").as_deref(), Some("k1"));
        assert_eq!(found(&directory, "other", "secret"), None);
    }

    #[test]
    fn replacing_leaves_nothing_of_before() {
        let directory = Directory::default();
        directory.show(image(key("k1", "one")));
        directory.replace(vec![image(key("k2", "two"))]);
        assert!(directory.key("main", "k1").is_none());
        assert!(directory.key("main", "k2").unwrap().digest.is(&Digest::of("two")));
    }

    #[test]
    fn dead_keys_stay_for_thirty_days_and_ended_sessions_until_they_would_have_expired() {
        let (directory, died_at) = (Directory::default(), Timestamp(1_000));
        directory.show(image(ApiKey { revoked_at: Some(died_at), ..key("revoked", "1") }));
        directory.show(image(ApiKey { expires_at: Some(died_at), ..key("expired", "2") }));
        directory.show(image(key("alive", "3")));
        let ended = Some(EndedSession { expires_at: died_at });
        directory.show(Image::Session { realm: "main".into(), id: "s1".into(), ended });
        let shown = |directory: &Directory| {
            let keys = [("revoked", "1"), ("expired", "2"), ("alive", "3")].map(|(id, text)| {
                let by_id = directory.key("main", id).map(|key| key.id.to_string());
                assert_eq!(found(directory, "main", text), by_id);
                by_id.is_some()
            });
            (keys, directory.session_ended("main", "s1"))
        };
        directory.prune(Timestamp(999));
        assert_eq!(shown(&directory), ([true; 3], true));
        directory.prune(died_at.plus(DEAD_KEYS_STAY).minus(Duration::from_millis(1)));
        assert_eq!(shown(&directory), ([true; 3], false));
        directory.prune(died_at.plus(DEAD_KEYS_STAY));
        assert_eq!(shown(&directory), ([false, false, true], false));
    }

    #[test]
    fn a_full_load_finds_what_single_writes_would() {
        let loaded: Shards<Arc<str>, usize> = (0..5000).map(|number| (number.to_string().into(), number)).collect();
        assert_eq!(loaded.len(), 5000);
        assert!((0..5000).all(|number| loaded.find(number.to_string().as_str()) == Some(number)));
        assert_eq!(loaded.find("5000"), None);
        loaded.retain(|_, number| *number < 10);
        assert_eq!(loaded.entries().count(), 10);
    }
}
