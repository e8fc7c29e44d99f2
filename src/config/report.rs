//! Every error of every file, each with its place. Nothing here stops at the first.

use std::fmt;
use std::ops::Range;

/// Where something stands: a byte range of one source text. Copied along with names that are resolved later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
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
}

/// The files that were read and what is wrong with them.
#[derive(Default)]
pub struct Report {
    sources: Vec<Source>,
    findings: Vec<Finding>,
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
        self.findings.push(Finding { place, message: message.into(), help: None });
    }

    pub fn error_with_help(&mut self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Finding { place, message: message.into(), help: Some(help.into()) });
    }

    /// `what` is no known name: names the allowed ones, and the nearest of them as a guess.
    pub fn unknown<'a>(&mut self, place: Place, what: &str, found: &str, allowed: impl IntoIterator<Item = &'a str>) {
        let allowed: Vec<&str> = allowed.into_iter().collect();
        let help = match nearest(found, &allowed) {
            Some(guess) => format!("did you mean `{guess}`? allowed: {}", list(&allowed)),
            None if allowed.is_empty() => "none is defined".to_owned(),
            None => format!("allowed: {}", list(&allowed)),
        };
        self.error_with_help(place, format!("unknown {what} `{found}`"), help);
    }

    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    pub fn len(&self) -> usize {
        self.findings.len()
    }

    /// All findings in the order of files and places, without repeats.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut findings: Vec<&Finding> = self.findings.iter().collect();
        findings.sort_by_key(|finding| finding.place);
        let mut out: Vec<Diagnostic> = findings.into_iter().map(|finding| self.diagnostic(finding)).collect();
        out.dedup();
        out
    }

    fn diagnostic(&self, finding: &Finding) -> Diagnostic {
        let (file, line, column) = match self.sources.get(finding.place.source) {
            Some(source) => {
                let before = source.text.get(..finding.place.start).unwrap_or(&source.text);
                let line_start = before.rfind('\n').map_or(0, |at| at + 1);
                let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
                (source.name.clone(), before.matches('\n').count() + 1, column)
            }
            None => (String::new(), 1, 1),
        };
        Diagnostic { file, line, column, message: finding.message.clone(), help: finding.help.clone() }
    }

    /// The source line of a diagnostic with a caret under its column.
    fn excerpt(&self, diagnostic: &Diagnostic) -> Option<(String, String)> {
        let source = self.sources.iter().find(|source| source.name == diagnostic.file)?;
        let line = source.text.lines().nth(diagnostic.line - 1)?;
        Some((line.to_owned(), format!("{}^", " ".repeat(diagnostic.column - 1))))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let diagnostics = self.diagnostics();
        for diagnostic in &diagnostics {
            writeln!(f, "{}:{}:{}: {}", diagnostic.file, diagnostic.line, diagnostic.column, diagnostic.message)?;
            if let Some((line, caret)) = self.excerpt(diagnostic) {
                writeln!(f, "    | {line}\n    | {caret}")?;
            }
            if let Some(help) = &diagnostic.help {
                writeln!(f, "    = {help}")?;
            }
        }
        match diagnostics.len() {
            1 => f.write_str("1 error"),
            count => write!(f, "{count} errors"),
        }
    }
}

impl Place {
    pub fn new(source: usize, span: Range<usize>) -> Self {
        Self { source, start: span.start, end: span.end }
    }
}

impl<T> Located<T> {
    pub fn new(value: T, place: Place) -> Self {
        Self { value, place }
    }
}

/// The allowed word nearest to what was typed, when it is near enough to be meant.
pub fn nearest<'a>(found: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let (distance, guess) = allowed.iter().map(|word| (strsim::damerau_levenshtein(found, word), *word)).min()?;
    (distance <= 1 + found.chars().count() / 4).then_some(guess)
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

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
    fn a_guess_is_offered_only_when_it_is_near() {
        assert_eq!(nearest("listner", &["listener", "admin"]), Some("listener"));
        assert_eq!(nearest("zebra", &["listener", "admin"]), None);
    }
}
