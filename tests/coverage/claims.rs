//! Which test claims which id: read from the doc comments of the tests in `src/` and `tests/`.
//!
//! A doc comment names a security case by its id (`A1`, `N15`) and a matrix row by system and number (`IC 19`).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Ids in the order of the security document, then matrix rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Id {
    Case(char, u32),
    Row(String, u32),
}

/// A test, and the ids in its comment.
#[derive(Debug)]
pub struct Claim {
    pub test: String,
    /// Relative to the repository, with `/`.
    pub file: String,
    pub ids: Vec<Id>,
}

const SYSTEMS: [&str; 5] = ["AG", "CI", "CX", "IC", "IH"];

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Case(letter, number) => write!(f, "{letter}{number}"),
            Self::Row(system, number) => write!(f, "{system} {number}"),
        }
    }
}

/// Every test on disk, those without ids too.
pub fn on_disk() -> Vec<Claim> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut claims = Vec::new();
    for path in rust_files(&[root.join("src"), root.join("tests")]) {
        let file = path.strip_prefix(root).unwrap().display().to_string();
        let tests = tests_with_ids(&fs::read_to_string(&path).unwrap());
        claims.extend(tests.into_iter().map(|(test, ids)| Claim { test, file: file.clone(), ids }));
    }
    claims
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

pub fn tests_with_ids(text: &str) -> Vec<(String, Vec<Id>)> {
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

pub fn ids(comment: &str) -> Vec<Id> {
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
