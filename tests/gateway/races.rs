//! Many at once: limits admit what they say, an end is an end for everyone, and one name is given once.

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Upstream};

const NODES: &str = "/api/v1/tenants/prod/nodes";
const THREADS: usize = 24;

/// With workers enough to run into each other.
fn gateway(api: &str) -> Gateway {
    let mut gateway = Gateway::prepare("", api);
    let file = gateway.folder.path().join("gateway.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    assert!(config.contains("workers = 1\n"), "{config}");
    std::fs::write(&file, config.replace("workers = 1\n", "workers = 4\n")).unwrap();
    gateway.restart();
    gateway
}

fn infracast(upstream: &Upstream, rest: &str) -> Gateway {
    gateway(&format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n{rest}", upstream.url()))
}

/// Does the same from all threads at the same moment.
fn at_once<T: Send>(action: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        let run = |number| {
            start.wait();
            action(number)
        };
        let threads: Vec<_> = (0..THREADS).map(|number| scope.spawn(move || run(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

fn bearer(credential: &str) -> String {
    format!("Authorization: Bearer {credential}")
}

/// M10: whoever comes at once, a limit lets through its number and the upstream sees no more.
#[test]
fn a_limit_admits_its_number_however_many_come_at_once() {
    for (algorithm, burst) in [("fixed_window", ""), ("sliding_window", ""), ("gcra", "burst = 7\n")] {
        let upstream = Upstream::start();
        let gateway = gateway(&format!(
            "[[api]]\nupstream = \"{}\"\ncontract = \"native\"\n[[api.route]]\nname = \"open\"\npath = \"/open\"\npublic = true\n\
             limits = [\"tight\"]\n[[api.limit]]\nname = \"tight\"\nper = [\"client_ip\"]\nquota = \"7 per 24h\"\n\
             algorithm = \"{algorithm}\"\n{burst}",
            upstream.url()
        ));
        let answers = at_once(|_| gateway.get("/open", &[]));
        assert_eq!((count(&answers, 200), count(&answers, 429)), (7, THREADS - 7), "{algorithm}");
        assert_eq!(upstream.count(), 7, "{algorithm}");
    }
}

/// I3: tries at one password that come at once are counted before they are hashed: none slips by.
#[test]
fn login_tries_at_once_are_all_counted() {
    let upstream = Upstream::start();
    let limits = "[[api.limit]]\nname = \"login\"\nper = [\"client_ip\"]\nquota = \"1000 per 1m\"\nalgorithm = \"fixed_window\"\n\
                  [[api.limit]]\nname = \"login-failures\"\nper = [\"account\", \"client_ip\"]\nquota = \"5 per 24h\"\n\
                  algorithm = \"fixed_window\"\ncount = \"failures\"\n";
    let gateway = infracast(&upstream, limits);
    gateway.add_user("ann", "correct horse", &["prod=viewer"]);
    let login =
        |password: &str| gateway.post("/api/v1/auth/token", &[], &json!({ "username": "ann", "password": password }).to_string());
    let answers = at_once(|number| login(&format!("wrong horse {number}")));
    assert_eq!((count(&answers, 401), count(&answers, 429)), (5, THREADS - 5));
    assert_eq!(login("correct horse").status, 429);
}

/// J10: after the first 204 of a logout no request of the session passes, whatever else runs at the same time.
#[test]
fn a_logout_among_many_ends_the_session_for_all() {
    let upstream = Upstream::start();
    let gateway = infracast(&upstream, "");
    gateway.add_user("ann", "correct horse", &["prod=viewer"]);
    let (token, refresh) = gateway.login("ann", "correct horse");
    let (other, _) = gateway.login("ann", "correct horse");
    let body = json!({ "refresh_token": refresh }).to_string();
    let answers = at_once(|number| match number % 3 {
        0 => {
            let ended = gateway.post("/api/v1/auth/logout", &[&bearer(&token)], "{}");
            let after = gateway.get(NODES, &[&bearer(&token)]);
            assert_eq!(after.status, 401, "after {ended:?}");
            ended
        }
        1 => gateway.post("/api/v1/auth/refresh", &[], &body),
        _ => gateway.get(NODES, &[&bearer(&token)]),
    });
    assert!(answers.iter().all(|answer| [200, 204, 401].contains(&answer.status)), "{answers:?}");
    assert!(count(&answers, 204) >= 1, "{answers:?}");
    // What was refreshed just before belongs to the same session.
    for answer in answers.iter().filter(|answer| answer.status == 200 && answer.body.contains("token")) {
        let fresh = answer.json()["token"].as_str().unwrap().to_owned();
        assert_eq!(gateway.get(NODES, &[&bearer(&fresh)]).status, 401);
    }
    assert_eq!(gateway.post("/api/v1/auth/refresh", &[], &body).status, 401);
    assert_eq!(gateway.get(NODES, &[&bearer(&other)]).status, 200, "the other session lives");
}

/// H13 J9: after the first 204 of a revocation the key is refused, also on connections that used it a moment ago.
#[test]
fn a_revocation_among_many_ends_the_key_for_all() {
    let upstream = Upstream::start();
    let gateway = infracast(&upstream, "");
    gateway.add_user("root", "correct horse", &["admin"]);
    let (admin, _) = gateway.login("root", "correct horse");
    for _ in 0..3 {
        let made = gateway.post("/api/v1/api-keys", &[&bearer(&admin)], r#"{"name":"k"}"#).json();
        let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
        let answers = at_once(|number| match number % 4 {
            0 => {
                let revoked = gateway.request("DELETE", &format!("/api/v1/api-keys/{id}"), &[&bearer(&admin)], "");
                let after = gateway.get(NODES, &[&bearer(key)]);
                assert_eq!((revoked.status, after.status), (204, 401));
                revoked
            }
            _ => gateway.get(NODES, &[&bearer(key)]),
        });
        assert_eq!(count(&answers, 204), THREADS / 4);
        assert_eq!(count(&answers, 200) + count(&answers, 401), THREADS - THREADS / 4, "{answers:?}");
    }
}

/// J4 J5: keys that are made at once are all there, each once, and each works as soon as it is told.
#[test]
fn keys_made_at_once_are_all_there() {
    let upstream = Upstream::start();
    let gateway = infracast(&upstream, "");
    gateway.add_user("root", "correct horse", &["admin"]);
    let (admin, _) = gateway.login("root", "correct horse");
    let mut made: Vec<String> = at_once(|number| {
        let answer = gateway.post("/api/v1/api-keys", &[&bearer(&admin)], &json!({ "name": format!("k{number}") }).to_string());
        assert_eq!(answer.status, 201, "{answer:?}");
        let key = answer.json()["key"].as_str().unwrap().to_owned();
        assert_eq!(gateway.get(NODES, &[&bearer(&key)]).status, 200);
        answer.json()["id"].as_str().unwrap().to_owned()
    });
    // Seven to a page: every key on one page, and on one only.
    let mut listed = Vec::new();
    for page in 1..=THREADS.div_ceil(7) {
        let list = gateway.get(&format!("/api/v1/api-keys?page={page}&per_page=7"), &[&bearer(&admin)]).json();
        assert_eq!((&list["total"], &list["total_pages"]), (&json!(THREADS), &json!(THREADS.div_ceil(7))));
        listed.extend(list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
    }
    made.sort();
    listed.sort();
    assert_eq!(listed, made);
    let beyond = gateway.get("/api/v1/api-keys?page=99&per_page=7", &[&bearer(&admin)]).json();
    assert_eq!((&beyond["items"], &beyond["total"]), (&json!([]), &json!(THREADS)));
}

/// J4: of many who ask for one login name at once, in any spelling, one gets it.
#[test]
fn one_login_name_is_given_once() {
    let upstream = Upstream::start();
    let gateway = infracast(&upstream, "");
    let names = ["ann", "Ann", "ANN"];
    let outputs = at_once(|number| {
        let arguments = ["user", "add", names[number % names.len()], "--password-stdin", "--json"];
        gateway.cli(&arguments, &format!("correct horse {number}"))
    });
    let won: Vec<usize> = (0..THREADS).filter(|number| outputs[*number].status.success()).collect();
    let told: Vec<String> = outputs.iter().map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).collect();
    assert_eq!(won.len(), 1, "{told:#?}");
    for number in (0..THREADS).filter(|number| *number != won[0]) {
        assert_eq!(outputs[number].status.code(), Some(1), "{}", told[number]);
        assert!(told[number].contains("there already is one: account with this login name"), "{}", told[number]);
    }
    let listed: Value = serde_json::from_str(&gateway.cli_ok(&["user", "list", "--json"], "")).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    gateway.login("ann", &format!("correct horse {}", won[0]));
}
