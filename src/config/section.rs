//! [`section!`] declares a table once: it makes the struct, its decoder, the list of its keys (for "did you mean") and
//! its part of the JSON Schema. A new option is one line there. [`words!`] does the same for a closed set of words.

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

            fn default_in(self, folder: &std::path::Path) -> Self {
                Self { $( $field: $crate::config::decode::Decode::default_in(self.$field, folder), )* place: self.place }
            }
        }
    };
    (@key ($field:ident $key:literal)) => { $key };
    (@key ($field:ident)) => { stringify!($field) };
    (@take $table:ident $decoder:ident $names:tt $default:expr) => { Some($table.or(section!(@key $names), $decoder, || $default)) };
    (@take $table:ident $decoder:ident $names:tt) => { $table.required(section!(@key $names), $decoder) };
    (@required $names:tt $default:expr) => { None };
    (@required $names:tt) => { Some(section!(@key $names)) };
}

/// Declares a closed set of words: the enum, its decoder and its schema. With `: Display` it can say its word again.
macro_rules! words {
    ($(#[doc = $doc:literal])* pub enum $name:ident: Display { $( $(#[doc = $vdoc:literal])* $variant:ident = $word:literal ),* $(,)? }) => {
        words! { $(#[doc = $doc])* pub enum $name { $( $(#[doc = $vdoc])* $variant = $word, )* } }

        impl $name {
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
        }
    };
    ($(#[doc = $doc:literal])* pub enum $name:ident { $( $(#[doc = $vdoc:literal])* $variant:ident = $word:literal ),* $(,)? }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[doc = $vdoc])* $variant, )* }

        impl $crate::config::decode::Decode for $name {
            fn decode(node: &$crate::config::decode::Node<'_>, decoder: &mut $crate::config::decode::Decoder<'_>) -> Option<Self> {
                let found = decoder.string(node, "a string")?;
                match found.as_str() {
                    $( $word => Some(Self::$variant), )*
                    other => decoder.unknown(node, other, [$($word),*]),
                }
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({ "enum": [$($word),*] })
            }
        }
    };
}

pub(crate) use {section, words};
