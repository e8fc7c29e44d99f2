//! A small crate that breaks every rule, next to lines that only look as if they did, and what the rules say about it.

use crate::source::{File, House};
use crate::{PRODUCTS, RULES};

#[test]
fn the_rules_find_what_they_are_for() {
    let sample = House::new(sample());
    for (name, rule) in RULES {
        let (_, expected) = EXPECTED.iter().find(|(rule, _)| rule == name).unwrap();
        assert_eq!(rule(&sample), *expected, "{name}");
    }
}

const EXPECTED: &[(&str, &[&str])] = &[
    (
        "a module uses only modules above it",
        &[
            "src/clock.rs:4: `clock` may not use `store`, which stands below it in the list of modules",
            "src/clock.rs:5: write one `use crate::name::…` for each name",
            "src/clock.rs:6: `crate::nowhere` is not in the list of modules",
            "src/clock.rs:7: write `crate::…`: `super::` is for `use super::*` in tests",
            "src/pipeline/limit.rs:2: `limit` may not use `respond`, which stands below it in the list of modules",
        ],
    ),
    ("a vendor's crate stays in its room", &["src/clock.rs:8: `sqlx` belongs to store"]),
    (
        "files, functions and nesting are small",
        &[
            "src/long.rs:1: 401 production lines, at most 400",
            "src/long.rs:2: `long` has 71 lines, at most 70",
            "src/store/mod.rs:9: `deep` nests 5 deep, at most 4",
        ],
    ),
    ("no API's name stands under src/", &["src/long.rs:1: what one API needs belongs into its contract file"]),
    ("a test asserts", &["src/clock.rs:20: `asserts_nothing` asserts nothing"]),
    (
        "a test always runs and never waits for luck",
        &[
            "src/clock.rs:26: a test that does not run proves nothing",
            "src/clock.rs:28: a sleep wants `// waits for: …` on the line above",
            "src/clock.rs:31: assert the exact outcome, not that there was one",
        ],
    ),
    (
        "no file is dead",
        &[
            "src/store/orphan.rs:1: no `mod` line leads here",
            "tests/config/forgotten.toml:1: no test names it and no .expected stands beside it",
        ],
    ),
    (
        "a name says what is inside",
        &["src/store/mod.rs:6: a manager of what? name what it does", "tests/gateway/common.rs:1: name it after what it owns"],
    ),
    ("nothing is left unfinished", &["src/store/mod.rs:7: `todo!` is left over"]),
];

fn sample() -> Vec<File> {
    let (front, back) = PRODUCTS[0];
    let long = format!("// for {front}{back}\nfn long() {{\n{}}}\n{}", "    go();\n".repeat(69), "\n".repeat(329));
    let files = [
        ("src/lib.rs", "mod clock;\nmod long;\nmod store;\nmod pipeline;\n"),
        ("src/clock.rs", CLOCK),
        ("src/long.rs", long.as_str()),
        ("src/pipeline/mod.rs", "mod limit;\nmod respond;\nuse crate::pipeline::respond::body;\n"),
        ("src/pipeline/limit.rs", "use crate::clock::now;\nuse crate::pipeline::respond::body;\n"),
        ("src/pipeline/respond.rs", "use crate::pipeline::limit::spend;\n"),
        ("src/store/mod.rs", STORE),
        ("src/store/orphan.rs", "use crate::clock::now;\n"),
        ("src/store/proofs.rs", "#[test]\nfn proves() {\n    agrees();\n}\n\nfn agrees() {\n    assert_eq!(1, 1);\n}\n"),
        ("tests/config/forgotten.toml", ""),
        ("tests/config/listed.toml", ""),
        ("tests/config/paired.toml", ""),
        ("tests/config/paired.expected", ""),
        ("tests/gateway/common.rs", "const FILE: &str = \"listed.toml\";\n"),
    ];
    files.map(|(path, text)| File::new(path.to_owned(), text.to_owned())).into()
}

const CLOCK: &str = r##"//! crate::store, sqlx::query and todo!() in a comment are no findings.
const TEXT: &str = r#"nor in a literal: crate::store "sqlx::query" dbg!()"#;
use crate::clock::now;
use crate::store::rows;
use crate::{long, clock};
use crate::nowhere::x;
use super::long;
use sqlx::query;

#[cfg(test)]
#[expect(unused, reason = "a sample")]
mod tests {
    use super::*;

    fn checks<'a>(text: &'a str, quote: char) {
        assert_eq!(quote, '"');
    }

    #[test]
    fn asserts_nothing() {
        let _ = "assert!(true)";
    }

    // The test above is the only one without an assertion.
    #[test]
    #[ignore]
    fn asserts_through_another() {
        thread::sleep(SECOND);
        // waits for: the sample's server
        thread::sleep(SECOND);
        assert!(start().is_ok());
        checks("");
    }
}
"##;

const STORE: &str = r#"//! Owns rows.
use sqlx::query;
#[cfg(test)]
mod proofs;

pub struct RowManager;
const NEXT: Row = todo!();

fn deep(rows: [u8; 4]) {
    for row in rows {
        match row {
            1 => {
                if row > 0 {
                    let shallow = Row { id: 1 };
                    while go() {
                        stop();
                    }
                }
            }
        }
    }
}
"#;
