//! A config file key by key, with what each key means: what two files are compared by. Two values are the same when they say
//! the same once `${…}` is replaced and the files that they name hold the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::files::UsedFile;
use crate::config::interpolate::interpolate;
use crate::config::report::{Place, hide_credentials, shorten};

/// The way to a key: names of tables and of the items of lists, then the key.
pub type Way = Vec<String>;

/// Every key that a file writes.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    entries: BTreeMap<Way, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// As it may be shown.
    shown: String,
    meaning: Vec<u8>,
}

/// What one key was and is; `None` where it is not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub way: Way,
    pub old: Option<String>,
    pub new: Option<String>,
}

/// What values are made of beside their text.
pub struct Around<'a> {
    /// The number of the text in the report that knows `files`.
    pub source: usize,
    pub files: &'a [UsedFile],
    pub folder: &'a Path,
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Outline {
    pub fn of(text: &str, around: &Around<'_>) -> Self {
        let (root, _) = DeTable::parse_recoverable(text);
        let mut outline = Self::default();
        outline.table(&mut Vec::new(), root.get_ref(), text, around);
        outline
    }

    /// What `new` says otherwise, in the order of the keys.
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        let ways: BTreeSet<&Way> = self.entries.keys().chain(new.entries.keys()).collect();
        let means = |outline: &Self, way: &Way| outline.entries.get(way).map(|entry| entry.meaning.clone());
        let differs = |way: &&Way| means(self, way) != means(new, way);
        let shown = |outline: &Self, way: &Way| outline.entries.get(way).map(|entry| entry.shown.clone());
        let difference = |way: &Way| Difference { way: way.clone(), old: shown(self, way), new: shown(new, way) };
        ways.into_iter().filter(differs).map(difference).collect()
    }

    /// Whether both say the same of everything below `way`, apart from the members in `without`.
    pub fn is_same(&self, other: &Self, way: &[&str], without: &[&str]) -> bool {
        self.below(way, without).eq(other.below(way, without))
    }

    /// Whether anything is written at or below `way`.
    pub fn has(&self, way: &[String]) -> bool {
        self.entries.keys().any(|found| found.starts_with(way))
    }

    fn below<'a>(&'a self, way: &'a [&str], without: &'a [&str]) -> impl Iterator<Item = (&'a Way, &'a Vec<u8>)> {
        let is_below = move |found: &Way| found.len() >= way.len() && found.iter().zip(way).all(|(one, other)| one == other);
        let is_left_out = move |found: &Way| found.get(way.len()).is_some_and(|member| without.contains(&member.as_str()));
        let entries = self.entries.iter().filter(move |(found, _)| is_below(found) && !is_left_out(found));
        entries.map(|(found, entry)| (found, &entry.meaning))
    }

    fn table(&mut self, way: &mut Way, table: &DeTable<'_>, text: &str, around: &Around<'_>) {
        for (key, value) in table.iter() {
            way.push(key.get_ref().to_string());
            self.value(way, value, text, around);
            way.pop();
        }
    }

    fn value(&mut self, way: &mut Way, value: &Spanned<DeValue<'_>>, text: &str, around: &Around<'_>) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(way, table, text, around),
            DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => {
                for (number, item) in items.iter().enumerate() {
                    way.push(name_of(item).unwrap_or_else(|| (number + 1).to_string()));
                    self.value(way, item, text, around);
                    way.pop();
                }
            }
            DeValue::Array(_)
            | DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {
                let written = text.get(value.span()).unwrap_or_default();
                self.entries.insert(way.clone(), Entry { shown: shown(written), meaning: meaning(way, value, written, around) });
            }
        }
    }
}

/// What an item of a list is told from the others by: an API without a name has that of its contract, as everywhere.
fn name_of(item: &Spanned<DeValue<'_>>) -> Option<String> {
    let table = item.get_ref().as_table()?;
    let text = |wanted: &str| {
        let value = table.iter().find(|(key, _)| key.get_ref() == wanted)?.1;
        value.get_ref().as_str().map(str::to_owned)
    };
    let contract = || {
        let contract = text("contract")?;
        let file = contract.rsplit('/').next().unwrap_or(&contract);
        Some(file.strip_suffix(".toml").unwrap_or(file).to_owned())
    };
    text("name").or_else(contract).or_else(|| text("issuer"))
}

fn meaning(way: &Way, value: &Spanned<DeValue<'_>>, written: &str, around: &Around<'_>) -> Vec<u8> {
    // Of a value that cannot be replaced, what is written has to do: the config has a mistake, and is not used.
    let replace = |text: &str| interpolate(text, around.folder, around.environment).unwrap_or_else(|_| text.to_owned());
    let said = match value.get_ref().as_str() {
        Some(text) => format!("string {}", replace(text)),
        None => replace(written),
    };
    let mut bytes = digest(&SHA256, said.as_bytes()).as_ref().to_vec();
    let span = value.span();
    // What a contract file names is not told apart by contract: each of them then counts as changed.
    let is_contract = way.last().is_some_and(|key| key == "contract");
    let inside = |place: &Place| match place.source() == around.source {
        true => place.is_within(&span),
        false => is_contract,
    };
    for file in around.files.iter().filter(|file| file.place.as_ref().is_some_and(inside)) {
        bytes.extend_from_slice(&file.content.unwrap_or_default());
    }
    bytes
}

/// A value as it is written. What a URL says before its `@` is a secret; what stands for another value is none.
fn shown(written: &str) -> String {
    let line = hide_credentials(written);
    shorten(&line.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(text: &str) -> Outline {
        let environment = |name: &str| (name == "HOST").then(|| "one.test".to_owned());
        Outline::of(text, &Around { source: 0, files: &[], folder: Path::new(""), environment: &environment })
    }

    fn shown_differences(old: &str, new: &str) -> Vec<String> {
        let show = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let differences = outline(old).differences(&outline(new));
        differences.into_iter().map(|d| format!("{}: {} -> {}", d.way.join("."), show(d.old), show(d.new))).collect()
    }

    #[test]
    fn keys_are_compared_by_the_names_of_their_tables_and_not_by_their_places() {
        let old = "[[api]]\nname = \"a\"\nhosts = [\"x\"]\n[[api.route]]\nname = \"r\"\npath = \"/r\"\n[[api]]\ncontract = \"c/two.toml\"\n";
        let moved = "[[api]]\ncontract = \"c/two.toml\"\n\n[[api]]\nname = \"a\"\n# a word\nhosts = [ \"x\" ]\nroute = [{ path = \"/r\", name = \"r\" }]\n";
        assert_eq!(shown_differences(old, moved), ["api.a.hosts: [\"x\"] -> [ \"x\" ]"]);
        let new = old.replace("\"/r\"", "\"/s\"").replace("hosts = [\"x\"]\n", "");
        assert_eq!(shown_differences(old, &new), ["api.a.hosts: [\"x\"] -> -", "api.a.route.r.path: \"/r\" -> \"/s\""]);
    }

    #[test]
    fn what_stands_for_another_value_is_compared_by_that_and_shown_as_written() {
        assert_eq!(shown_differences("a = \"${env:HOST}\"", "a = \"one.test\""), Vec::<String>::new());
        assert_eq!(shown_differences("a = \"${env:HOST}\"", "a = \"two\""), ["a: \"${env:HOST}\" -> \"two\""]);
        assert_eq!(shown_differences("a = 1", "a = \"1\""), ["a: 1 -> \"1\""]);
        let (old, new) = ("url = \"redis://gw:hunter2@one\"", "url = \"redis://gw:hunter3@one\"");
        assert_eq!(shown_differences(old, new), ["url: \"redis://**********@one\" -> \"redis://**********@one\""]);
    }

    #[test]
    fn a_part_is_the_same_whatever_changes_beside_it() {
        let old = outline(
            "[[api]]\nname = \"a\"\nrealm = \"r\"\nlimit = [{ name = \"l\", quota = \"1 per 1s\" }]\n[[api]]\nname = \"a.b\"",
        );
        let new = outline(
            "[[api]]\nname = \"a\"\nrealm = \"r\"\nlimit = [{ name = \"l\", quota = \"2 per 1s\" }]\n[[api]]\nname = \"a.b\"",
        );
        assert!(!old.is_same(&new, &["api", "a"], &[]));
        assert!(old.is_same(&new, &["api", "a"], &["limit"]));
        assert!(old.is_same(&new, &["api", "a.b"], &[]));
    }
}
