//! The config as a whole: what bad files are told, and that `gateway.toml.example` is true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use regex_lite::Regex;
use serde_json::Value;
use toml::de::DeTable;

use crate::config::report::Report;
use crate::config::{Config, Loaded, parse, schema};

const EXAMPLE: &str = include_str!("../../gateway.toml.example");

fn environment(name: &str) -> Option<String> {
    match name {
        "GATEWARD_TEST_PORT" => Some("http".to_owned()),
        "GATEWARD_TEST_SECRET" => Some("hunter2".to_owned()),
        _ => None,
    }
}

fn read(text: &str) -> (Option<Loaded>, Report) {
    let mut report = Report::default();
    let loaded = parse(text, Path::new("gateway.toml"), &environment, &mut report);
    (loaded, report)
}

/// The config of a text without mistakes.
fn clean(text: &str) -> Config {
    let (loaded, report) = read(text);
    assert!(report.is_clean(), "{report}\nin\n{text}");
    loaded.unwrap().config
}

/// The messages about a text, each after its line number.
fn findings(text: &str) -> Vec<String> {
    read(text).1.diagnostics().iter().map(|finding| format!("{}: {}", finding.line, finding.message)).collect()
}

/// A config as text, without the places in it.
fn without_places(config: &Config) -> String {
    Regex::new(r"Place \{[^}]*\}").unwrap().replace_all(&format!("{config:#?}"), "Place").into_owned()
}

/// Compares what each bad file is told with the `.expected` file beside it; `UPDATE_EXPECTED=1` writes those instead.
/// `tests/config.rs` compares the same files with what the program prints.
#[test]
fn bad_files_are_told_what_is_wrong_and_where() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 12, "{files:?}");
    for file in files {
        let mut report = Report::default();
        let text = std::fs::read_to_string(&file).unwrap();
        parse(&text, Path::new(file.file_name().unwrap()), &environment, &mut report);
        let shown = format!("{report}\n");
        assert!(!shown.contains("hunter2"), "{shown}");
        let expected = file.with_extension("expected");
        if option_env!("UPDATE_EXPECTED").is_some() {
            std::fs::write(&expected, &shown).unwrap();
        }
        assert_eq!(shown, std::fs::read_to_string(&expected).unwrap_or_default(), "{}", expected.display());
    }
}

#[test]
fn a_mistake_in_one_section_is_not_held_against_those_that_refer_to_it() {
    let text = r#"
        [[upstream]]
        name = "nodes"
        servers = ["ftp://127.0.0.1"]
        [[api]]
        upstream = "nodes"
        contract = "native"
        hosts = ["a b"]
        [[api]]
        name = "other"
        upstream = "nodes"
        contract = "native"
    "#;
    assert_eq!(
        findings(text),
        ["4: `ftp://127.0.0.1`: the scheme `ftp` is not supported, only `http`", "8: `a b` is no host name"]
    );
}

#[test]
fn the_shortest_file_has_a_listener_and_answers_to_every_host() {
    let config = clean("[[api]]\nupstream = \"http://127.0.0.1:9000/base\"\ncontract = \"contracts/items.toml\"\n");
    let api = config.apis.first().unwrap();
    let hosts: Vec<String> = api.hosts.iter().map(|host| host.value.to_string()).collect();
    assert_eq!((api.label(), hosts.as_slice()), ("items", ["*".to_owned()].as_slice()));
    let listener = config.listener_of(api).unwrap();
    assert_eq!((listener.name.value.as_str(), listener.address.to_string().as_str()), ("public", "127.0.0.1:8080"));
    let upstream = config.upstream_of(api).unwrap();
    let servers: Vec<String> = upstream.servers.iter().map(ToString::to_string).collect();
    assert_eq!((upstream.name.value.as_str(), servers), ("items", vec!["http://127.0.0.1:9000/base".to_owned()]));
}

#[test]
fn an_api_finds_the_listener_and_the_upstream_that_it_names() {
    let config = clean(EXAMPLE);
    let api = config.apis.first().unwrap();
    assert_eq!(config.listener_of(api).unwrap().name.value, "public");
    assert_eq!(config.upstream_of(api).unwrap().servers.len(), 1);
}

#[test]
fn paths_and_default_paths_are_relative_to_the_file() {
    let api = "[[api]]\nupstream = \"http://127.0.0.1:9000\"\ncontract = \"native\"\n";
    for (store, expected) in [
        ("", "/etc/gateward/gateward.key"),
        ("[store]\n", "/etc/gateward/gateward.key"),
        ("[store]\nencryption_key_file = \"keys/a\"\n", "/etc/gateward/keys/a"),
        ("[store]\nencryption_key_file = \"/run/a\"\n", "/run/a"),
    ] {
        let mut report = Report::default();
        let path = Path::new("/etc/gateward/gateway.toml");
        let loaded = parse(&format!("{store}{api}"), path, &environment, &mut report).unwrap();
        assert_eq!(loaded.config.store.encryption_key_file, Path::new(expected), "{store}");
        assert_eq!((loaded.folder.as_path(), loaded.path.as_path()), (Path::new("/etc/gateward"), path));
    }
}

#[test]
fn numbers_are_read_in_every_notation_of_toml() {
    let api = "[[api]]\nupstream = \"http://127.0.0.1:9000\"\ncontract = \"native\"\n";
    for (number, expected) in [("8", 8), ("0x10", 16), ("0b11", 3), ("0o17", 15), ("1_0", 10), ("+4", 4)] {
        let config = clean(&format!("[server]\nworkers = {number}\n{api}"));
        assert_eq!(config.server.workers, crate::config::Workers::Exactly(expected), "{number}");
    }
    assert_eq!(
        findings(&format!("[server]\nworkers = 0\n{api}")),
        ["2: found the number 0, expected \"auto\" or a number from 1 to 1024"]
    );
}

/// The example with the comment signs of defaults taken away.
fn with_defaults() -> String {
    Regex::new(r"(?m)^#([a-z_]+ = )").unwrap().replace_all(EXAMPLE, "$1").into_owned()
}

/// The example, each time with the comment signs of one of its examples taken away: of one line, or of a table down to the
/// next empty line.
fn with_each_example() -> Vec<String> {
    const MARK: &str = "#e.g. ";
    let paragraphs: Vec<&str> = EXAMPLE.split("\n\n").collect();
    let with = |index: usize, paragraph: String| {
        let mut all: Vec<String> = paragraphs.iter().map(|&paragraph| paragraph.to_owned()).collect();
        all[index] = paragraph;
        all.join("\n\n")
    };
    let mut out = Vec::new();
    for (index, paragraph) in paragraphs.iter().enumerate() {
        if let Some(at) = paragraph.find("#e.g. [[") {
            let (before, table) = paragraph.split_at(at);
            out.push(with(index, format!("{before}{}", table.replace(MARK, ""))));
            continue;
        }
        let lines: Vec<&str> = paragraph.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with(MARK)) {
            let mut lines = lines.clone();
            lines[at] = line.strip_prefix(MARK).unwrap();
            // What goes on below stands in line with it.
            for more in lines.iter_mut().skip(at + 1) {
                let Some(text) = more.strip_prefix("#     ") else { break };
                *more = text;
            }
            out.push(with(index, lines.join("\n")));
        }
    }
    out
}

#[test]
fn the_example_works_and_shows_the_real_defaults() {
    let (as_it_is, uncommented) = (clean(EXAMPLE), clean(&with_defaults()));
    assert_eq!(without_places(&uncommented), without_places(&as_it_is));
    assert!(with_defaults().len() < EXAMPLE.len() - 20, "no default is shown");
}

#[test]
fn every_example_in_the_example_works() {
    let texts = with_each_example();
    assert!(texts.len() > 10, "{}", texts.len());
    for text in texts {
        clean(&text);
    }
}

#[test]
fn the_example_shows_every_option_and_nothing_else() {
    let mut shown = BTreeSet::new();
    for text in with_each_example().into_iter().chain([with_defaults()]) {
        let table = DeTable::parse(&text).unwrap_or_else(|error| panic!("{error}\nin\n{text}")).into_inner();
        collect_keys(&table, &schema(), "", &mut shown);
    }
    let mut declared = BTreeSet::new();
    collect_properties(&schema(), "", &mut declared);
    assert!(declared.contains("api.route.timeouts.response"), "{declared:?}");
    assert_eq!(shown, declared);
}

/// The dotted names of a table's keys, as far as the schema names them.
fn collect_keys(table: &DeTable<'_>, schema: &Value, path: &str, out: &mut BTreeSet<String>) {
    if schema.get("properties").is_none() {
        return;
    }
    for (key, value) in table {
        let key = key.get_ref();
        let (name, below) = (format!("{path}{key}"), &schema["properties"][key.as_ref()]);
        let items = value.get_ref().as_array().into_iter().flatten().filter_map(|item| item.get_ref().as_table());
        let tables: Vec<&DeTable<'_>> = value.get_ref().as_table().into_iter().chain(items).collect();
        let below = if below["type"] == "array" { &below["items"] } else { below };
        tables.into_iter().for_each(|table| collect_keys(table, below, &format!("{name}."), out));
        out.insert(name);
    }
}

/// The dotted names of everything that a schema declares.
fn collect_properties(schema: &Value, path: &str, out: &mut BTreeSet<String>) {
    let schema = if schema["type"] == "array" { &schema["items"] } else { schema };
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        collect_properties(below, &format!("{path}{key}."), out);
        out.insert(format!("{path}{key}"));
    }
}

#[test]
fn the_schema_describes_every_option() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["api"]["items"]["required"], serde_json::json!(["upstream", "contract"]));
    assert_eq!(schema["properties"]["log"]["properties"]["access"]["enum"], serde_json::json!(["json", "text", "off"]));
    let mut bare = Vec::new();
    collect_undescribed(&schema, "", &mut bare);
    assert_eq!(bare, Vec::<String>::new());
}

fn collect_undescribed(schema: &Value, path: &str, out: &mut Vec<String>) {
    let schema = if schema["type"] == "array" { &schema["items"] } else { schema };
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        if below["description"].as_str().is_none_or(str::is_empty) {
            out.push(format!("{path}{key}"));
        }
        collect_undescribed(below, &format!("{path}{key}."), out);
    }
}

/// Survives any text: whatever it holds, there is a config without findings, or findings that can be shown.
fn survives(text: &str) {
    let (loaded, report) = read(text);
    let shown = report.to_string();
    assert_eq!(report.is_clean(), shown == "0 errors", "{shown}");
    assert!(loaded.is_some() || !report.is_clean(), "refused without a reason:\n{text}");
    for finding in report.diagnostics() {
        assert!(finding.line <= text.lines().count() + 1 && finding.column >= 1, "{finding:?}");
    }
}

/// Pieces that stand in configs, whole and broken.
fn piece() -> impl Strategy<Value = String> {
    let tokens = vec![
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        "\"",
        "'''",
        "\"\"\"",
        "#",
        "\n",
        "\r\n",
        ",",
        ".",
        "\\u0000",
        "${env:X}",
        "${",
        "é",
        "\0",
        "0x",
        "-1",
        "1e9",
        "99999999999999999999",
        "true",
        "[[api]]\n",
        "[[api.route]]\n",
        "name = ",
        "\"/{**a}/b\"",
        "1979-05-27",
        "\u{feff}",
        "inf",
        "per",
    ];
    prop_oneof![3 => prop::sample::select(tokens).prop_map(str::to_owned), 1 => ".{0,8}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_loader_panic(pieces in prop::collection::vec(piece(), 0..60)) {
        survives(&pieces.concat());
    }

    #[test]
    fn no_change_to_the_example_makes_the_loader_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..20_usize, piece()), 1..6),
    ) {
        let mut text: Vec<char> = with_defaults().chars().collect();
        for (at, length, piece) in changes {
            let at = at.index(text.len());
            text.splice(at..(at + length).min(text.len()), piece.chars());
        }
        survives(&text.into_iter().collect::<String>());
    }

    #[test]
    fn no_lost_or_repeated_line_of_the_example_makes_the_loader_panic(
        lost in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        repeated in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let text = with_defaults();
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        for at in lost {
            lines.remove(at.index(lines.len()));
        }
        for at in repeated {
            lines.push(lines[at.index(lines.len())]);
        }
        survives(&lines.join("\n"));
    }
}

#[test]
fn networks_that_are_everyone_together_are_refused_too() {
    let file = |trusted: &str, allowed: &str| {
        findings(&format!(
            "[[listener]]\nname = \"l\"\naddress = \"127.0.0.1:8080\"\ntrusted_proxies = {trusted}\n[[api]]\nupstream = \"http://127.0.0.1:9\"\n\
             contract = \"native\"\n[[api.route]]\nname = \"r\"\npath = \"/r\"\naccept = [\"jwt\"]\nallow_ips = {allowed}\n"
        ))
    };
    let (own, halves) = ("[\"10.0.0.0/8\"]", "[\"0.0.0.0/1\", \"10.0.0.0/8\", \"128.0.0.0/1\"]");
    assert_eq!(file(own, own), Vec::<String>::new());
    assert_eq!(
        file(halves, halves),
        [
            "4: these networks together let everybody say which address they come from",
            "12: the networks of `allow_ips` together allow every address"
        ]
    );
}
