//! The register of mutations, `tests/mutations.toml`: for each security case one way to take its defence away that a
//! test must notice. Here the register is checked against the files; `tests/run mutations` tries the mutations.
#![cfg(test)]

#[path = "coverage/claims.rs"]
mod claims;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use claims::{Claim, Id, ids, on_disk, tests_with_ids};
use toml::de::{DeTable, DeValue};

/// Cases that want a test and a mutation.
const WANTED: &[(char, &[std::ops::RangeInclusive<u32>])] = &[
    ('A', &[1..=12]),
    ('B', &[1..=14]),
    ('C', &[1..=16]),
    ('F', &[1..=13, 16..=16]),
    ('G', &[1..=8]),
    ('H', &[1..=3, 8..=8, 13..=13]),
    ('I', &[3..=3, 6..=8]),
    ('J', &[4..=5, 7..=7, 9..=9]),
    ('M', &[1..=14]),
    ('N', &[1..=6, 8..=9, 11..=13, 15..=16]),
    ('O', &[1..=1]),
];

/// Wanted cases without a mutation, each with the reason. The list only shrinks.
const MISSING: &[(&str, &str)] = &[];

struct Mutation {
    ids: Vec<String>,
    file: String,
    find: String,
    replace: String,
    test: String,
}

fn register() -> Vec<Mutation> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mutations.toml")).unwrap();
    let page = DeTable::parse(&text).unwrap().into_inner();
    page["mutation"].get_ref().as_array().unwrap().iter().map(|row| Mutation::read(row.get_ref().as_table().unwrap())).collect()
}

impl Mutation {
    fn read(row: &DeTable<'_>) -> Self {
        let text = |value: &DeValue<'_>| value.as_str().unwrap().to_owned();
        let member = |name: &str| text(row[name].get_ref());
        assert_eq!(row.len(), 5, "ids, file, find, replace and test: {row:?}");
        Self {
            ids: row["ids"].get_ref().as_array().unwrap().iter().map(|id| text(id.get_ref())).collect(),
            file: member("file"),
            find: member("find"),
            replace: member("replace"),
            test: member("test"),
        }
    }
}

/// Each mutation changes one place that is there, and names a test that is there and says so.
#[test]
fn every_mutation_finds_its_place_and_its_test() {
    let claims = on_disk();
    let mut findings = Vec::new();
    for Mutation { ids: cases, file, find, replace, test } in register() {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).unwrap_or_default();
        let places = text.matches(&find).count();
        let at = format!("{} {test}", cases.join(" "));
        if places != 1 || find == replace {
            findings.push(format!("{at}: `find` stands {places} times in {file}, and must differ from `replace`"));
        }
        let named: Vec<&Claim> = claims.iter().filter(|claim| claim.test == test).collect();
        let [claim] = named.as_slice() else {
            findings.push(format!("{at}: {} tests have this name", named.len()));
            continue;
        };
        let unsaid = |id: &&String| ids(id).first().is_none_or(|id| !claim.ids.contains(id));
        findings.extend(cases.iter().filter(unsaid).map(|id| format!("{at}: the comment of the test does not name {id}")));
    }
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// A case has a mutation or a reason why not, never both.
#[test]
fn every_wanted_case_has_a_mutation() {
    let wanted: BTreeSet<Id> = WANTED
        .iter()
        .flat_map(|(letter, ranges)| ranges.iter().cloned().flatten().map(|number| Id::Case(*letter, number)))
        .collect();
    let mut rows: BTreeMap<Id, usize> = BTreeMap::new();
    for id in register().iter().flat_map(|mutation| &mutation.ids).flat_map(|id| ids(id)) {
        *rows.entry(id).or_default() += 1;
    }
    let missing: BTreeSet<Id> = MISSING.iter().flat_map(|(cases, _)| ids(cases)).collect();
    let neither: Vec<String> =
        wanted.iter().filter(|id| !rows.contains_key(id) && !missing.contains(id)).map(Id::to_string).collect();
    let both: Vec<String> = missing.iter().filter(|id| rows.contains_key(id)).map(Id::to_string).collect();
    let unwanted: Vec<String> = missing.difference(&wanted).map(Id::to_string).collect();
    assert!(neither.is_empty(), "no mutation, and no reason in MISSING: {neither:?}");
    assert!(both.is_empty(), "there are mutations now; take them out of MISSING: {both:?}");
    assert!(unwanted.is_empty(), "MISSING names what is not WANTED: {unwanted:?}");
}

#[test]
fn a_claim_is_read_with_its_test() {
    assert_eq!(tests_with_ids("/// H1: said.\n#[test]\nfn one() {}\n"), [("one".to_owned(), vec![Id::Case('H', 1)])]);
    assert!(on_disk().iter().any(|claim| claim.file == "tests/mutations.rs" && claim.test == "a_claim_is_read_with_its_test"));
}
