//! The rules of the house: what a reader may rely on everywhere, and what no compiler checks.
//!
//! A rule is a function from the files to its findings. A sample that breaks every rule (sample.rs) shows that no
//! rule is blind. Comments and literals are blanked before a scan: what they say breaks nothing.
#![cfg(test)]
#![expect(clippy::string_slice, reason = "slices begin and end where a search found ASCII")]

#[path = "architecture/sample.rs"]
mod sample;
#[path = "architecture/source.rs"]
mod source;

use std::collections::BTreeSet;

use source::{File, Function, House, functions, is_word, names_crate, paths_from, words_before};

type Rule = fn(&House) -> Vec<String>;

const RULES: &[(&str, Rule)] = &[
    ("a module uses only modules above it", import_order),
    ("a vendor's crate stays in its room", vendor_rooms),
    ("files, functions and nesting are small", sizes),
    ("no API's name stands under src/", product_names),
    ("a test asserts", tests_assert),
    ("a test always runs and never waits for luck", tests_are_honest),
    ("no file is dead", dead_files),
    ("a name says what is inside", vague_names),
    ("nothing is left unfinished", unfinished_code),
];

/// Where each vendor's crate may be named: the cheapest form of replaceability.
const ROOMS: &[(&str, &[&str])] = &[
    ("anyhow", &["main", "cli", "app"]),
    ("argon2", &["password"]),
    ("axum", &["admin"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("dashmap", &["limiter", "counter"]),
    ("hyper", &["listener", "pipeline/forward", "outbound", "body"]),
    ("hyper_util", &["listener", "pipeline/forward", "outbound", "body"]),
    ("ipnet", &["config", "identity", "pipeline/admit"]),
    ("jsonwebtoken", &["token"]),
    ("listenfd", &["cli"]),
    ("prometheus_client", &["observe"]),
    ("quick_cache", &["token"]),
    ("redis", &["counter"]),
    ("rustix", &["app"]),
    ("rustls", &["listener", "outbound"]),
    ("sd_notify", &["app"]),
    ("sqlx", &["store"]),
    ("tokio_rustls", &["listener", "outbound"]),
    ("toml", &["config", "contract"]),
    ("x509_parser", &["listener"]),
];

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;
const NESTING: usize = 4;

/// Files that may break a limit of size, each with the reason. The list only shrinks.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// Written in two halves, so that this file may stand anywhere.
const PRODUCTS: &[(&str, &str)] = &[
    ("infra", "cast"),
    ("control", "infra"),
    ("infra", "hub"),
    ("ccext", "ractor"),
    ("ai-security", "-gateway"),
    ("ai_security", "_gateway"),
];

const VAGUE: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc"];
const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

#[test]
fn the_rules_of_the_house_are_kept() {
    let house = House::on_disk();
    assert!(house.files.iter().any(|file| file.path == "src/lib.rs"), "the source tree was not found");
    let broken: Vec<String> = RULES
        .iter()
        .flat_map(|(name, rule)| rule(&house).into_iter().map(move |finding| format!("{finding}   [{name}]")))
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// Modules in the order of `src/lib.rs`, stages in the order of `src/pipeline/mod.rs`. Paths that a text scan could
/// misread (groups at the crate's root, `super::`) are refused.
fn import_order(house: &House) -> Vec<String> {
    let modules = house.modules("src/lib.rs");
    let stages = house.modules("src/pipeline/mod.rs");
    let mut findings = Vec::new();
    for file in house.source() {
        let production = house.production(file).len();
        for (number, line) in file.code.iter().enumerate() {
            let mut judge = |root: &str, names: &[String], own: &str| {
                for used in paths_from(line, root) {
                    findings.extend(misplaced(root, names, own, used).map(|what| file.at(number, &what)));
                }
            };
            if let Some(own) = file.module_in("src/") {
                judge("crate::", &modules, own);
            }
            if let Some(own) = file.module_in("src/pipeline/") {
                judge("crate::pipeline::", &stages, own);
            }
            if line.contains("super::super") || (number < production && line.contains("super::")) {
                findings.push(file.at(number, "write `crate::…`: `super::` is for `use super::*` in tests"));
            }
        }
    }
    findings
}

/// What is wrong when `own` says `root` + `used`.
fn misplaced(root: &str, names: &[String], own: &str, used: &str) -> Option<String> {
    let place = |name: &str| names.iter().position(|known| known == name);
    if used.is_empty() {
        return Some(format!("write one `use {root}name::…` for each name"));
    }
    let Some(theirs) = place(used) else { return Some(format!("`{root}{used}` is not in the list of modules")) };
    (place(own)? < theirs).then(|| format!("`{own}` may not use `{used}`, which stands below it in the list of modules"))
}

fn vendor_rooms(house: &House) -> Vec<String> {
    let mut findings = Vec::new();
    for file in house.source() {
        for (vendor, rooms) in ROOMS.iter().filter(|(_, rooms)| !rooms.iter().any(|room| file.is_in_room(room))) {
            for number in (0..file.code.len()).filter(|number| names_crate(&file.code[*number], vendor)) {
                findings.push(file.at(number, &format!("`{vendor}` belongs to {}", rooms.join(", "))));
            }
        }
    }
    findings
}

fn sizes(house: &House) -> Vec<String> {
    let mut findings = Vec::new();
    for file in house.source().filter(|file| !EXCEPTIONS.iter().any(|(path, _)| *path == file.path)) {
        let production = house.production(file);
        if production.len() > FILE_LINES {
            findings.push(file.at(0, &format!("{} production lines, at most {FILE_LINES}", production.len())));
        }
        for Function { name, first, last, nesting } in functions(production) {
            let lines = last - first + 1;
            if lines > FUNCTION_LINES {
                findings.push(file.at(first, &format!("`{name}` has {lines} lines, at most {FUNCTION_LINES}")));
            }
            if nesting > NESTING {
                findings.push(file.at(first, &format!("`{name}` nests {nesting} deep, at most {NESTING}")));
            }
        }
    }
    findings
}

fn product_names(house: &House) -> Vec<String> {
    let mut findings = Vec::new();
    for file in house.under("src/") {
        for (number, line) in std::iter::once(file.path.as_str()).chain(file.text.lines()).enumerate() {
            let line = line.to_lowercase();
            if PRODUCTS.iter().any(|(front, back)| line.contains(&format!("{front}{back}"))) {
                findings.push(file.at(number.saturating_sub(1), "what one API needs belongs into its contract file"));
            }
        }
    }
    findings
}

/// A test asserts itself, or calls a test function of the same folder that does.
fn tests_assert(house: &House) -> Vec<String> {
    let every: Vec<(&File, Function)> = house
        .rust()
        .flat_map(|file| functions(&file.code).into_iter().map(move |function| (file, function)))
        .filter(|(file, function)| function.first >= house.production(file).len())
        .collect();
    let mut asserting: BTreeSet<(String, &str)> = BTreeSet::new();
    // A function may assert through another one: repeat until nothing is added.
    loop {
        let before = asserting.len();
        for (file, function) in &every {
            let asserts = |line: &String| {
                words_before(line, "!").any(|word| word.contains("assert"))
                    || words_before(line, "(").any(|word| asserting.contains(&(file.area(), word)))
            };
            if file.code[function.first..=function.last].iter().any(asserts) {
                asserting.insert((file.area(), &function.name));
            }
        }
        if asserting.len() == before {
            break;
        }
    }
    every
        .iter()
        .filter(|(file, function)| is_test(file, function) && !asserting.contains(&(file.area(), &function.name)))
        .map(|(file, function)| file.at(function.first, &format!("`{}` asserts nothing", function.name)))
        .collect()
}

fn is_test(file: &File, function: &Function) -> bool {
    // Attributes may take several lines; the item before ends with one of these.
    let attributes = file.code[..function.first].iter().rev().take_while(|line| !line.ends_with(['{', '}', ';']));
    attributes.map(|line| line.trim()).any(|line| line == "#[test]" || line.starts_with("#[tokio::test"))
}

fn tests_are_honest(house: &House) -> Vec<String> {
    let mut findings = Vec::new();
    for file in house.rust() {
        for (number, line) in file.code.iter().enumerate().skip(house.production(file).len()) {
            if line.contains("#[ignore") {
                findings.push(file.at(number, "a test that does not run proves nothing"));
            }
            let reason = || file.text.lines().nth(number.saturating_sub(1)).unwrap().trim().starts_with("// waits for: ");
            if words_before(line, "(").any(|word| ["sleep", "sleep_until"].contains(&word)) && !reason() {
                findings.push(file.at(number, "a sleep wants `// waits for: …` on the line above"));
            }
            if line.contains("assert!(")
                && [".is_ok())", ".is_ok(),", ".is_err())", ".is_err(),"].iter().any(|bare| line.contains(bare))
            {
                findings.push(file.at(number, "assert the exact outcome, not that there was one"));
            }
        }
    }
    findings
}

fn dead_files(house: &House) -> Vec<String> {
    let mut findings = Vec::new();
    for file in house.source().filter(|file| !house.reached.contains(&file.path)) {
        findings.push(file.at(0, "no `mod` line leads here"));
    }
    for file in house.under("tests/config/").filter(|file| file.path.ends_with(".toml")) {
        let name = file.path.rsplit('/').next().unwrap();
        let expected = file.path.replace(".toml", ".expected");
        if !house.files.iter().any(|other| other.path == expected) && !house.rust().any(|other| other.text.contains(name)) {
            findings.push(file.at(0, "no test names it and no .expected stands beside it"));
        }
    }
    findings
}

fn vague_names(house: &House) -> Vec<String> {
    let mut findings = Vec::new();
    for file in house.rust() {
        if file.path.trim_end_matches(".rs").split('/').any(|part| VAGUE.contains(&part)) {
            findings.push(file.at(0, "name it after what it owns"));
        }
        for (number, line) in file.code.iter().enumerate() {
            let mut words =
                line.split_whitespace().skip_while(|word| !["struct", "enum", "trait", "type"].contains(word)).skip(1);
            if words.next().is_some_and(|name| name.trim_end_matches(|c: char| !is_word(c)).ends_with("Manager")) {
                findings.push(file.at(number, "a manager of what? name what it does"));
            }
        }
    }
    findings
}

fn unfinished_code(house: &House) -> Vec<String> {
    let mut findings = Vec::new();
    for file in house.rust() {
        for (number, line) in file.code.iter().enumerate() {
            for word in words_before(line, "!").filter(|word| UNFINISHED.contains(word)) {
                findings.push(file.at(number, &format!("`{word}!` is left over")));
            }
        }
    }
    findings
}
