//! Many keys in one change.

use super::*;

fn keys(range: std::ops::Range<u32>) -> Arc<[ApiKey]> {
    range.map(|number| key(&format!("k{number}"), "u1")).collect()
}

/// How many of these the directory shows, each both by its id and by its digest.
fn shown(store: &Store, keys: &[ApiKey]) -> usize {
    let directory = store.directory();
    let is_shown = |key: &&ApiKey| {
        let by_digest = directory.key_by_digest("main", &key.digest).map(|found| found.id.clone());
        let by_id = directory.key("main", key.id.as_str()).map(|found| found.id.clone());
        [by_digest, by_id].iter().all(|found| found.as_ref() == Some(&key.id))
    };
    keys.iter().filter(is_shown).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_are_added_with_one_announcement_and_another_store_follows() {
    for place in Place::both() {
        let (server, tool) = (open(&place).await, open(&place).await);
        tool.write(add(account("u1", "ann")), None).await.unwrap();
        let many = keys(0..1201);
        tool.write(Change::AddKeys(many.clone()), Some(event("1201 keys"))).await.unwrap();
        assert_eq!(shown(&tool, &many), 1201);
        let stored = format!("{:?}", many[1200]);
        assert_eq!(format!("{:?}", tool.directory().key("main", "k1200").unwrap()), stored);
        until("the keys", || shown(&server, &many) == 1201).await;
        assert_eq!(format!("{:?}", server.directory().key("main", "k1200").unwrap()), stored);
        let mut stranger = stranger(&place).await;
        assert_eq!(count(&mut stranger, "SELECT count(*) FROM changes").await, 2);
        assert_eq!(count(&mut stranger, "SELECT count(*) FROM audit").await, 1);
        // The next single changes are followed as ever, in both directions.
        tool.write(revoke("k7"), None).await.unwrap();
        until("the revocation", || server.directory().key("main", "k7").unwrap().revoked_at.is_some()).await;
        server.write(Change::AddKey(key("k2000", "u1")), None).await.unwrap();
        until("the single key", || tool.directory().key_by_digest("main", &Digest::of("k2000")).is_some()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_are_added_all_or_none_and_the_refusal_names_those_that_there_are() {
    for place in Place::both() {
        let store = open(&place).await;
        store.write(add(account("u1", "ann")), None).await.unwrap();
        store.write(Change::AddKeys(keys(0..2)), None).await.unwrap();
        let mut many = keys(10..1010).to_vec();
        many[3].id = KeyId::new("k0");
        many[600].digest = Digest::of("k1");
        many[999].id = many[998].id.clone();
        let refused = refusal(store.write(Change::AddKeys(many.clone().into()), Some(event("many"))).await);
        assert_eq!(refused, "Conflicts { what: \"key with this id or secret\", positions: [3, 600, 999] }");
        many.truncate(3);
        many[1].owner = AccountId::new("nobody");
        let refused = refusal(store.write(Change::AddKeys(many.into()), Some(event("many"))).await);
        assert_eq!(refused, "Unknown { what: \"account\" }");
        let mut stranger = stranger(&place).await;
        assert_eq!(count(&mut stranger, "SELECT count(*) FROM keys").await, 2);
        assert_eq!(count(&mut stranger, "SELECT count(*) FROM audit").await, 0);
        assert_eq!(shown(&store, &keys(0..1010)), 2);
        // No keys at all are no change.
        store.write(Change::AddKeys(keys(0..0)), None).await.unwrap();
        assert_eq!(count(&mut stranger, "SELECT count(*) FROM changes").await, 2);
    }
}
