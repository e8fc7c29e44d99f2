//! Path patterns of routes and prefixes.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::decode::{Decode, Decoder, Node};

/// A path pattern: literals, `{name}` for one segment, `**` or `{**name}` for any number of segments at the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPattern {
    pub segments: Vec<Segment>,
    text: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    Literal(String),
    Capture(Arc<str>),
    /// None or more segments; always the last.
    Tail(Option<Arc<str>>),
}

impl PathPattern {
    /// Parses a pattern; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else { return Err(format!("`{text}` does not start with `/`")) };
        if rest.ends_with('/') {
            return Err(format!("`{text}` ends with `/`"));
        }
        let parts: Vec<&str> = if rest.is_empty() { Vec::new() } else { rest.split('/').collect() };
        let last = parts.len();
        let mut segments = Vec::with_capacity(parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            let segment = parse_segment(part).map_err(|why| format!("`{text}`: {why}"))?;
            if matches!(segment, Segment::Tail(_)) && index + 1 != last {
                return Err(format!("`{text}`: `**` may only stand at the end"));
            }
            if let Some(name) = segment.name()
                && segments.iter().any(|earlier: &Segment| earlier.name() == Some(name))
            {
                return Err(format!("`{text}`: two captures are called `{name}`"));
            }
            segments.push(segment);
        }
        Ok(Self { segments, text: text.into() })
    }

    /// `/**`
    pub fn everything() -> Self {
        Self { segments: vec![Segment::Tail(None)], text: "/**".into() }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How many literal segments of a path differ from this pattern's. `None` when the lengths do not fit.
    pub fn misses<'a>(&self, path: impl Iterator<Item = &'a str>) -> Option<usize> {
        let path: Vec<&str> = path.filter(|segment| !segment.is_empty()).collect();
        let fixed = self.segments.iter().take_while(|segment| !matches!(segment, Segment::Tail(_))).count();
        let fits = if fixed < self.segments.len() { path.len() >= fixed } else { path.len() == fixed };
        let differs = |(segment, part): &(&Segment, &&str)| matches!(segment, Segment::Literal(text) if text != **part);
        fits.then(|| self.segments.iter().zip(&path).filter(differs).count())
    }

    /// The pattern of `self` followed by `other`: a rule below a prefix.
    pub fn join(&self, other: &Self) -> Result<Self, String> {
        match &*other.text {
            "/" => Ok(self.clone()),
            below => Self::parse(&format!("{}{below}", self.text.trim_end_matches('/'))),
        }
    }

    /// Whether every path, or every path of some length on, matches.
    pub fn is_everything(&self) -> bool {
        let open = |segment: &Segment| matches!(segment, Segment::Capture(_) | Segment::Tail(_));
        matches!(self.segments.last(), Some(Segment::Tail(_))) && self.segments.iter().all(open)
    }

    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(Segment::name)
    }

    /// Two patterns of one shape match exactly the same paths.
    pub fn shape(&self) -> String {
        let one = |segment: &Segment| match segment {
            Segment::Literal(text) => format!("/{text}"),
            Segment::Capture(_) => "/{}".to_owned(),
            Segment::Tail(_) => "/**".to_owned(),
        };
        self.segments.iter().map(one).collect()
    }
}

impl Segment {
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Capture(name) | Self::Tail(Some(name)) => Some(name),
            Self::Literal(_) | Self::Tail(None) => None,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Decode for PathPattern {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = decoder.raw_string(node, "a path such as \"/api/items/{id}\"")?;
        match Self::parse(text) {
            Ok(pattern) => Some(pattern),
            Err(why) => {
                let help = "expected a path such as \"/api/items/{id}\"; `{name}` is one segment, `{**name}` the rest";
                decoder.report.error_with_help(decoder.place(node), why, help);
                None
            }
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "description": "a path; `{name}` is one segment, `{**name}` any number at the end" })
    }
}

fn parse_segment(part: &str) -> Result<Segment, String> {
    let name_of = |name: &str| {
        let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if valid { Ok(name.into()) } else { Err(format!("`{name}` is no name for a capture (a-z, 0-9, _)")) }
    };
    if part == "**" {
        return Ok(Segment::Tail(None));
    }
    match part.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
        Some(inner) => match inner.strip_prefix("**") {
            Some(name) => name_of(name).map(|name| Segment::Tail(Some(name))),
            None => name_of(inner).map(Segment::Capture),
        },
        None if part.is_empty() => Err("it has an empty segment".to_owned()),
        None if part == "." || part == ".." => Err(format!("`{part}` is no segment")),
        None if part.contains(['{', '}']) => Err(format!("`{part}`: a capture such as `{{id}}` fills a whole segment")),
        None if part.contains(['*', '%', '\\', '?', '#', ';']) || !part.bytes().all(|b| b.is_ascii_graphic()) => {
            Err(format!("`{part}` holds a character that a literal segment may not have"))
        }
        None => Ok(Segment::Literal(part.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_patterns_of_one_shape_match_the_same_paths() {
        for (text, shape, captures) in [
            ("/", "", vec![]),
            ("/a/{id}", "/a/{}", vec!["id"]),
            ("/a/{other}/**", "/a/{}/**", vec!["other"]),
            ("/{a}/{**rest}", "/{}/**", vec!["a", "rest"]),
        ] {
            let pattern = PathPattern::parse(text).unwrap();
            assert_eq!((pattern.shape().as_str(), pattern.captures().collect::<Vec<_>>()), (shape, captures), "{text}");
        }
    }

    #[test]
    fn path_patterns_that_could_be_read_two_ways_are_refused() {
        for (text, why) in [
            ("", "`` does not start with `/`"),
            ("a", "`a` does not start with `/`"),
            ("/a/", "`/a/` ends with `/`"),
            ("//a", "`//a`: it has an empty segment"),
            ("/a/../b", "`/a/../b`: `..` is no segment"),
            ("/**/a", "`/**/a`: `**` may only stand at the end"),
            ("/{a}/{a}", "`/{a}/{a}`: two captures are called `a`"),
            ("/{}", "`/{}`: `` is no name for a capture (a-z, 0-9, _)"),
            ("/{Id}", "`/{Id}`: `Id` is no name for a capture (a-z, 0-9, _)"),
            ("/v{n}", "`/v{n}`: `v{n}`: a capture such as `{id}` fills a whole segment"),
            ("/a%2fb", "`/a%2fb`: `a%2fb` holds a character that a literal segment may not have"),
            ("/a*", "`/a*`: `a*` holds a character that a literal segment may not have"),
            ("/é", "`/é`: `é` holds a character that a literal segment may not have"),
        ] {
            assert_eq!(PathPattern::parse(text).unwrap_err(), why);
        }
    }

    #[test]
    fn a_prefix_and_a_rule_below_it_make_one_pattern() {
        let join = |prefix, rule| PathPattern::parse(prefix).unwrap().join(&PathPattern::parse(rule).unwrap());
        for (prefix, rule, joined) in
            [("/api", "/x/{id}", "/api/x/{id}"), ("/", "/x", "/x"), ("/api", "/", "/api"), ("/", "/", "/")]
        {
            assert_eq!(join(prefix, rule).unwrap().as_str(), joined);
        }
        assert_eq!(join("/api/**", "/x").unwrap_err(), "`/api/**/x`: `**` may only stand at the end");
    }

    #[test]
    fn only_patterns_of_nothing_but_captures_are_everything() {
        for (text, expected) in
            [("/**", true), ("/{**rest}", true), ("/{a}/**", true), ("/a/**", false), ("/{a}", false), ("/", false)]
        {
            assert_eq!(PathPattern::parse(text).unwrap().is_everything(), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_pattern_is_shown_as_it_was_parsed(text in "/[a-z{}*/]{0,12}") {
            if let Ok(pattern) = PathPattern::parse(&text) {
                assert_eq!(PathPattern::parse(pattern.as_str()), Ok(pattern.clone()));
                assert_eq!(pattern.to_string(), text);
            }
        }
    }
}
