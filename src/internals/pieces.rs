//! The pure parts that every request goes through, each ready to be called again and again, for benches.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::clock::{Tick, Timestamp};
use crate::config::report::Report;
use crate::config::value::Quota;
use crate::config::{self, Algorithm};
use crate::contract::{Api, Surroundings, compile};
use crate::identity::{AccountId, ApiKey, Digest, KeyId, Networks, ScopeSet};
use crate::limiter::{CellKey, Memory, Rule, Spending};
use crate::pipeline::{NormalPath, Routing};
use crate::store::Directory;
use crate::token::{Held, VerifiedCache};

/// What it is called, and one call of it.
pub type Piece = (String, Box<dyn FnMut()>);

/// All of them. Sizes are those of a large installation beside those of a small one: none should cost much more there.
pub fn pieces() -> Vec<Piece> {
    let mut all = Vec::new();
    all.extend(paths());
    all.extend([10, 10_000].map(routes));
    all.extend([1, 1_000, 10_000].map(tokens));
    all.extend([1, 1_000].map(networks));
    all.extend([1_000, 100_000].map(keys));
    all.extend([Algorithm::Gcra, Algorithm::SlidingWindow, Algorithm::FixedWindow].map(limits));
    all
}

fn paths() -> [Piece; 2] {
    [("plain", "/api/v1/tenants/acme/items/42"), ("escaped", "/api/v1/tenants/acme/items/%41%20b%2ec")].map(|(what, path)| {
        let piece = move || {
            let _ = black_box(NormalPath::parse(black_box(path)));
        };
        (format!("path/{what}"), Box::new(piece) as Box<dyn FnMut()>)
    })
}

/// The last of so many routes.
fn routes(count: usize) -> Piece {
    let route = |number| format!("[[api.route]]\nname = \"r{number}\"\npath = \"/v1/r{number}/{{id}}/items\"\npublic = true\n");
    let routing = api(&(0..count).map(route).collect::<String>()).map(|api| Routing::new([(Arc::from("public"), &api)]));
    let path = NormalPath::parse(&format!("/v1/r{}/42/items", count.saturating_sub(1)));
    let piece = move || {
        if let (Some(routing), Ok(path)) = (&routing, &path) {
            black_box(routing.look_up(0, &Method::GET, black_box(path), &http::HeaderMap::new()));
        }
    };
    (format!("route/{count}"), Box::new(piece))
}

/// A verified token is found again, of so many in turn.
fn tokens(count: usize) -> Piece {
    let tokens: Vec<String> = (0..count).map(|number| format!("{number:0>800}")).collect();
    let cache = VerifiedCache::new(count.saturating_mul(2), 1 << 30);
    tokens.iter().for_each(|token| cache.put(token, Arc::new(Said)));
    let mut turn = 0;
    let piece = move || {
        turn = (turn + 1) % count;
        black_box(tokens.get(turn).and_then(|token| cache.get(token)));
    };
    (format!("token/{count}"), Box::new(piece))
}

/// An address that lies in the last of so many networks.
fn networks(count: u32) -> Piece {
    let network = |number: u32| Networks::parse_one(&format!("{}/22", Ipv4Addr::from((number + 1) << 12)));
    let networks: Networks = (0..count).filter_map(network).collect();
    let address = Ipv4Addr::from(count << 12).into();
    let piece = move || {
        black_box(networks.contains(black_box(address)));
    };
    (format!("network/{count}"), Box::new(piece))
}

/// An imported key, found by its whole text among so many.
fn keys(count: usize) -> Piece {
    let texts: Vec<String> = (0..count).map(|number| format!("ak_{number:0>40}")).collect();
    let directory = Directory::of_keys(texts.iter().enumerate().map(|(number, text)| key(number, text)));
    let mut turn = 0;
    let piece = move || {
        // Far apart, so that no look-up finds what the one before has brought near.
        turn = (turn + 7919) % count;
        black_box(texts.get(turn).and_then(|text| directory.key_by_digest("bench", &Digest::of(text))));
    };
    (format!("key/{count}"), Box::new(piece))
}

/// One unit of one caller of a thousand, and the name of its counter.
fn limits(algorithm: Algorithm) -> Piece {
    let quota = Quota { count: 1_000_000_000, window: Duration::from_secs(60) };
    let rule = Rule { bucket: "bench/limit".into(), quota, burst: quota.count, algorithm };
    let memory = Memory::new(Memory::DEFAULT_CAPACITY);
    let callers: Vec<String> = (0..1000).map(|number| format!("user-{number:08}")).collect();
    let (mut turn, mut now) = (0, 0);
    let piece = move || {
        turn = (turn + 1) % callers.len();
        now += 10;
        if let Some(caller) = callers.get(turn) {
            let key = CellKey::new(&rule, &[b"bench", caller.as_bytes()]);
            black_box(memory.take(&rule, key, Tick(now), Spending::Spend));
        }
    };
    (format!("limit/{}", algorithm.as_str()), Box::new(piece))
}

struct Said;

impl Held for Arc<Said> {
    fn held_bytes(&self) -> u64 {
        0
    }
}

fn api(rest: &str) -> Option<Api> {
    let text = format!("[[api]]\nupstream = \"http://127.0.0.1:9000\"\ncontract = \"native\"\nendpoints = \"none\"\n{rest}");
    let (mut report, environment) = (Report::default(), |_: &str| None);
    let loaded = config::parse(&text, Path::new("gateway.toml"), &environment, &mut report);
    let around = Surroundings { folder: Path::new("."), environment: &environment };
    loaded.as_ref().and_then(|loaded| loaded.config.apis.first()).and_then(|api| compile(api, &around, &mut report))
}

fn key(number: usize, text: &str) -> ApiKey {
    ApiKey {
        id: KeyId::new(format!("key-{number}")),
        realm: "bench".into(),
        owner: AccountId::new("owner"),
        name: String::new(),
        scopes: ScopeSet::default(),
        tenants: Vec::new(),
        allowed_ips: Networks::default(),
        environment: "live".into(),
        digest: Digest::of(text),
        created_at: Timestamp::default(),
        expires_at: None,
        revoked_at: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a bench measures must be the work that its name says.
    #[test]
    fn each_piece_has_a_name_of_its_own_and_finds_what_it_looks_for() {
        let mut names = std::collections::BTreeSet::new();
        for (name, mut piece) in pieces() {
            piece();
            names.insert(name);
        }
        assert_eq!(names.len(), 14, "{names:?}");
        let api = api("[[api.route]]\nname = \"r\"\npath = \"/v1/r/{id}/items\"\npublic = true\n").unwrap();
        let found = Routing::new([(Arc::from("public"), &api)]).look_up(
            0,
            &Method::GET,
            &NormalPath::parse("/v1/r/42/items").unwrap(),
            &http::HeaderMap::new(),
        );
        assert!(matches!(found, crate::pipeline::Lookup::Found { .. }), "{found:?}");
        let directory = Directory::of_keys([key(0, "ak_0")]);
        assert!(directory.key_by_digest("bench", &Digest::of("ak_0")).is_some());
    }
}
