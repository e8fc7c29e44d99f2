//! Changes that are under way together.

use super::*;

/// A login with the old password, after the tool that changes it has read its clock and before it commits.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_change_outdates_sessions_that_were_opened_while_it_was_under_way() {
    for place in Place::both() {
        let store = open(&place).await;
        store.write(add(account("u1", "ann")), None).await.unwrap();
        store.write(add(account("u2", "bob")), None).await.unwrap();
        let late = |id: &str, owner: &str, at| Change::OpenSession(Session { created_at: at, ..session(id, owner) });
        store.write(late("s1", "u1", Timestamp(5_050)), None).await.unwrap();
        store.write(late("s2", "u2", Timestamp(9_000)), None).await.unwrap();
        let change = Change::SetPassword {
            realm: "main".into(),
            account: AccountId::new("u1"),
            password: Secret::new("$hash$2"),
            sessions_valid_from: Timestamp(5_000),
        };
        store.write(change, None).await.unwrap();
        let valid_from = |id: &str| store.directory().account("main", &AccountId::new(id)).unwrap().sessions_valid_from;
        assert_eq!((valid_from("u1"), valid_from("u2")), (Timestamp(5_051), Timestamp(1_000)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehash_does_not_undo_a_password_change() {
    for place in Place::both() {
        let store = open(&place).await;
        store.write(add(account("u1", "ann")), None).await.unwrap();
        let rehash = |replaces: &str, password: &str| Change::Rehash {
            realm: "main".into(),
            account: AccountId::new("u1"),
            password: Secret::new(password),
            replaces: Secret::new(replaces),
        };
        store.write(rehash("$hash$1", "$hash$2"), None).await.unwrap();
        assert_eq!(password(&store, "ann").await.as_deref(), Some("$hash$2"));
        store.write(rehash("$hash$1", "$hash$old"), None).await.unwrap();
        assert_eq!(password(&store, "ann").await.as_deref(), Some("$hash$2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_writers_at_once_all_succeed() {
    for place in Place::both() {
        let store = open(&place).await;
        let writes: Vec<_> = (0..100)
            .map(|number| {
                let store = store.clone();
                tokio::spawn(async move {
                    let id = format!("u{number}");
                    store.write(add(account(&id, &id)), Some(event(&id))).await.unwrap();
                    assert!(store.directory().account("main", &AccountId::new(&*id)).is_some(), "{id}");
                })
            })
            .collect();
        for write in writes {
            write.await.unwrap();
        }
        assert_eq!(store.directory().account_count("main"), 100);
        assert_eq!(count(&mut stranger(&place).await, "SELECT count(*) FROM audit").await, 100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_leaves_the_others_of_its_batch_committed() {
    for place in Place::both() {
        let store = open(&place).await;
        // While a stranger holds the lock, the first write waits and the others queue up behind it: one batch.
        let mut stranger = stranger(&place).await;
        stranger.begin(Begin::Write).await.unwrap();
        let queue = |id: &str, name: &str| {
            let task = Task::Change { change: Box::new(add(account(id, name))), audit: Some(Box::new(event(id))) };
            let (answer, answered) = oneshot::channel();
            store.inner.jobs.try_send(Job { task, answer }).unwrap();
            answered
        };
        let first = queue("u0", "zoe");
        let jobs = &store.inner.jobs;
        until("the first write at work", || jobs.capacity() == QUEUE).await;
        let batch = [queue("u1", "ann"), queue("u2", "ANN"), queue("u3", "bob")];
        assert_eq!(jobs.capacity(), QUEUE - 3);
        stranger.rollback().await.unwrap();
        assert_eq!(refusal(first.await.unwrap()), "");
        let conflict = "Conflict { what: \"account with this login name\" }";
        for (answer, expected) in batch.into_iter().zip(["", conflict, ""]) {
            assert_eq!(refusal(answer.await.unwrap()), expected);
        }
        assert_eq!(store.directory().account_count("main"), 3);
        assert_eq!(count(&mut stranger, "SELECT count(*) FROM accounts").await, 3);
        assert_eq!(count(&mut stranger, "SELECT count(*) FROM audit").await, 3);
    }
}
