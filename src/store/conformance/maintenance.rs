//! Migrating, checking and copying, as an operator does it.

use super::*;
use crate::store::database::NEWEST;
use crate::store::maintain::Migrated;

async fn problems(place: &Place) -> Vec<String> {
    check(&place.options()).await.unwrap().problems
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_once_and_then_checked() {
    for place in Place::both() {
        // A file that is not there is not made by looking.
        match check(&place.options()).await {
            Ok(condition) => assert_eq!(condition.problems, ["there are no tables yet; run `gateward store migrate`"]),
            Err(error) => assert!(error.to_string().ends_with("unable to open database file"), "{error}"),
        }
        assert_eq!(migrate(&place.options()).await.unwrap(), Migrated { from: 0, to: NEWEST });
        assert_eq!(migrate(&place.options()).await.unwrap(), Migrated { from: NEWEST, to: NEWEST });
        let store = open(&place).await;
        store.write(add(account("u1", "ann")), Some(event("u1"))).await.unwrap();
        store.write(Change::AddKey(key("k1", "u1")), None).await.unwrap();
        store.signing_key("nodes", "HS256", || Secret::new("s3cret")).await.unwrap();
        let condition = check(&place.options()).await.unwrap();
        assert_eq!((condition.version, condition.problems), (NEWEST, Vec::new()));
        let rows = [("accounts", 1), ("sessions", 0), ("keys", 1), ("signing_keys", 1), ("audit", 1)];
        assert_eq!(condition.rows, rows);
        assert!(condition.clock_ahead_ms.abs() < 1000, "{}", condition.clock_ahead_ms);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_a_lost_account_and_newer_tables_are_problems() {
    for place in Place::both() {
        let store = open(&place).await;
        store.write(add(account("u1", "ann")), None).await.unwrap();
        store.signing_key("nodes", "HS256", || Secret::new("s3cret")).await.unwrap();
        store.close().await;
        let other = Place::sqlite();
        open(&other).await.close().await;
        let key_file = place.folder.path().join("gateward.key");
        std::fs::copy(other.folder.path().join("gateward.key"), &key_file).unwrap();
        let told = format!(
            "the store cannot be used: the encryption key file {} is not the one that encrypted the signing key nodes/HS256",
            key_file.display()
        );
        assert_eq!(problems(&place).await, [told]);
        let mut stranger = stranger(&place).await;
        run(&mut stranger, "DELETE FROM signing_keys").await;
        if place.server.is_none() {
            run(&mut stranger, "PRAGMA foreign_keys = OFF").await;
            run(&mut stranger, "INSERT INTO sessions VALUES ('main', 's', 'a', 'gone', zeroblob(32), 0, 0, NULL)").await;
            assert_eq!(problems(&place).await, ["a row of sessions has no account"]);
        }
        run(&mut stranger, "UPDATE _sqlx_migrations SET version = 999").await;
        assert_eq!(problems(&place).await, ["the tables are of a newer gateward than this program"]);
        let refused = migrate(&place.options()).await.unwrap_err().to_string();
        let why = "was last used by a newer gateward (its tables are at version 999); start that one";
        assert!(refused.ends_with(why), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_store_in_use_opens_and_is_its_owners_alone() {
    let place = Place::sqlite();
    let store = open(&place).await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    let copy = Place::sqlite();
    let file = copy.folder.path().join("gateward.db");
    backup(&place.options(), &file).await.unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&file).unwrap();
    let refused = backup(&place.options(), &file).await.unwrap_err().to_string();
    assert_eq!(refused, format!("the backup {}: File exists (os error 17)", file.display()));
    assert_eq!(std::fs::read(&file).unwrap(), before);
    store.write(add(account("u2", "bob")), None).await.unwrap();
    assert_eq!(open(&copy).await.directory().account_count("main"), 1);
    // What cannot be finished leaves nothing behind.
    let empty = Place::sqlite();
    std::fs::write(empty.folder.path().join("gateward.db"), "x".repeat(5000)).unwrap();
    let nothing = copy.folder.path().join("nothing.db");
    let refused = backup(&empty.options(), &nothing).await.unwrap_err().to_string();
    assert!(refused.ends_with("file is not a database"), "{refused}");
    assert!(!nothing.exists());
}
