//! Many gateways on one Postgres.

use super::*;
use crate::servers::Postgres;

/// A store that looks so rarely that only a notification, or nothing, wakes it.
async fn sleepy(place: &Place) -> Store {
    try_open(place.options(), Pace { follow_every: Duration::from_secs(600), ..PACE }).await.unwrap()
}

/// How many connections of ours listen.
fn listeners(server: &Postgres) -> String {
    server.psql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_heard_of_and_again_after_the_listening_connection_was_cut() {
    let mut place = Place::postgres();
    let (teller, hearer) = (sleepy(&place).await, sleepy(&place).await);
    let server = place.server();
    until("two listeners", || listeners(server) == "2").await;
    teller.write(add(account("u1", "ann")), None).await.unwrap();
    until("the account", || hearer.directory().account_count("main") == 1).await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
    assert_eq!(server.psql("postgres", cut), "2");
    // What is written while nobody listens is found when somebody does again.
    teller.write(add(account("u2", "bob")), None).await.unwrap();
    until("the missed account", || hearer.directory().account_count("main") == 2).await;
    until("two listeners again", || listeners(server) == "2").await;
    teller.write(add(account("u3", "zoe")), None).await.unwrap();
    until("the next account", || hearer.directory().account_count("main") == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_nobody_was_told_of_is_found_within_two_seconds() {
    let place = Place::postgres();
    let store = try_open(place.options(), Pace::USUAL).await.unwrap();
    store.write(add(account("u1", "ann")), None).await.unwrap();
    let mut stranger = stranger(&place).await;
    let since = clock::now().wall;
    stranger.begin(Begin::Write).await.unwrap();
    run(&mut stranger, "UPDATE accounts SET status = 'disabled'").await;
    run(&mut stranger, "INSERT INTO changes SELECT max(seq) + 1, 'account', 'main', 'u1', 0 FROM changes").await;
    stranger.commit().await.unwrap();
    until("the status", || !store.directory().account("main", &AccountId::new("u1")).unwrap().is_active()).await;
    let took = clock::now().wall.0 - since.0;
    assert!(took < 2000, "{took} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_can_be_asked_for_and_what_was_committed_here_is_told() {
    let place = Place::sqlite();
    let (teller, store) = (open(&place).await, sleepy(&place).await);
    let committed = teller.committed();
    assert_eq!(*committed.borrow(), 0);
    // The first look of all comes at the start.
    let looked_at = store.directory().followed_at();
    until("the first look", || store.directory().followed_at() > looked_at).await;
    teller.write(add(account("u1", "ann")), None).await.unwrap();
    assert_eq!(*committed.borrow(), 1);
    teller.write(Change::AuditOnly, Some(event("x"))).await.unwrap();
    assert_eq!(*committed.borrow(), 1);
    assert_eq!(store.directory().account_count("main"), 0);
    store.look_now();
    until("the account", || store.directory().account_count("main") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_once_make_the_tables_once() {
    let place = Place::postgres();
    let (one, two, three) = tokio::join!(open(&place), open(&place), open(&place));
    for (store, id) in [(&one, "u1"), (&two, "u2"), (&three, "u3")] {
        store.write(add(account(id, id)), None).await.unwrap();
    }
    let mut stranger = stranger(&place).await;
    assert_eq!(count(&mut stranger, "SELECT count(*) FROM _sqlx_migrations").await, 1);
    assert_eq!(count(&mut stranger, "SELECT count(*) FROM accounts").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_many_nodes_are_numbered_without_gaps_and_all_are_seen_by_all() {
    const NODES: usize = 4;
    const WRITES: usize = 60;
    let place = Place::postgres();
    let mut stores = Vec::new();
    for _ in 0..NODES {
        stores.push(open(&place).await);
    }
    stores[0].write(add(account("u1", "ann")), None).await.unwrap();
    let writers: Vec<_> = stores
        .iter()
        .enumerate()
        .map(|(node, store)| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..WRITES {
                    let id = format!("k{node}-{number}");
                    store.write(Change::AddKey(key(&id, "u1")), None).await.unwrap();
                    if number % 3 == 0 {
                        store.write(revoke(&id), None).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut stranger = stranger(&place).await;
    let changes = i64::try_from(1 + NODES * (WRITES + WRITES / 3)).unwrap();
    assert_eq!(count(&mut stranger, "SELECT count(*) FROM changes").await, changes);
    assert_eq!(count(&mut stranger, "SELECT max(seq) FROM changes").await, changes);
    let wanted = |id: &str, revoked: bool| (id.to_owned(), Some(revoked));
    let all: Vec<_> = (0..NODES)
        .flat_map(|node| (0..WRITES).map(move |number| wanted(&format!("k{node}-{number}"), number % 3 == 0)))
        .collect();
    for store in &stores {
        let shown = || {
            let revoked = |id: &str| store.directory().key("main", id).map(|key| key.revoked_at.is_some());
            all.iter().map(|(id, _)| (id.clone(), revoked(id))).collect::<Vec<_>>()
        };
        until("all keys and revocations", || shown() == all).await;
    }
}

/// As after the loss of a primary whose last rows its replica did not have: the same numbers, other changes.
#[tokio::test(flavor = "multi_thread")]
async fn another_history_with_the_same_numbers_is_loaded_whole() {
    for place in Place::both() {
        let store = open(&place).await;
        store.write(add(account("u1", "ann")), None).await.unwrap();
        store.write(add(account("u2", "bob")), None).await.unwrap();
        let mut stranger = stranger(&place).await;
        stranger.begin(Begin::Write).await.unwrap();
        run(&mut stranger, "DELETE FROM accounts WHERE id = 'u2'").await;
        run(&mut stranger, "UPDATE accounts SET status = 'disabled'").await;
        run(&mut stranger, "UPDATE changes SET at = at + 1, id = 'u1' WHERE seq = 2").await;
        stranger.commit().await.unwrap();
        let ann = AccountId::new("u1");
        until("the other history", || !store.directory().account("main", &ann).unwrap().is_active()).await;
        assert_eq!(store.directory().account_count("main"), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_engine_does_not_take_spoils_nothing_beside_it() {
    for place in Place::both() {
        let store = open(&place).await;
        let refused = AuditEvent { actor: "mal\0lory".to_owned(), done: false, ..event("") };
        let (alone, beside) = tokio::join!(
            store.write(Change::AuditOnly, Some(refused)),
            store.write(add(account("u1", "ann")), Some(event("u1")))
        );
        assert_eq!((refusal(alone), refusal(beside)), (String::new(), String::new()));
        assert_eq!(count(&mut stranger(&place).await, "SELECT count(*) FROM audit WHERE actor <> 'operator'").await, 1);
        // Too long for an index of Postgres, which SQLite does not mind.
        let long = account("u2", &crate::random::word(20_000));
        let told = refusal(store.write(add(long), None).await);
        assert_eq!(told.contains("index row"), place.server.is_some(), "{told}");
        store.write(add(account("u3", "zoe")), None).await.unwrap();
    }
}
