//! The pages say what is there: every reason of refusal stands in the README's table and nothing else does, every word of
//! contract files stands in the page about them, and no link leads nowhere.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

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
    let mut codes = words("src/rejection/denial.rs", "\ndenials! {", &stages);
    codes.extend(words("src/rejection/failure.rs", "\nfailures! {", &stages));
    assert!(codes.contains("host_missing") && codes.contains("internal"), "{codes:?}");
    let page = read("README.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
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
            let there = target.starts_with("https://") || folder.with_file_name(target).exists();
            assert!(there, "{page}: {target}");
        }
    }
}

/// The indented blocks of a page that are TOML, one after the other.
fn toml_of(page: &str) -> String {
    let text = read(page);
    let blocks = text.split("\n\n").filter(|block| block.lines().all(|line| line.starts_with("    ")));
    let is_toml = |block: &&str| block.lines().any(|line| line.starts_with("    [") || line.starts_with("    \"X-"));
    let lines = blocks.filter(is_toml).flat_map(str::lines).map(|line| line.trim_start_matches("    "));
    lines.map(|line| format!("{line}\n")).collect()
}

/// What `gateward check` says of these files, the first of which is the config.
fn check(files: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateward"));
    let output = command.current_dir(&folder).args(["check", files[0].0]).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn the_configs_of_the_readme_make_one_without_mistakes() {
    let config = toml_of("README.md");
    assert!(config.contains("allow_ips") && config.contains("carriers"), "{config}");
    assert_eq!(check(&[("gateway.toml", &config)]), "gateway.toml: 1 API, 8 routes, no errors\n");
}

#[test]
fn the_parts_of_the_page_about_contracts_make_one_that_misses_only_what_they_leave_out() {
    let contract = format!("contract = 'shop'\nprefixes = ['/']\n{}", toml_of("deploy/contracts/README.md"));
    assert!(contract.contains("[errors.when]") && contract.contains("[[limit]]"), "{contract}");
    let config = "[[api]]\nupstream = 'http://127.0.0.1:9000'\ncontract = 'shop.toml'\n";
    let said = check(&[("gateway.toml", config), ("shop.toml", &contract)]);
    let mistakes: Vec<&str> =
        said.lines().filter(|line| line.starts_with("shop.toml:") || line.starts_with("gateway.toml")).collect();
    let [only] = mistakes.as_slice() else { panic!("{said}") };
    assert!(
        only.contains("[errors.when] has no entry for: bad_request, invalid_body, credential_missing, not_permitted"),
        "{said}"
    );
    assert!(said.ends_with("\n1 error\n"), "{said}");
}
