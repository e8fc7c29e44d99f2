//! Whom a login finds, and by which password.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_found_by_any_spelling_of_name_or_email() {
    for place in Place::both() {
        let store = open(&place).await;
        let ann = Account { email: Some("Ann@Example.com".to_owned()), ..account("u1", "Ann") };
        store.write(add(ann), None).await.unwrap();
        for login in ["ann", "ANN", " Ann ", "ann@example.com", "ANN@EXAMPLE.COM"] {
            let found = store.login_record("main", login).await.unwrap().unwrap();
            assert_eq!(found.account.id.as_str(), "u1", "{login}");
            assert_eq!(found.password.unwrap().expose(), "$hash$1");
        }
        for login in ["", "an", "ann@example", "%", "_nn", "ann\0"] {
            assert!(store.login_record("main", login).await.unwrap().is_none(), "{login:?}");
        }
        assert!(store.login_record("other", "ann").await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_of_two_accounts_logs_nobody_in_and_a_name_goes_before_an_email() {
    for place in Place::both() {
        let store = open(&place).await;
        let shared = |id, name| Account { email: Some("team@example.com".to_owned()), ..account(id, name) };
        store.write(add(shared("u1", "ann")), None).await.unwrap();
        store.write(add(shared("u2", "bob")), None).await.unwrap();
        assert!(store.login_record("main", "team@example.com").await.unwrap().is_none());
        store.write(add(account("u3", "team@example.com")), None).await.unwrap();
        assert_eq!(store.login_record("main", "team@example.com").await.unwrap().unwrap().account.id.as_str(), "u3");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_a_password_has_none() {
    for place in Place::both() {
        let store = open(&place).await;
        store.write(Change::AddAccount { account: account("u1", "ann"), password: None }, None).await.unwrap();
        assert!(store.login_record("main", "ann").await.unwrap().unwrap().password.is_none());
        // An empty hash is a defect of the caller; it is refused alone.
        let empty = Change::AddAccount { account: account("u2", "bob"), password: Some(Secret::new("")) };
        assert_eq!(failure(store.write(empty, None).await).code(), "internal");
    }
}
