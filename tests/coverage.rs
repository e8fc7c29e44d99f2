//! `tests/coverage.md` says which test covers which security case and which row of a contract's acceptance matrix. It is
//! made from the ids in the doc comments of the tests; this test makes it anew and compares.
//!
//! A doc comment names a security case by its id (`A1`, `N15`) and a matrix row by system and number (`IC 19`).
//! `UPDATE_COVERAGE=1 cargo test --test coverage` writes the file.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Ids in the order of the security document, then matrix rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Case(char, u32),
    Row(String, u32),
}

const SYSTEMS: [&str; 5] = ["AG", "CI", "CX", "IC", "IH"];

#[test]
fn the_coverage_page_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found: BTreeMap<Id, BTreeSet<String>> = BTreeMap::new();
    for file in rust_files(&[root.join("src"), root.join("tests")]) {
        let name = file.strip_prefix(root).unwrap().display().to_string();
        for (test, ids) in tests_with_ids(&fs::read_to_string(&file).unwrap()) {
            for id in ids {
                found.entry(id).or_default().insert(format!("`{test}` ({name})"));
            }
        }
    }
    assert!(!found.is_empty(), "no test names an id");
    let page = root.join("tests/coverage.md");
    let wanted = render(&found);
    #[expect(clippy::disallowed_methods, reason = "the variable asks this test to write its page")]
    if std::env::var_os("UPDATE_COVERAGE").is_some() {
        fs::write(&page, &wanted).unwrap();
    }
    let written = fs::read_to_string(&page).unwrap_or_default();
    assert!(written == wanted, "tests/coverage.md is out of date: UPDATE_COVERAGE=1 cargo test --test coverage");
}

#[test]
fn ids_are_read_from_the_comment_above_a_test_and_nowhere_else() {
    let text = "// A9\n/// N1 N2, IC 19: said here.\n/// And B3.\n#[tokio::test]\nasync fn one() {}\n\n/// C1: no test.\nfn two() {}\n\
                #[test]\nfn three() {}\n";
    let ids = vec![Id::Case('N', 1), Id::Case('N', 2), Id::Row("IC".to_owned(), 19), Id::Case('B', 3)];
    assert_eq!(tests_with_ids(text), [("one".to_owned(), ids), ("three".to_owned(), vec![])]);
}

fn rust_files(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files.extend(rust_files(&[path]));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn tests_with_ids(text: &str) -> Vec<(String, Vec<Id>)> {
    let mut out = Vec::new();
    let (mut comment, mut is_test) = (Vec::new(), false);
    for line in text.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            comment.push(doc);
        } else if line == "#[test]" || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if !line.starts_with("#[") {
            if let (true, Some((_, rest))) = (is_test, line.split_once("fn ")) {
                let name = rest.split('(').next().unwrap_or_default().to_owned();
                out.push((name, ids(&comment.join(" "))));
            }
            (comment, is_test) = (Vec::new(), false);
        }
    }
    out
}

fn ids(comment: &str) -> Vec<Id> {
    let words: Vec<&str> = comment.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let case = |word: &str| {
        let (letter, number) = word.split_at_checked(1)?;
        let letter = letter.chars().next().filter(|letter| ('A'..='O').contains(letter))?;
        (number.len() <= 2).then(|| number.parse().ok()).flatten().map(|number| Id::Case(letter, number))
    };
    let row = |pair: &[&str]| match pair {
        [system, number] if SYSTEMS.contains(system) => number.parse().ok().map(|number| Id::Row((*system).to_owned(), number)),
        _ => None,
    };
    (0..words.len()).filter_map(|at| words.get(at..at + 2).and_then(row).or_else(|| case(words[at]))).collect()
}

fn render(found: &BTreeMap<Id, BTreeSet<String>>) -> String {
    let mut out = "# What the tests cover\n\nMade by `tests/coverage.rs` from the ids in the tests' comments: security cases by letter and \
                   number, rows of the acceptance matrix by system and number.\n\n| id | tests |\n|---|---|\n"
        .to_owned();
    for (id, tests) in found {
        let id = match id {
            Id::Case(letter, number) => format!("{letter}{number}"),
            Id::Row(system, number) => format!("{system} {number}"),
        };
        let tests: Vec<&str> = tests.iter().map(String::as_str).collect();
        out.push_str(&format!("| {id} | {} |\n", tests.join("<br>")));
    }
    out
}
