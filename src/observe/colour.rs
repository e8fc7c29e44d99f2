//! Whether lines for people carry ANSI colours.

use std::ffi::OsStr;
use std::io::IsTerminal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Plain,
    Ansi,
}

impl Colour {
    /// Colours for a terminal, unless `NO_COLOR` is set and not empty (no-color.org).
    pub fn of(stream: &impl IsTerminal, no_color: Option<&OsStr>) -> Self {
        match stream.is_terminal() && no_color.is_none_or(OsStr::is_empty) {
            true => Self::Ansi,
            false => Self::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_no_colours() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Colour::of(&file, None), Colour::Plain);
    }
}
