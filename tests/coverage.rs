//! `tests/coverage.md` says which test covers which security case and which row of a contract's acceptance matrix. It is
//! made from the ids in the doc comments of the tests; this test makes it anew and compares.
//!
//! `UPDATE_COVERAGE=1 cargo test --test coverage` writes the file.
#![cfg(test)]

#[path = "coverage/claims.rs"]
mod claims;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use claims::{Claim, Id, ids, on_disk, tests_with_ids};

#[test]
fn the_coverage_page_is_up_to_date() {
    let mut found: BTreeMap<Id, BTreeSet<String>> = BTreeMap::new();
    for Claim { test, file, ids } in on_disk() {
        for id in ids {
            found.entry(id).or_default().insert(format!("`{test}` ({file})"));
        }
    }
    assert!(!found.is_empty(), "no test names an id");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/coverage.md");
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
    assert_eq!(tests_with_ids(text), [("one".to_owned(), ids("N1 N2 IC 19 B3")), ("three".to_owned(), vec![])]);
    let row = Id::Row("IC".to_owned(), 19);
    assert_eq!(ids("N1, N2 (IC 19): B3."), [Id::Case('N', 1), Id::Case('N', 2), row, Id::Case('B', 3)]);
}

fn render(found: &BTreeMap<Id, BTreeSet<String>>) -> String {
    let mut out = "# What the tests cover\n\nMade by `tests/coverage.rs` from the ids in the tests' comments: security cases by letter and \
                   number, rows of the acceptance matrix by system and number.\n\n| id | tests |\n|---|---|\n"
        .to_owned();
    for (id, tests) in found {
        let tests: Vec<&str> = tests.iter().map(String::as_str).collect();
        out.push_str(&format!("| {id} | {} |\n", tests.join("<br>")));
    }
    out
}
