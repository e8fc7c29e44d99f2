//! A Postgres that is killed, stopped, full, read-only or replaced.

use std::collections::BTreeSet;

use super::*;

/// Writes accounts one after the other until one is not acknowledged; answers those that were.
async fn write_until_trouble(store: &Store, prefix: &str) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let id = format!("{prefix}-{number}");
        match store.write(add(account(&id, &id)), Some(event(&id))).await {
            Ok(()) => acknowledged.push(id),
            Err(WriteError::Unavailable(failure)) => {
                assert_eq!(failure.code(), "store_unavailable");
                break;
            }
            Err(other) => panic!("{other}"),
        }
    }
    acknowledged
}

/// Writes until it is done.
async fn write_at_last(store: &Store, id: &str) {
    let writing = async {
        while let Err(error) = store.write(add(account(id, id)), None).await {
            assert_eq!(error.into_failure().code(), "store_unavailable");
            // waits for: the server; the whole wait is bounded below.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), writing).await.expect("the store recovers");
}

async fn ids(place: &Place, sql: &'static str) -> BTreeSet<String> {
    let rows = query(sql).all(&mut stranger(place).await).await.unwrap();
    let ids: Vec<String> = rows.iter().map(|row| row.get("id").unwrap()).collect();
    let distinct: BTreeSet<String> = ids.iter().cloned().collect();
    assert_eq!(distinct.len(), ids.len(), "something is there twice");
    distinct
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_many_write_loses_nothing_that_was_acknowledged() {
    let mut place = Place::postgres();
    let stores = [open(&place).await, open(&place).await, open(&place).await];
    for round in 0..3 {
        let writers: Vec<_> = stores
            .iter()
            .enumerate()
            .map(|(node, store)| {
                let store = store.clone();
                tokio::spawn(async move { write_until_trouble(&store, &format!("r{round}n{node}")).await })
            })
            .collect();
        let shown = stores[0].directory().account_count("main") + 40;
        until("writes", || stores[0].directory().account_count("main") > shown).await;
        place.server().kill();
        let mut acknowledged = Vec::new();
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
        assert!(acknowledged.len() >= 30, "{acknowledged:?}");
        // What is known stays known, and nobody is told what is not true.
        assert_eq!(stores[1].login_record("main", "r0n0-0").await.unwrap_err().code(), "store_unavailable");
        assert!(stores[1].directory().account("main", &AccountId::new("r0n0-0")).is_some());
        place.server().restart();
        for (node, store) in stores.iter().enumerate() {
            write_at_last(store, &format!("r{round}n{node}-after")).await;
        }
        let there = ids(&place, "SELECT id FROM accounts").await;
        assert!(acknowledged.iter().all(|id| there.contains(id)), "{acknowledged:?}");
        let audited = ids(&place, "SELECT object AS id FROM audit").await;
        let with_audit: BTreeSet<String> = there.iter().filter(|id| !id.ends_with("-after")).cloned().collect();
        assert_eq!(audited, with_audit);
        for store in &stores {
            until("every account", || store.directory().account_count("main") == there.len()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_fails_reads_and_writes_in_time_and_is_used_again_when_it_goes_on() {
    let mut place = Place::postgres();
    let store = try_open(place.options(), IMPATIENT).await.unwrap();
    store.write(add(account("u1", "ann")), None).await.unwrap();
    place.server().signal("STOP");
    let since = clock::now().wall;
    let host = place.server().address;
    let told = format!("the store cannot be used: error communicating with database: {host}: no answer in 500ms");
    for _ in 0..2 {
        let (written, read) = tokio::join!(store.write(add(account("u2", "bob")), None), store.login_record("main", "ann"));
        assert_eq!((failure(written).to_string(), read.unwrap_err().to_string()), (told.clone(), told.clone()));
    }
    let took = clock::now().wall.0 - since.0;
    assert!(took < 10_000, "{took} ms");
    assert_eq!(store.directory().account_count("main"), 1);
    place.server().signal("CONT");
    write_at_last(&store, "u4").await;
    assert_eq!(store.login_record("main", "ann").await.unwrap().unwrap().account.id.as_str(), "u1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_free_connections_is_used_again_when_it_has_some() {
    let mut place = Place::postgres();
    *place.server() = Postgres::start_with(&["-c", "max_connections=6", "-c", "superuser_reserved_connections=0"]);
    let store = open(&place).await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    // Others take all that is free, and then the one that the store writes with.
    let database = Database::new(&place.options().url, PACE);
    let mut taken = Vec::new();
    while let Ok(connection) = database.writer().await {
        taken.push(connection);
    }
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query = 'COMMIT'";
    assert_eq!(count(&mut taken[0], cut).await, 1);
    let taking = async {
        loop {
            match database.writer().await {
                Ok(connection) => break taken.push(connection),
                // waits for: the server to count it out; the whole wait is bounded below.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(Duration::from_secs(20), taking).await.expect("a free connection");
    let failure = failure(store.write(add(account("u2", "bob")), None).await).to_string();
    assert!(failure.contains("too many clients already"), "{failure}");
    assert_eq!(store.directory().account_count("main"), 1);
    taken.clear();
    write_at_last(&store, "u3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_is_read_and_is_written_when_it_can_be() {
    let mut place = Place::postgres();
    let store = open(&place).await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    let set = |server: &Postgres, sql: &str| {
        let writable = "postgres?options=-c%20default_transaction_read_only%3Doff";
        server.psql(writable, sql);
        server.psql(writable, "SELECT pg_reload_conf()");
    };
    set(place.server(), "ALTER SYSTEM SET default_transaction_read_only = on");
    let refused = async {
        while store.health().await.is_ok() {
            // waits for: the server to read its settings again; the whole wait is bounded below.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), refused).await.expect("the server is read-only");
    let failure = failure(store.write(add(account("u2", "bob")), None).await).to_string();
    assert_eq!(failure, "the store cannot be used: error communicating with database: the server is read-only");
    assert!(store.login_record("main", "ann").await.unwrap().is_some());
    set(place.server(), "ALTER SYSTEM RESET default_transaction_read_only");
    write_at_last(&store, "u2").await;
    store.health().await.unwrap();
}

/// The URL names both servers; the first is killed while many write, the second takes over.
#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_is_found_and_has_all_that_was_acknowledged() {
    let mut place = Place::postgres();
    let mut primary = std::mem::replace(place.server(), Postgres::stopped(&[]));
    let replica = primary.start_replica(Replication::Synchronous);
    let url = format!("postgres://gateward@{},{}/postgres", primary.address, replica.address);
    let options = StoreOptions { url: StoreUrl::parse(&url).unwrap(), ..place.options() };
    let stores = [try_open(options.clone(), PACE).await.unwrap(), try_open(options, PACE).await.unwrap()];
    let writers = stores.clone().map(|store| {
        let node = if store.directory().account_count("main") == 0 { "a" } else { "b" };
        tokio::spawn(async move { write_until_trouble(&store, &format!("{node}{}", crate::random::word(4))).await })
    });
    until("writes", || stores[0].directory().account_count("main") > 40).await;
    primary.kill();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    // A replica takes no writes before it is told to.
    assert_eq!(failure(stores[0].write(add(account("early", "early")), None).await).code(), "store_unavailable");
    replica.promote();
    *place.server() = replica;
    for (store, id) in stores.iter().zip(["after-1", "after-2"]) {
        write_at_last(store, id).await;
    }
    let there = ids(&place, "SELECT id FROM accounts").await;
    assert!(acknowledged.iter().all(|id| there.contains(id)), "{acknowledged:?}");
    for store in &stores {
        until("every account", || store.directory().account_count("main") == there.len()).await;
    }
    // The old one comes back and believes that it still is the one: nobody asks it.
    primary.restart();
    write_at_last(&stores[0], "after-3").await;
    until("the account", || stores[1].directory().account("main", &AccountId::new("after-3")).is_some()).await;
    assert_eq!(primary.psql("postgres", "SELECT count(*) FROM accounts WHERE id LIKE 'after%'"), "0");
}

/// A primary that hangs does not refuse; its replica takes its place all the same, and no write is refused for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_left_for_the_promoted_one() {
    let mut place = Place::postgres();
    let primary = std::mem::replace(place.server(), Postgres::stopped(&[]));
    let replica = primary.start_replica(Replication::Synchronous);
    let url = format!("postgres://gateward@{},{}/postgres", primary.address, replica.address);
    let options = StoreOptions { url: StoreUrl::parse(&url).unwrap(), ..place.options() };
    let store = try_open(options, Pace { busy_timeout: Duration::from_secs(2), ..PACE }).await.unwrap();
    store.write(add(account("u1", "ann")), None).await.unwrap();
    assert!(store.login_record("main", "ann").await.unwrap().is_some());
    primary.signal("STOP");
    replica.promote();
    store.write(add(account("u2", "bob")), None).await.unwrap();
    // It goes on and believes that it still is the one: what it says is not believed.
    primary.signal("CONT");
    store.write(Change::AddKey(key("k1", "u2")), None).await.unwrap();
    assert!(store.login_record("main", "bob").await.unwrap().is_some());
    let looked_at = store.directory().followed_at();
    until("two more looks", || store.directory().followed_at() > looked_at.plus(PACE.follow_every)).await;
    assert_eq!(store.directory().account_count("main"), 2);
    assert_eq!(replica.psql("postgres", "SELECT count(*) FROM keys"), "1");
    assert_eq!(primary.psql("postgres", "SELECT count(*) FROM accounts"), "1");
}

/// Without synchronous replication a replica may lack what was acknowledged. Then all nodes show what it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lacks_the_newest_changes_is_shown_as_it_is() {
    let mut place = Place::postgres();
    let mut primary = std::mem::replace(place.server(), Postgres::stopped(&[]));
    let replica = primary.start_replica(Replication::Asynchronous);
    let url = format!("postgres://gateward@{},{}/postgres", primary.address, replica.address);
    let options = StoreOptions { url: StoreUrl::parse(&url).unwrap(), ..place.options() };
    let store = try_open(options, PACE).await.unwrap();
    store.write(add(account("u1", "ann")), None).await.unwrap();
    until("the copy", || replica.psql("postgres", "SELECT count(*) FROM accounts") == "1").await;
    replica.psql("postgres", "ALTER SYSTEM SET primary_conninfo = ''");
    replica.psql("postgres", "SELECT pg_reload_conf()");
    let followed = || primary.psql("postgres", "SELECT count(*) FROM pg_stat_replication") != "0";
    until("the end of replication", || !followed()).await;
    store.write(add(account("u2", "bob")), None).await.unwrap();
    primary.kill();
    replica.promote();
    let directory = store.directory();
    until("the loss", || directory.account_count("main") == 1).await;
    store.write(add(account("u3", "zoe")), None).await.unwrap();
    assert!(directory.account("main", &AccountId::new("u2")).is_none());
    assert!(directory.account("main", &AccountId::new("u3")).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_between_two_writes_refuses_none() {
    let mut place = Place::postgres();
    let store = open(&place).await;
    store.write(add(account("u1", "ann")), None).await.unwrap();
    place.server().stop();
    place.server().restart();
    store.write(add(account("u2", "bob")), None).await.unwrap();
    assert!(store.login_record("main", "bob").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_wait_for_the_disk_even_where_the_server_would_not() {
    let mut place = Place::postgres();
    for (server, expected) in [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")] {
        let setting = format!("synchronous_commit={server}");
        *place.server() = Postgres::start_with(&["-c", &setting]);
        let mut connection = stranger(&place).await;
        let shown = query("SELECT current_setting('synchronous_commit') AS shown").one(&mut connection).await.unwrap();
        assert_eq!(shown.get::<String>("shown").unwrap(), expected, "{server}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_believed_by_its_certificate_and_its_name() {
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = parameters.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(parameters, authority);
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let mut place = Place::postgres();
    *place.server() = Postgres::stopped(&["-c", "ssl=on", "-c", "ssl_cert_file=../own.pem", "-c", "ssl_key_file=../own.key"]);
    place.server().write("own.pem", &own.pem());
    place.server().write("own.key", &key.serialize_pem());
    place.server().restart();
    let roots = place.folder.path().join("ca.pem");
    std::fs::write(&roots, certificate.pem()).unwrap();
    let (port, roots) = (place.server().address.port(), roots.display());
    let trusted = format!("sslrootcert={roots}");
    for (host, query_part, told) in [
        ("localhost", "sslmode=disable", None),
        ("localhost", "sslmode=require", None),
        ("127.0.0.1", "sslmode=require", None),
        ("localhost", &*format!("sslmode=verify-full&{trusted}"), None),
        ("127.0.0.1", &*format!("sslmode=verify-ca&{trusted}"), None),
        ("127.0.0.1", &*format!("sslmode=verify-full&{trusted}"), Some("invalid peer certificate")),
        ("localhost", "sslmode=verify-full", Some("invalid peer certificate: UnknownIssuer")),
    ] {
        let url = StoreUrl::parse(&format!("postgres://gateward@{host}:{port}/postgres?{query_part}")).unwrap();
        match (Database::new(&url, PACE).writer().await, told) {
            (Ok(mut connection), None) => {
                let sql = "SELECT count(*) FROM pg_stat_ssl WHERE ssl AND pid = pg_backend_pid()";
                assert_eq!(count(&mut connection, sql).await, i64::from(query_part != "sslmode=disable"), "{query_part}");
            }
            (Err(error), Some(told)) => assert!(error.to_string().contains(told), "{query_part}: {error}"),
            (outcome, _) => panic!("{host} {query_part}: {:?}", outcome.err()),
        }
    }
}
