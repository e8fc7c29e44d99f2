//! The client's address, row by row from the shared vectors: what a route's list decides.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Gateway, Upstream, vectors};

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

fn quoted(list: &[String]) -> String {
    list.iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}

fn api(upstream: &Upstream, lists: &[Vec<String>]) -> String {
    let route = |(number, allowed): (usize, &Vec<String>)| {
        format!("[[api.route]]\nname = \"r{number}\"\npath = \"/r{number}\"\npublic = true\nallow_ips = [{}]\n", quoted(allowed))
    };
    let routes: String = lists.iter().enumerate().map(route).collect();
    format!("[[api]]\nupstream = \"{}\"\ncontract = \"native\"\nendpoints = \"none\"\n{routes}", upstream.url())
}

/// Lists with which the gateway does not start, and what it says of them. An empty list is one of these: it would allow
/// nobody, and the vectors ask for no more than that it does. A list of mapped addresses means the same ones in IPv4,
/// which for this row is everybody.
const REFUSED_LISTS: &[(&str, &str)] = &[
    ("", "`allow_ips` is empty and would allow no address"),
    ("10.1.2.3/33", "`10.1.2.3/33` is no network"),
    ("::ffff:0:0/96", "`0.0.0.0/0` in `allow_ips` allows every address"),
];

/// M1 M3: each row of the vectors. The row's peer is a loopback proxy's word here, so that it can be any address: what the
/// walk finds from there on is the same.
#[test]
fn the_rows_about_addresses_have_the_outcomes_that_they_ask_for() {
    let Some(rows) = vectors("own/client_ip.json") else { return };
    let upstream = Upstream::start();
    let (mut started, mut refused): (BTreeMap<Vec<String>, Vec<&Value>>, usize) = (BTreeMap::new(), 0);
    for row in rows["tests"].as_array().unwrap() {
        let (trusted, allowed) = (strings(&row["trusted_proxies"]), strings(&row["allow"]));
        let list = allowed.join(" ");
        match REFUSED_LISTS.iter().find(|(refused, _)| *refused == list) {
            Some((_, why)) => {
                refused += 1;
                let (code, said) = Gateway::prepare("", &api(&upstream, &[allowed])).run_to_end();
                assert!(code == Some(78) && said.contains(why), "{row}: {code:?} {said}");
            }
            None if row["decision"] == "config error" => {
                refused += 1;
                let listener = format!("trusted_proxies = [{}]", quoted(&trusted));
                let (code, said) = Gateway::prepare(&listener, &api(&upstream, &[allowed])).run_to_end();
                assert!(code == Some(78) && said.contains("lets everybody say which address they come from"), "{row}: {said}");
            }
            None => started.entry(trusted).or_default().push(row),
        }
    }
    let played: usize = started.iter().map(|(trusted, rows)| play(&upstream, trusted, rows)).sum();
    assert_eq!((played, refused), (31, 4));
}

/// Plays the rows of one gateway; how many there were.
fn play(upstream: &Upstream, trusted: &[String], rows: &[&Value]) -> usize {
    let mut lists: Vec<Vec<String>> = rows.iter().map(|row| strings(&row["allow"])).collect();
    lists.sort();
    lists.dedup();
    let proxies = [trusted, &["127.0.0.1/32".to_owned()]].concat();
    let gateway = Gateway::start_with(&format!("trusted_proxies = [{}]", quoted(&proxies)), &api(upstream, &lists));
    for row in rows {
        upstream.forget();
        let number = lists.iter().position(|list| *list == strings(&row["allow"])).unwrap();
        let mut said: Vec<String> =
            strings(&row["x_forwarded_for"]).iter().map(|line| format!("X-Forwarded-For: {line}")).collect();
        said.push(format!("X-Forwarded-For: {}", row["peer"].as_str().unwrap()));
        let answer = gateway.get(&format!("/r{number}"), &said.iter().map(String::as_str).collect::<Vec<_>>());
        // Host bits of a network in the config are masked.
        let allowed = ["allow", "config error or masked, said in the docs"].contains(&row["decision"].as_str().unwrap());
        let why = if allowed { "forwarded - -" } else { "refused admit address_not_allowed" };
        let status = if allowed { 200 } else { 403 };
        assert_eq!(
            (answer.status, gateway.why(&answer).as_str(), upstream.count()),
            (status, why, usize::from(allowed)),
            "{row}"
        );
        // Where nobody can say who the client is, the last hop that is known stands in the log.
        let known = row["client_ip"].as_str().unwrap_or(row["peer"].as_str().unwrap());
        assert_eq!(gateway.logged(&answer)["client_ip"], known, "{row}");
    }
    rows.len()
}
