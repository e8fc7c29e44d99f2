//! What goes to stdout: lines and tables for people, JSON for programs. Nothing that comes from a file, a client or the
//! store can steer a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    Json,
}

/// Rows below a header, in columns.
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// An empty cell shows as `-`.
    pub fn row(&mut self, cells: Vec<String>) {
        let shown = |cell: String| if cell.is_empty() { "-".to_owned() } else { printable(&cell).replace('\n', " ") };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    pub fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain(self.header.get(column).map(|name| name.len())).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let mut out = String::new();
        let header: Vec<String> = self.header.iter().map(|&name| name.to_owned()).collect();
        for row in std::iter::once(&header).chain(&self.rows) {
            let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out
    }
}

/// Writes text to stdout.
pub fn text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(printable(text).as_bytes())?;
    Ok(out.flush()?)
}

/// Writes a value to stdout as JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    text(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Says something besides the data, on stderr.
pub fn note(words: &str) {
    // Who closed stderr does not want to know.
    let _ = writeln!(io::stderr().lock(), "{}", printable(words));
}

/// The text with characters that a terminal would obey, or that hide what is there, written as `\u001b`: inside JSON
/// that is the same text. Line ends stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| c != '\n' && (c.is_control() || is_invisible(c));
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match hidden(c) {
            true => drop(write!(out, "\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Marks without width, and those that turn the direction of text around: with them one name looks like another.
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_written_out_and_stays_the_same_json() {
        let text = "a\u{1b}[2J\u{9b}2J\u{202e}b\nc";
        assert_eq!(printable(text), "a\\u001b[2J\\u009b2J\\u202eb\nc");
        let json = serde_json::to_string(text).unwrap();
        let shown = printable(&json).into_owned();
        assert!(shown.is_ascii());
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        assert!(matches!(printable("plain äöü\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["ID", "NAME"]);
        table.row(vec!["user-1".to_owned(), "zoë".to_owned()]);
        table.row(vec![String::new(), "b\nob".to_owned()]);
        assert_eq!(table.render(), "ID      NAME\nuser-1  zoë\n-       b ob\n");
    }
}
