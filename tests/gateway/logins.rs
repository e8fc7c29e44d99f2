//! Logins: which passwords are one, and what a flood of them costs.

use crate::support::{Answer, Client, Gateway, Upstream, until};

const LOGIN: &str = "/api/v1/auth/token";
const WRONG: &str = r#"{"error":{"code":"UNAUTHORIZED","message":"Invalid username or password"}}"#;
/// The test's own limits in place of the contract's.
const NO_LIMITS: &str = "[[api.limit]]\nname = \"login\"\nper = [\"client_ip\"]\nquota = \"100000 per 1m\"\nalgorithm = \"fixed_window\"\n\
                         [[api.limit]]\nname = \"login-failures\"\nper = [\"account\"]\nquota = \"100000 per 1m\"\n\
                         algorithm = \"fixed_window\"\n";

fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::start(&format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n{NO_LIMITS}", upstream.url()))
}

fn body(user: &str, password: &str) -> String {
    serde_json::json!({ "username": user, "password": password }).to_string()
}

fn login(gateway: &Gateway, user: &str, password: &str) -> Answer {
    gateway.post(LOGIN, &[], &body(user, password))
}

/// I6 I7: a password is its bytes, all of them and no others: nothing is cut, trimmed or made of one Unicode form.
#[test]
fn a_password_is_its_bytes() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let long = "x".repeat(1023);
    for (user, password, others) in [
        ("seventytwo", format!("{}a", "p".repeat(72)), vec![format!("{}b", "p".repeat(72)), "p".repeat(72), "p".repeat(73)]),
        ("composed", "caf\u{e9} caf\u{e9}".to_owned(), vec!["cafe\u{301} cafe\u{301}".to_owned(), "cafe cafe".to_owned()]),
        ("longest", format!("{long}a"), vec![format!("{long}b"), long.clone()]),
        (
            "plain",
            "correct horse".to_owned(),
            [
                " ",
                "   ",
                "\u{0}",
                "correct horse\u{0}",
                "correct horse\u{0}x",
                "correct horse ",
                " correct horse",
                "Correct horse",
                "correct horse\n",
                "correct\u{a0}horse",
                "c",
            ]
            .map(str::to_owned)
            .to_vec(),
        ),
    ] {
        gateway.add_user(user, &password, &["prod=viewer"]);
        assert_eq!(login(&gateway, user, &password).status, 200, "{user}");
        for other in others {
            let answer = login(&gateway, user, &other);
            assert_eq!((answer.status, answer.body.as_str()), (401, WRONG), "{user} {other:?}");
            assert_eq!(gateway.why(&answer), "refused issuer login_password", "{user} {other:?}");
        }
    }
}

/// I7: what is longer than a password may be is refused before it is hashed.
#[test]
fn a_password_that_is_too_long_is_not_hashed() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    gateway.add_user("ann", "correct horse", &["prod=viewer"]);
    let answer = login(&gateway, "ann", &"x".repeat(1024));
    assert_eq!((answer.status, gateway.why(&answer).as_str()), (401, "refused issuer login_password"));
    for letters in ["x".repeat(1025), "\u{e9}".repeat(513)] {
        let answer = login(&gateway, "ann", &letters);
        assert_eq!((answer.status, gateway.why(&answer).as_str()), (400, "refused issuer field_invalid"));
    }
    let answer = login(&gateway, "ann", &"x".repeat(1 << 20));
    assert_eq!((answer.status, gateway.why(&answer).as_str()), (413, "refused listener body_too_large"));
}

/// I6: what is no password at all is a bad request, for an account that there is and for one that there is not.
#[test]
fn what_is_no_password_is_a_bad_request() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    gateway.add_user("ann", "correct horse", &["prod=viewer"]);
    for user in ["ann", "nobody"] {
        for (member, message) in [
            ("", "password is required"),
            (r#","password":"""#, "password must not be empty"),
            (r#","password":null"#, "password is required"),
            (r#","password":[]"#, "password must be a string"),
            (r#","password":["correct horse"]"#, "password must be a string"),
            (r#","password":{"$ne":1}"#, "password must be a string"),
            (r#","password":true"#, "password must be a string"),
            (r#","password":0"#, "password must be a string"),
        ] {
            let answer = gateway.post(LOGIN, &[], &format!(r#"{{"username":"{user}"{member}}}"#));
            let expected = format!(r#"{{"error":{{"code":"BAD_REQUEST","message":"{message}"}}}}"#);
            assert_eq!((answer.status, answer.body.as_str()), (400, expected.as_str()), "{user} {member}");
            assert_eq!(gateway.why(&answer), "refused issuer field_invalid", "{user} {member}");
        }
    }
}

/// I8: of two hundred logins at once some are hashed, as many wait as the queue has places, and the others are told to come
/// back before the last of those is done; what is proxied goes on, and memory stays with the few that are hashed.
#[test]
fn a_flood_of_logins_costs_the_others_nothing() {
    const FLOOD: usize = 200;
    const QUEUE: usize = 32;
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    gateway.add_user("ann", "correct horse", &["prod=viewer"]);
    let (token, _) = gateway.login("ann", "correct horse");
    let before = gateway.resident_kib();
    let text = body("ann", "wrong horse");
    let request = format!(
        "POST {LOGIN} HTTP/1.1\r\nHost: api.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    let mut clients: Vec<Client> = (0..FLOOD).map(|_| Client::connect(gateway.address)).collect();
    clients.iter_mut().for_each(|client| client.send(&request));
    let served = gateway.get("/api/v1/tenants/prod/nodes", &[&format!("Authorization: Bearer {token}")]);
    assert_eq!((served.status, upstream.count()), (200, 1));
    let answers: Vec<Answer> = clients.iter_mut().map(Client::receive).collect();
    let (busy, hashed): (Vec<&Answer>, Vec<&Answer>) = answers.iter().partition(|answer| answer.status == 503);
    assert!(hashed.iter().all(|answer| answer.status == 401), "{hashed:?}");
    assert!(hashed.len() > QUEUE && busy.len() > FLOOD / 4, "{} hashed, {} busy", hashed.len(), busy.len());
    for answer in &busy {
        assert_eq!(answer.body, r#"{"error":{"code":"UNAVAILABLE","message":"Service unavailable"}}"#);
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(gateway.why(busy[0]), "failed issuer hashing_busy");
    let lines = until("all lines", || Some(gateway.log()).filter(|lines| lines.len() > FLOOD));
    let last = |status: u16| lines.iter().rposition(|line| line["status"] == status).unwrap();
    assert!(last(503) < last(401) && last(200) < last(401), "{} {} {}", last(200), last(401), last(503));
    // One core hashes, or all but one, with 19 MiB each.
    let permits = std::thread::available_parallelism().unwrap().get().saturating_sub(1).max(1);
    let bound = before + (u64::try_from(permits).unwrap() * 20 + 32) * 1024;
    assert!(gateway.resident_kib() < bound, "{before} KiB before, {} after", gateway.resident_kib());
    assert_eq!(login(&gateway, "ann", "correct horse").status, 200);
}
