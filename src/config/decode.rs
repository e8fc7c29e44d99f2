//! From a parsed TOML tree to typed values, key by key, so that one pass finds every mistake of a file.
//!
//! A table is declared once, with [`section!`].

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::config::interpolate::{interpolate, named_files};
use crate::config::report::{Located, Place, Report, shorten};
pub(crate) use crate::config::section::{section, words};

/// Something that stands in a config or contract file.
pub trait Decode: Sized {
    /// `None` when the value is wrong; the reason then stands in the report.
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self>;

    /// JSON Schema (2020-12) of what `decode` accepts.
    fn schema() -> Value;

    /// What a default of this type means in a file that stands in `folder`: paths, like written ones, are relative to it.
    fn default_in(self, _folder: &Path) -> Self {
        self
    }
}

/// What a decoder needs beside the tree.
pub struct Decoder<'a> {
    pub report: &'a mut Report,
    pub source: usize,
    /// Relative paths are relative to the folder of the file that names them.
    pub folder: &'a Path,
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// One value of the tree.
pub struct Node<'t> {
    pub value: &'t Spanned<DeValue<'t>>,
}

/// The keys of one table, taken one by one; what is left over at the end is unknown.
pub struct Table<'t> {
    place: Place,
    entries: Vec<(&'t str, Place, Node<'t>)>,
    asked: Vec<&'static str>,
    taken: Vec<(&'static str, Place)>,
}

impl<'a> Decoder<'a> {
    pub fn place(&self, node: &Node<'_>) -> Place {
        Place::new(self.source, node.value.span())
    }

    /// Reports that the value has another type than is wanted.
    pub fn mismatch<T>(&mut self, node: &Node<'_>, wanted: &str) -> Option<T> {
        let found = describe(node.value.get_ref());
        self.report.error(self.place(node), format!("found {found}, expected {wanted}"));
        None
    }

    fn mismatch_with_help<T>(&mut self, node: &Node<'_>, wanted: &str, help: &str) -> Option<T> {
        let found = describe(node.value.get_ref());
        self.report.error_with_help(self.place(node), format!("found {found}, expected {wanted}"), help);
        None
    }

    /// Reports a string that the parser of its type does not take.
    pub fn refuse<T>(&mut self, node: &Node<'_>, why: String, help: &str) -> Option<T> {
        self.report.refuse(self.place(node), why, help);
        None
    }

    /// Reports a word outside a closed set.
    pub fn unknown<'w, T>(&mut self, node: &Node<'_>, found: &str, allowed: impl IntoIterator<Item = &'w str>) -> Option<T> {
        self.report.unknown(self.place(node), "value", found, allowed);
        None
    }

    /// A string with `${env:NAME}` and `${file:PATH}` replaced.
    pub fn string(&mut self, node: &Node<'_>, wanted: &str) -> Option<String> {
        let Some(text) = node.value.get_ref().as_str() else { return self.mismatch(node, wanted) };
        if !text.contains("${") {
            return Some(text.to_owned());
        }
        let place = self.place(node);
        for path in named_files(text, self.folder) {
            self.report.uses(Some(place), path);
        }
        interpolate(text, self.folder, self.environment).map_err(|message| self.report.error(place, message)).ok()
    }

    /// A string without replacement: templates and patterns have braces of their own.
    pub fn raw_string<'t>(&mut self, node: &Node<'t>, wanted: &str) -> Option<&'t str> {
        let DeValue::String(text) = node.value.get_ref() else { return self.mismatch(node, wanted) };
        Some(text.as_ref())
    }

    pub fn array<'t>(&mut self, node: &Node<'t>, wanted: &str) -> Option<Vec<Node<'t>>> {
        match node.value.get_ref() {
            DeValue::Array(items) => Some(nodes(items)),
            DeValue::Table(_) => self.mismatch_with_help(node, wanted, "a list of tables has double brackets: `[[…]]`"),
            DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
                self.mismatch_with_help(node, wanted, "a list stands in brackets, also with one item: `[…]`")
            }
        }
    }

    pub fn table<'t>(&mut self, node: &Node<'t>, wanted: &str) -> Option<Table<'t>> {
        match node.value.get_ref() {
            DeValue::Table(table) => Some(Table::new(table, self.place(node), self.source)),
            DeValue::Array(_) => self.mismatch_with_help(node, wanted, "there is one of it: `[…]` with single brackets"),
            DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
                self.mismatch(node, wanted)
            }
        }
    }

    /// A decoded value with its place.
    pub fn located<T: Decode>(&mut self, node: &Node<'_>) -> Option<Located<T>> {
        let place = self.place(node);
        T::decode(node, self).map(|value| Located::new(value, place))
    }
}

impl<'t> Table<'t> {
    fn new(table: &'t DeTable<'t>, place: Place, source: usize) -> Self {
        let entries =
            table.iter().map(|(key, value)| (key.get_ref().as_ref(), Place::new(source, key.span()), Node { value })).collect();
        Self { place, entries, asked: Vec::new(), taken: Vec::new() }
    }

    pub fn place(&self) -> Place {
        self.place
    }

    /// Takes a key's value out. Keys that nobody took are reported by [`Self::finish`].
    pub fn take(&mut self, key: &'static str) -> Option<Node<'t>> {
        self.asked.push(key);
        let at = self.entries.iter().position(|(name, ..)| *name == key)?;
        let (_, _, node) = self.entries.remove(at);
        self.taken.push((key, Place::new(self.place.source(), node.value.span())));
        Some(node)
    }

    /// Decodes an optional key: absent is `Some(None)`, wrong is `None`.
    pub fn optional<T: Decode>(&mut self, key: &'static str, decoder: &mut Decoder<'_>) -> Option<Option<T>> {
        match self.take(key) {
            Some(node) => T::decode(&node, decoder).map(Some),
            None => Some(None),
        }
    }

    /// Decodes a key that has a default. A wrong value is reported and stands as its default, so that the rest of the
    /// table still counts when the checks that follow look for more mistakes.
    pub fn or<T: Decode>(&mut self, key: &'static str, decoder: &mut Decoder<'_>, default: impl FnOnce() -> T) -> T {
        let value = self.optional(key, decoder).flatten();
        value.unwrap_or_else(|| default().default_in(decoder.folder))
    }

    pub fn required<T: Decode>(&mut self, key: &'static str, decoder: &mut Decoder<'_>) -> Option<T> {
        match self.take(key) {
            Some(node) => T::decode(&node, decoder),
            None => {
                decoder.report.missing(self.place, key);
                None
            }
        }
    }

    /// The entries that were not taken, for tables whose keys are names of the user's choosing.
    pub fn rest(&mut self) -> Vec<(&'t str, Place, Node<'t>)> {
        std::mem::take(&mut self.entries)
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self, decoder: &mut Decoder<'_>) {
        decoder.report.remember(self.place, self.taken);
        for (key, place, _) in self.entries {
            decoder.report.unknown(place, "key", key, self.asked.iter().copied());
        }
    }
}

/// Parses a TOML text and decodes its root table; syntax errors are reported together with all others.
///
/// `None` after errors of syntax. With other mistakes there is a value, in which wrong options have their default and
/// list items that lack something are left out: good to find more mistakes in, never to run with. Whoever runs with it
/// asks [`Report::is_clean`] first.
pub fn decode_document<T: Decode>(text: &str, decoder: &mut Decoder<'_>) -> Option<T> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let broken: Vec<Place> = errors.iter().map(|error| Place::new(decoder.source, error.span().unwrap_or(0..0))).collect();
    for (error, place) in errors.iter().zip(&broken) {
        decoder.report.error(*place, error.message());
    }
    let value = Spanned::new(0..text.len(), DeValue::Table(root.into_inner()));
    let before = decoder.report.len();
    let decoded = T::decode(&Node { value: &value }, decoder);
    if broken.is_empty() {
        return decoded;
    }
    // What recovery made of broken syntax is a guess: good enough to find more errors, not to check references in.
    decoder.report.forget_guesses(before, &broken);
    None
}

impl Node<'_> {
    /// The value as a whole number from 0, in any notation of TOML.
    pub fn whole_number(&self) -> Option<u64> {
        let number = self.value.get_ref().as_integer()?;
        u64::from_str_radix(number.as_str(), number.radix()).ok()
    }

    /// What a table says under `name`.
    fn name(&self) -> Option<&str> {
        let table = self.value.get_ref().as_table()?;
        table.iter().find(|(key, _)| key.get_ref() == "name").and_then(|(_, value)| value.get_ref().as_str())
    }
}

fn nodes<'t>(items: &'t DeArray<'t>) -> Vec<Node<'t>> {
    items.iter().map(|value| Node { value }).collect()
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string \"{}\"", shorten(text)),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => format!("`{value}`"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

impl Decode for String {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.string(node, "a string")
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

impl Decode for bool {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        match node.value.get_ref().as_bool() {
            Some(value) => Some(value),
            None => decoder.mismatch(node, "`true` or `false`"),
        }
    }

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

impl Decode for u64 {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        match node.whole_number() {
            Some(value) => Some(value),
            None => decoder.mismatch(node, "a whole number from 0"),
        }
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 0 })
    }
}

impl Decode for PathBuf {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = decoder.string(node, "a path")?;
        match text.is_empty() {
            true => decoder.refuse(node, "the path is empty".to_owned(), "leave the key out for its default"),
            false => {
                let path = decoder.folder.join(text);
                decoder.report.uses(Some(decoder.place(node)), path.clone());
                Some(path)
            }
        }
    }

    fn default_in(self, folder: &Path) -> Self {
        folder.join(self)
    }

    fn schema() -> Value {
        json!({ "type": "string", "description": "a path, relative to the folder of this file" })
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let items = decoder.array(node, "an array")?;
        let (mut decoded, mut whole) = (Self::with_capacity(items.len()), true);
        // Each item has its own error. Tables that are right still count when others are wrong.
        for item in &items {
            if let Some(value) = T::decode(item, decoder) {
                decoded.push(value);
                continue;
            }
            whole &= item.value.get_ref().is_table();
            if let Some(name) = item.name() {
                decoder.report.drop_name(name);
            }
        }
        whole.then_some(decoded)
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        T::decode(node, decoder).map(Some)
    }

    fn schema() -> Value {
        T::schema()
    }
}

impl<T: Decode> Decode for Located<T> {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.located(node)
    }

    fn schema() -> Value {
        T::schema()
    }
}

/// A table whose keys are names of the user's choosing, in the order of the file.
#[derive(Clone, Debug)]
pub struct Named<T>(pub Vec<(Located<String>, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Decode> Decode for Named<T> {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut table = decoder.table(node, "a table")?;
        let entries: Vec<Option<_>> = table
            .rest()
            .into_iter()
            .map(|(key, place, node)| Some((Located::new(key.to_owned(), place), T::decode(&node, decoder)?)))
            .collect();
        entries.into_iter().collect::<Option<Vec<_>>>().map(Self)
    }

    fn schema() -> Value {
        json!({ "type": "object", "additionalProperties": T::schema() })
    }
}
