//! From a parsed TOML tree to typed values, key by key, so that one pass finds every mistake of a file.
//!
//! [`section!`] declares a table once: it makes the struct, its decoder, the list of its keys (for "did you mean") and
//! its part of the JSON Schema. A new option is one line there.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::config::report::{Located, Place, Report};

/// Something that stands in a config or contract file.
pub trait Decode: Sized {
    /// `None` when the value is wrong; the reason then stands in the report.
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self>;

    /// JSON Schema (2020-12) of what `decode` accepts.
    fn schema() -> Value;
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

    /// A string with `${env:NAME}` and `${file:PATH}` replaced.
    pub fn string(&mut self, node: &Node<'_>, wanted: &str) -> Option<String> {
        let Some(text) = node.value.get_ref().as_str() else { return self.mismatch(node, wanted) };
        if !text.contains("${") {
            return Some(text.to_owned());
        }
        let place = self.place(node);
        self.interpolate(text).map_err(|message| self.report.error(place, message)).ok()
    }

    /// A string without replacement: templates and patterns have braces of their own.
    pub fn raw_string<'t>(&mut self, node: &Node<'t>, wanted: &str) -> Option<&'t str> {
        let DeValue::String(text) = node.value.get_ref() else { return self.mismatch(node, wanted) };
        Some(text.as_ref())
    }

    pub fn array<'t>(&mut self, node: &Node<'t>, wanted: &str) -> Option<Vec<Node<'t>>> {
        let DeValue::Array(items) = node.value.get_ref() else { return self.mismatch(node, wanted) };
        Some(nodes(items))
    }

    pub fn table<'t>(&mut self, node: &Node<'t>, wanted: &str) -> Option<Table<'t>> {
        let DeValue::Table(table) = node.value.get_ref() else { return self.mismatch(node, wanted) };
        Some(Table::new(table, self.place(node), self.source))
    }

    /// A decoded value with its place.
    pub fn located<T: Decode>(&mut self, node: &Node<'_>) -> Option<Located<T>> {
        let place = self.place(node);
        T::decode(node, self).map(|value| Located::new(value, place))
    }

    fn interpolate(&self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, tail) = after.split_once('}').ok_or("`${` without its `}`")?;
            out.push_str(before);
            out.push_str(&self.lookup(name)?);
            rest = tail;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn lookup(&self, name: &str) -> Result<String, String> {
        let value = match name.split_once(':') {
            Some(("env", variable)) => {
                (self.environment)(variable).ok_or_else(|| format!("the environment variable `{variable}` is not set"))?
            }
            Some(("file", path)) => {
                let path = self.folder.join(path);
                let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                text.trim_end_matches(['\n', '\r']).to_owned()
            }
            _ => return Err(format!("`${{{name}}}` is neither `${{env:NAME}}` nor `${{file:PATH}}`")),
        };
        match value.contains(['\n', '\r', '\0']) {
            true => Err(format!("the value of `${{{name}}}` has more than one line")),
            false => Ok(value),
        }
    }
}

impl<'t> Table<'t> {
    fn new(table: &'t DeTable<'t>, place: Place, source: usize) -> Self {
        let entries =
            table.iter().map(|(key, value)| (key.get_ref().as_ref(), Place::new(source, key.span()), Node { value })).collect();
        Self { place, entries, asked: Vec::new() }
    }

    pub fn place(&self) -> Place {
        self.place
    }

    /// Takes a key's value out. Keys that nobody took are reported by [`Self::finish`].
    pub fn take(&mut self, key: &'static str) -> Option<Node<'t>> {
        self.asked.push(key);
        let at = self.entries.iter().position(|(name, ..)| *name == key)?;
        Some(self.entries.remove(at).2)
    }

    /// Decodes an optional key: absent is `Some(None)`, wrong is `None`.
    pub fn optional<T: Decode>(&mut self, key: &'static str, decoder: &mut Decoder<'_>) -> Option<Option<T>> {
        match self.take(key) {
            Some(node) => T::decode(&node, decoder).map(Some),
            None => Some(None),
        }
    }

    pub fn or<T: Decode>(&mut self, key: &'static str, decoder: &mut Decoder<'_>, default: impl FnOnce() -> T) -> Option<T> {
        self.optional(key, decoder).map(|value| value.unwrap_or_else(default))
    }

    pub fn required<T: Decode>(&mut self, key: &'static str, decoder: &mut Decoder<'_>) -> Option<T> {
        match self.take(key) {
            Some(node) => T::decode(&node, decoder),
            None => {
                decoder.report.error(self.place, format!("`{key}` is missing"));
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
        for (key, place, _) in self.entries {
            decoder.report.unknown(place, "key", key, self.asked.iter().copied());
        }
    }
}

/// Parses a TOML text and decodes its root table; syntax errors are reported together with all others.
pub fn decode_document<T: Decode>(text: &str, decoder: &mut Decoder<'_>) -> Option<T> {
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = Place::new(decoder.source, error.span().unwrap_or(0..0));
        decoder.report.error(place, error.message());
    }
    let span = root.span();
    let value = Spanned::new(span, DeValue::Table(root.into_inner()));
    let decoded = T::decode(&Node { value: &value }, decoder);
    // What recovery made of broken syntax is a guess: good enough to find more errors, not to run with.
    decoded.filter(|_| errors.is_empty())
}

fn nodes<'t>(items: &'t DeArray<'t>) -> Vec<Node<'t>> {
    items.iter().map(|value| Node { value }).collect()
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string \"{text}\""),
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
        let parsed =
            node.value.get_ref().as_integer().and_then(|number| Self::from_str_radix(number.as_str(), number.radix()).ok());
        match parsed {
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
        decoder.string(node, "a path").map(|text| decoder.folder.join(text))
    }

    fn schema() -> Value {
        json!({ "type": "string", "description": "a path, relative to the folder of this file" })
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let items = decoder.array(node, "an array")?;
        // All items are decoded before the first wrong one ends it: each has its own error.
        let decoded: Vec<Option<T>> = items.iter().map(|item| T::decode(item, decoder)).collect();
        decoded.into_iter().collect()
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

/// Declares a table of a config file. A field is `name: Type` (required) or `name: Type = default`; `"key" name: Type`
/// gives the key another spelling than the field. The struct also gets `place`, where the table stands.
macro_rules! section {
    // Every field has a default, and so has the table.
    ($(#[doc = $doc:literal])* pub struct $name:ident: Default { $( $(#[doc = $fdoc:literal])* $($key:literal)? $field:ident : $type:ty = $default:expr ),* $(,)? }) => {
        section! { $(#[doc = $doc])* pub struct $name { $( $(#[doc = $fdoc])* $($key)? $field: $type = $default, )* } }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* place: $crate::config::report::Place::default() }
            }
        }
    };
    ($(#[doc = $doc:literal])* pub struct $name:ident { $( $(#[doc = $fdoc:literal])* $($key:literal)? $field:ident : $type:ty $(= $default:expr)? ),* $(,)? }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $( $(#[doc = $fdoc])* pub $field: $type, )*
            pub place: $crate::config::report::Place,
        }

        impl $crate::config::decode::Decode for $name {
            fn decode(node: &$crate::config::decode::Node<'_>, decoder: &mut $crate::config::decode::Decoder<'_>) -> Option<Self> {
                let mut table = decoder.table(node, "a table")?;
                let place = table.place();
                $( let $field: Option<$type> = section!(@take table decoder ($field $($key)?) $($default)?); )*
                table.finish(decoder);
                Some(Self { $( $field: $field?, )* place })
            }

            fn schema() -> serde_json::Value {
                let required: Vec<&'static str> =
                    [$( section!(@required ($field $($key)?) $($default)?) ),*].into_iter().flatten().collect();
                let mut properties = serde_json::Map::new();
                $(
                    let key = section!(@key ($field $($key)?));
                    let mut schema = <$type as $crate::config::decode::Decode>::schema();
                    let lines: &[&str] = &[$($fdoc),*];
                    let text = lines.concat();
                    if let (Some(object), false) = (schema.as_object_mut(), text.is_empty()) {
                        object.insert("description".to_owned(), text.trim().into());
                    }
                    properties.insert(key.to_owned(), schema);
                )*
                serde_json::json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": required })
            }
        }
    };
    (@key ($field:ident $key:literal)) => { $key };
    (@key ($field:ident)) => { stringify!($field) };
    (@take $table:ident $decoder:ident $names:tt $default:expr) => { $table.or(section!(@key $names), $decoder, || $default) };
    (@take $table:ident $decoder:ident $names:tt) => { $table.required(section!(@key $names), $decoder) };
    (@required $names:tt $default:expr) => { None };
    (@required $names:tt) => { Some(section!(@key $names)) };
}

/// Declares a closed set of words: the enum, its decoder and its schema.
macro_rules! words {
    ($(#[doc = $doc:literal])* pub enum $name:ident { $( $(#[doc = $vdoc:literal])* $variant:ident = $word:literal ),* $(,)? }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[doc = $vdoc])* $variant, )* }

        impl $name {
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
        }

        impl $crate::config::decode::Decode for $name {
            fn decode(node: &$crate::config::decode::Node<'_>, decoder: &mut $crate::config::decode::Decoder<'_>) -> Option<Self> {
                let found = decoder.string(node, "a string")?;
                match found.as_str() {
                    $( $word => Some(Self::$variant), )*
                    other => {
                        let place = decoder.place(node);
                        decoder.report.unknown(place, "value", other, [$($word),*]);
                        None
                    }
                }
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({ "enum": [$($word),*] })
            }
        }
    };
}

pub(crate) use {section, words};
