//! kill -9 right after an acknowledgement, and in the middle of a first start.

use std::time::Duration;

use crate::support::{Gateway, Upstream, pause_for, soundness};

const NO_LIMIT: &str =
    "[[api.limit]]\nname = \"login\"\nper = [\"client_ip\"]\nquota = \"100000 per 1m\"\nalgorithm = \"fixed_window\"\n";
const NODES: &str = "/api/v1/tenants/a/nodes";

/// The same numbers in every run: SplitMix64 from a seed that a failure prints.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % limit
    }
}

fn config(upstream: &Upstream) -> String {
    format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n{NO_LIMIT}", upstream.url())
}

/// J4 J5: whatever was taken away stays away when the process is killed the moment it has said so.
#[test]
fn what_was_taken_away_stays_away_after_kill_nine() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start(&config(&upstream));
    gateway.add_user("root", "correct horse", &["admin"]);
    for round in 0..6 {
        let (token, refresh) = gateway.login("root", "correct horse");
        let (other, other_refresh) = gateway.login("root", "correct horse");
        let bearer = |text: &str| format!("Authorization: Bearer {text}");
        let key = gateway.post("/api/v1/api-keys", &[&bearer(&token)], r#"{"name":"k"}"#).json();
        let text = |name: &str| key[name].as_str().unwrap().to_owned();
        let revoked = gateway.request("DELETE", &format!("/api/v1/api-keys/{}", text("id")), &[&bearer(&token)], "");
        assert_eq!(revoked.status, 204, "round {round}");
        assert_eq!(gateway.request("POST", "/api/v1/auth/logout", &[&bearer(&token)], "").status, 204, "round {round}");
        gateway.kill_nine();
        gateway.restart();
        let renew =
            |refresh: &str| gateway.post("/api/v1/auth/refresh", &[], &format!(r#"{{"refresh_token":"{refresh}"}}"#)).status;
        let used = |credential: &str| gateway.get(NODES, &[&bearer(credential)]).status;
        assert_eq!((used(&text("key")), used(&token), renew(&refresh)), (401, 401, 401), "round {round}");
        assert_eq!((used(&other), renew(&other_refresh)), (200, 200), "round {round}: the other session is another one");
    }
    assert_eq!(soundness(gateway.folder.path()), "ok\n0 True\n");
    let (token, _) = gateway.login("root", "correct horse");
    gateway.cli_ok(&["user", "disable", "root"], "");
    gateway.kill_nine();
    gateway.restart();
    assert_eq!(gateway.get(NODES, &[&format!("Authorization: Bearer {token}")]).status, 401);
}

/// N11: a first start that is killed, wherever it was, is made good by the next one, with no help.
#[test]
fn a_first_start_that_is_killed_is_made_good_by_the_next() {
    const SEED: u64 = 11;
    let upstream = Upstream::start();
    let mut chance = Chance(SEED);
    for round in 0..25 {
        let mut gateway = Gateway::prepare("", &config(&upstream));
        let moment = Duration::from_micros(chance.below(120_000));
        println!("seed {SEED}, round {round}: killed after {moment:?}");
        gateway.spawn();
        // waits for: the moment of this round, somewhere between the first file and the first request
        pause_for(moment);
        gateway.kill_nine();
        gateway.restart();
        let said = gateway.stderr();
        assert!(!said.contains("ERROR") && !said.contains("error:"), "{said}");
        gateway.add_user("root", "correct horse", &["admin"]);
        let (token, _) = gateway.login("root", "correct horse");
        let bearer = format!("Authorization: Bearer {token}");
        assert_eq!(gateway.post("/api/v1/api-keys", &[&bearer], r#"{"name":"k"}"#).status, 201);
        gateway.kill_nine();
        gateway.restart();
        assert_eq!(gateway.get(NODES, &[&bearer]).status, 200, "the signing key is the one of the start before");
        assert_eq!(soundness(gateway.folder.path()), "ok\n0 True\n");
    }
}
