//! The pages say what is there: every reason of refusal stands in the README's table and nothing else does, every word of
//! contract files stands in the page about them, and no link leads nowhere.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The texts between quotes or backquotes of a line.
fn quoted(line: &str, quote: char) -> impl Iterator<Item = &str> {
    line.split(quote).skip(1).step_by(2)
}

/// The first quoted word of each line after `start` that begins with one of `openings`.
fn words(path: &str, start: &str, openings: &[&str]) -> BTreeSet<String> {
    let source = read(path);
    let (_, table) = source.split_once(start).unwrap_or_else(|| panic!("{path} has no `{start}`"));
    let rows = table.lines().take_while(|line| !line.starts_with(['}', ']']));
    let rows = rows.filter(|line| openings.iter().any(|opening| line.trim_start().starts_with(opening)));
    // A match that answers with a list is about something else.
    let rows = rows.filter(|line| !line.contains("=> &["));
    rows.filter_map(|line| quoted(line, '"').next()).map(str::to_owned).collect()
}

#[test]
fn every_reason_is_explained_once_and_no_reason_is_invented() {
    let stages = ["Listener ", "Route ", "Admit ", "Credential ", "Authenticate ", "Authorize ", "Limit ", "Issuer ", "Forward "];
    let mut codes = words("src/rejection/denial.rs", "pub enum Denial {", &stages);
    codes.extend(words("src/rejection/failure.rs", "pub enum Failure {", &stages));
    assert!(codes.contains("host_missing") && codes.contains("internal"), "{codes:?}");
    let page = read("README.md");
    let (_, table) = page.split_once("| reason |").expect("README.md has no table of reasons");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let explained: Vec<&str> = rows.filter_map(|row| row.split('|').nth(1)).flat_map(|cell| quoted(cell, '`')).collect();
    let once: BTreeSet<String> = explained.iter().map(|&code| code.to_owned()).collect();
    assert_eq!(once, codes);
    assert_eq!(explained.len(), codes.len(), "a reason stands in the table twice");
}

#[test]
fn the_page_about_contracts_has_every_word() {
    let page = read("deploy/contracts/README.md");
    let mut wanted = words("src/rejection/class.rs", "pub fn as_str", &["Self::"]);
    wanted.extend(words("src/contract/operation.rs", "impl Operation {", &["Self::"]));
    wanted.extend(words("src/contract/operation.rs", "impl Input {", &["Self::"]));
    wanted.extend(words("src/contract/placeholder.rs", "const WORDS", &["(\""]));
    assert!(wanted.contains("gateway_timeout") && wanted.contains("keys.list") && wanted.contains("page.count"), "{wanted:?}");
    let page: BTreeSet<&str> = page.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))).collect();
    // The page shortens `account.id`, `account.email` to `account.id` `.email`.
    let has = |word: &str| {
        page.contains(word) || word.split_once('.').is_some_and(|(_, rest)| page.contains(format!(".{rest}").as_str()))
    };
    let missing: Vec<&String> = wanted.iter().filter(|word| !has(word)).collect();
    assert!(missing.is_empty(), "deploy/contracts/README.md does not have {missing:?}");
}

#[test]
fn no_link_leads_nowhere() {
    for page in ["README.md", "deploy/contracts/README.md", "SECURITY.md", "CHANGELOG.md"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        for target in read(page).split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target) {
            let file = target.split('#').next().unwrap_or(target);
            let there = target.starts_with("https://") || folder.with_file_name(file).exists();
            assert!(there, "{page}: {target}");
        }
    }
}
