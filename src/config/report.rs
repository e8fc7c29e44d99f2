//! Every error of every file, each with its place. Nothing here stops at the first.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use crate::config::files::{self, Content, UsedFile};

/// Where something stands: a byte range of one source text. Copied along with names that are resolved later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place {
    source: usize,
    start: usize,
    end: usize,
}

/// A value with the place that it was read from.
#[derive(Clone, Debug)]
pub struct Located<T> {
    pub value: T,
    pub place: Place,
}

/// One mistake: what is wrong, and where it helps what would be right.
#[derive(Clone, Debug)]
pub struct Finding {
    place: Place,
    message: String,
    help: Option<String>,
    /// Something that should stand there does not.
    missing: bool,
}

/// The files that were read and what is wrong with them.
#[derive(Default)]
pub struct Report {
    sources: Vec<Source>,
    findings: Vec<Finding>,
    /// How many findings came after the list was full.
    beyond: usize,
    values: HashMap<Place, Vec<(&'static str, Place)>>,
    dropped: HashSet<String>,
    files: Vec<UsedFile>,
}

struct Source {
    name: String,
    text: String,
}

/// A finding as programs read it (`gateward check --json`).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
    pub help: Option<String>,
}

impl Report {
    /// Registers a file's text; places into it are made with the returned number.
    pub fn add_source(&mut self, name: impl Into<String>, text: impl Into<String>) -> usize {
        self.sources.push(Source { name: name.into(), text: text.into() });
        self.sources.len() - 1
    }

    pub fn error(&mut self, place: Place, message: impl Into<String>) {
        self.push(Finding { place, message: message.into(), help: None, missing: false });
    }

    pub fn error_with_help(&mut self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.push(Finding { place, message: message.into(), help: Some(help.into()), missing: false });
    }

    /// The table at `place` lacks `key`.
    pub fn missing(&mut self, place: Place, key: &str) {
        self.push(Finding { place, message: format!("`{key}` is missing"), help: None, missing: true });
    }

    /// A string that is no right value: `why` may quote it, which is left out where the file only names a variable or a
    /// file in its place, for that may hold a secret.
    pub fn refuse(&mut self, place: Place, why: impl Into<String>, help: impl Into<String>) {
        match self.stand_in(place) {
            Some(written) => self.error_with_help(place, format!("what `{written}` stands for is no valid value"), help),
            None => self.error_with_help(place, why, help),
        }
    }

    /// `what` is no known name: names the allowed ones, and the nearest of them as a guess.
    pub fn unknown<'a>(&mut self, place: Place, what: &str, found: &str, allowed: impl IntoIterator<Item = &'a str>) {
        let mut seen = HashSet::new();
        let allowed: Vec<&str> = allowed.into_iter().filter(|word| seen.insert(*word)).collect();
        let help = match nearest(found, &allowed) {
            Some(guess) => format!("did you mean `{guess}`? allowed: {}", list(&allowed)),
            None if allowed.is_empty() => "none is defined".to_owned(),
            None => format!("allowed: {}", list(&allowed)),
        };
        let shown = shorten(self.stand_in(place).unwrap_or(found));
        self.error_with_help(place, format!("unknown {what} `{shown}`"), help);
    }

    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    pub fn len(&self) -> usize {
        self.findings.len() + self.beyond
    }

    /// Remembers where the values of a table's keys stand, for checks that come later.
    pub fn remember(&mut self, table: Place, values: Vec<(&'static str, Place)>) {
        self.values.insert(table, values);
    }

    /// Where the value of `key` stands, in the table at `table`. `None` when the file leaves it to the default.
    pub fn written(&self, table: Place, key: &str) -> Option<Place> {
        self.values.get(&table)?.iter().find(|(name, _)| *name == key).map(|(_, place)| *place)
    }

    /// Where the value of `key` stands, or else its table.
    pub fn at(&self, table: Place, key: &str) -> Place {
        self.written(table, key).unwrap_or(table)
    }

    /// Whether the value of `key` is as the file says; a wrong one stands as its default, from which nothing follows.
    pub fn is_sound(&self, table: Place, key: &str) -> bool {
        let Some(value) = self.written(table, key) else { return true };
        let inside = |place: Place| place.source == value.source && value.start <= place.start && place.end <= value.end;
        !self.findings.iter().any(|finding| inside(finding.place))
    }

    /// Remembers the name of a section that is left out because of its mistakes. What refers to it is not wrong too.
    pub fn drop_name(&mut self, name: &str) {
        self.dropped.insert(name.to_owned());
    }

    pub fn is_dropped(&self, name: &str) -> bool {
        self.dropped.contains(name)
    }

    /// After errors of syntax: takes back, of the findings from number `since` on, those that the errors explain. What
    /// is missing may stand in the part that could not be read, and a line that is broken is broken once.
    pub fn forget_guesses(&mut self, since: usize, broken: &[Place]) {
        let lines: HashSet<(usize, usize)> = broken.iter().map(|place| (place.source, self.position(*place).0)).collect();
        let guesses = self.findings.split_off(since.min(self.findings.len()));
        let kept = guesses
            .into_iter()
            .filter(|finding| !finding.missing && !lines.contains(&(finding.place.source, self.position(finding.place).0)))
            .collect::<Vec<_>>();
        self.findings.extend(kept);
    }

    /// A file is named at `place` and about to be read. Looked at before its reader does: what is written in between is then
    /// a change that is noticed.
    pub fn uses(&mut self, place: Option<Place>, path: PathBuf) {
        let content: Content = files::content(&path);
        self.files.push(UsedFile { place, path, content });
    }

    /// Every file that was read, or could not be.
    pub fn files(&self) -> &[UsedFile] {
        &self.files
    }

    /// The text that [`Self::add_source`] was given.
    pub fn text(&self, source: usize) -> &str {
        self.sources.get(source).map_or("", |source| &source.text)
    }

    /// The number of the line where `place` starts, from 1.
    pub fn line(&self, place: Place) -> usize {
        self.position(place).0
    }

    /// All findings in the order of files and places, without repeats.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.ordered().into_iter().map(|finding| self.diagnostic(finding)).collect()
    }

    fn push(&mut self, finding: Finding) {
        match self.findings.len() < MAX_FINDINGS {
            true => self.findings.push(finding),
            false => self.beyond += 1,
        }
    }

    fn ordered(&self) -> Vec<&Finding> {
        let mut seen = HashSet::new();
        let mut findings: Vec<&Finding> =
            self.findings.iter().filter(|finding| seen.insert((finding.place, finding.message.as_str()))).collect();
        findings.sort_by_key(|finding| finding.place);
        findings
    }

    fn diagnostic(&self, finding: &Finding) -> Diagnostic {
        let (line, column) = self.position(finding.place);
        let file = self.sources.get(finding.place.source).map(|source| source.name.clone()).unwrap_or_default();
        Diagnostic { file, line, column, message: finding.message.clone(), help: finding.help.clone() }
    }

    /// Line and column, each from 1.
    fn position(&self, place: Place) -> (usize, usize) {
        let Some(source) = self.sources.get(place.source) else { return (1, 1) };
        let before = source.text.get(..source.text.floor_char_boundary(place.start)).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }

    /// The source line of a place with carets below it.
    fn excerpt(&self, place: Place) -> Option<(String, String)> {
        let source = self.sources.get(place.source).filter(|source| !source.text.is_empty())?;
        let (number, column) = self.position(place);
        // At the very end of a text there is a line that `lines` does not yield.
        let line = source.text.lines().nth(number - 1).unwrap_or_default();
        // A long line is cut to the part around the place; control characters would draw on the reader's terminal.
        let from = if line.chars().count() > EXCERPT { (column - 1).saturating_sub(EXCERPT / 2) } else { 0 };
        let shown: String =
            hide_credentials(line).chars().skip(from).take(EXCERPT).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let span = source.text.get(place.start..place.end).and_then(|text| text.lines().next()).unwrap_or_default();
        let indent = column - 1 - from;
        let carets = span.chars().count().min(shown.chars().count().saturating_sub(indent)).max(1);
        Some((shown, format!("{}{}", " ".repeat(indent), "^".repeat(carets))))
    }

    /// What stands in the file where a value is made of `${…}`.
    fn stand_in(&self, place: Place) -> Option<&str> {
        let written = self.sources.get(place.source)?.text.get(place.start..place.end)?;
        written.contains("${").then(|| written.trim_matches(['"', '\'']))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let findings = self.ordered();
        for finding in findings.iter().take(MAX_SHOWN) {
            let Diagnostic { file, line, column, message, help } = self.diagnostic(finding);
            match self.excerpt(finding.place) {
                Some((text, carets)) => {
                    let text = format!("    | {text}\n    | {carets}");
                    writeln!(f, "{file}:{line}:{column}: {message}\n{text}")?;
                }
                None => writeln!(f, "{file}: {message}")?,
            }
            if let Some(help) = help {
                writeln!(f, "    = {help}")?;
            }
        }
        let count = findings.len() + self.beyond;
        match count {
            1 => f.write_str("1 error"),
            _ if count > MAX_SHOWN => write!(f, "{count} errors, of which the first {MAX_SHOWN} are shown"),
            _ => write!(f, "{count} errors"),
        }
    }
}

impl Place {
    pub fn new(source: usize, span: Range<usize>) -> Self {
        Self { source, start: span.start, end: span.end }
    }

    /// The empty place where this one starts.
    pub fn start(&self) -> Self {
        Self { end: self.start, ..*self }
    }

    pub fn is_within(&self, span: &Range<usize>) -> bool {
        span.start <= self.start && self.end <= span.end
    }

    /// The number that [`Report::add_source`] gave.
    pub fn source(&self) -> usize {
        self.source
    }
}

impl<T> Located<T> {
    pub fn new(value: T, place: Place) -> Self {
        Self { value, place }
    }
}

/// The allowed word nearest to what was typed, when it is near enough to be meant.
pub fn nearest<'a>(found: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let length = found.chars().count();
    if length > MAX_QUOTED {
        return None;
    }
    // By capitals and separators alone, two words are as near as can be.
    let plain = |word: &str| word.to_lowercase().replace(['-', ' '], "_");
    let near = |word: &&'a str| (strsim::damerau_levenshtein(&plain(found), &plain(word)), *word);
    let (distance, guess) = allowed.iter().map(near).min()?;
    (distance <= 1 + length / 4).then_some(guess)
}

/// A text as a message quotes it: on one line, and cut when it is long.
pub fn shorten(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_QUOTED).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > MAX_QUOTED {
        shown.push('…');
    }
    shown
}

/// A line of a file as it may be shown: of `scheme://user:password@host` the part before the `@` is starred, each character
/// by one, so that what stands behind it keeps its column. A `${…}` in its place is no secret.
pub fn hide_credentials(line: &str) -> String {
    let hide = |word: &str| {
        let Some((before, after)) = word.rsplit_once('@') else { return word.to_owned() };
        let (scheme, credentials) = before.find("://").map_or(("", before), |at| before.split_at(at.saturating_add("://".len())));
        if !before.contains(':') || before.contains("${") {
            return word.to_owned();
        }
        format!("{scheme}{}@{after}", "*".repeat(credentials.chars().count()))
    };
    line.split_inclusive(|c: char| c.is_whitespace() || c == '"').map(hide).collect()
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// Findings that are kept; a text that is no config at all would make one per byte.
const MAX_FINDINGS: usize = 1000;
/// Findings that a person is shown.
const MAX_SHOWN: usize = 100;
/// Characters of a source line in an excerpt.
const EXCERPT: usize = 160;
/// Characters of a value in a message.
const MAX_QUOTED: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_come_in_the_order_of_their_places_with_line_column_and_caret() {
        let mut report = Report::default();
        let source = report.add_source("gateway.toml", "a = 1\nbé = 2\n");
        report.unknown(Place::new(source, 10..11), "key", "colour", ["color", "size"]);
        report.error(Place::new(source, 0..1), "first");
        assert_eq!(
            report.to_string(),
            "gateway.toml:1:1: first\n    | a = 1\n    | ^\ngateway.toml:2:4: unknown key `colour`\n    | bé = 2\n    |    ^\n    \
             = did you mean `color`? allowed: `color`, `size`\n2 errors"
        );
    }

    #[test]
    fn carets_span_the_value_and_control_characters_stay_out_of_the_excerpt() {
        let mut report = Report::default();
        let source = report.add_source("gateway.toml", "a = \"\u{1b}[31m\"\r\n");
        report.error(Place::new(source, 4..11), "red");
        assert_eq!(report.to_string(), "gateway.toml:1:5: red\n    | a = \" [31m\"\n    |     ^^^^^^^\n1 error");
    }

    #[test]
    fn an_excerpt_shows_no_credentials_of_a_url() {
        for (line, shown) in [
            ("url = \"redis://gw:hunter2@one/0\"", "url = \"redis://**********@one/0\""),
            ("url = 'redis://:hü@nter2@one', a = 1", "url = 'redis://*********@one', a = 1"),
            ("url = \"gw:hunter2@one\"", "url = \"**********@one\""),
            ("url = \"redis://gw:${env:PASSWORD}@one\"", "url = \"redis://gw:${env:PASSWORD}@one\""),
            ("owner = \"ann@example.com\" # a:b", "owner = \"ann@example.com\" # a:b"),
        ] {
            assert_eq!(hide_credentials(line), shown);
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let mut report = Report::default();
        let source = report.add_source("f", format!("{}x{}", "a".repeat(500), "b".repeat(500)));
        report.error(Place::new(source, 500..501), "here");
        let cut = format!("    | {}x{}\n    | {}^\n", "a".repeat(80), "b".repeat(79), " ".repeat(80));
        assert_eq!(report.to_string(), format!("f:1:501: here\n{cut}1 error"));
    }

    #[test]
    fn the_same_finding_is_shown_once_and_another_at_its_place_too() {
        let mut report = Report::default();
        let place = Place::new(report.add_source("f", "a = 1"), 0..1);
        for message in ["one", "two", "one", "two"] {
            report.error(place, message);
        }
        let shown: Vec<String> = report.diagnostics().into_iter().map(|diagnostic| diagnostic.message).collect();
        assert_eq!(shown, ["one", "two"]);
    }

    #[test]
    fn findings_beyond_the_cap_are_counted() {
        let mut report = Report::default();
        let source = report.add_source("f", "a".repeat(2000));
        (0..1500).for_each(|at| report.error(Place::new(source, at..at + 1), "wrong"));
        assert_eq!((report.len(), report.diagnostics().len()), (1500, 1000));
        assert!(report.to_string().ends_with("1500 errors, of which the first 100 are shown"));
    }

    #[test]
    fn places_outside_the_text_and_inside_a_character_are_survived() {
        let mut report = Report::default();
        let source = report.add_source("f", "é");
        for span in [1..2, 7..9, 2..2] {
            report.error(Place::new(source, span), "odd");
        }
        report.error(Place::new(source + 1, 0..3), "no such source");
        let places: Vec<_> = report.diagnostics().iter().map(|d| (d.line, d.column)).collect();
        assert_eq!(places, [(1, 1), (1, 2), (1, 2), (1, 1)]);
        assert!(report.to_string().ends_with("4 errors"));
    }

    #[test]
    fn a_guess_is_offered_only_when_it_is_near() {
        assert_eq!(nearest("listner", &["listener", "admin"]), Some("listener"));
        assert_eq!(nearest("maxBody", &["max_body", "methods"]), Some("max_body"));
        assert_eq!(nearest("Max-Body", &["max_body", "methods"]), Some("max_body"));
        assert_eq!(nearest("zebra", &["listener", "admin"]), None);
    }
}
