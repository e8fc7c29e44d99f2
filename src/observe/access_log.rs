//! The access log: one line per request, on stdout. Writes lines; what they say is [`Record`]'s.

use std::io::{self, Write};
use std::time::Duration;

use crate::config::AccessFormat;
use crate::observe::lines::Lines;
use crate::observe::{Colour, Record};

/// A cheap clone. Writing never waits for the reader of the log.
#[derive(Clone)]
pub struct AccessLog {
    output: Output,
}

#[derive(Clone)]
enum Output {
    Off,
    Json(Lines),
    Text(Lines, Colour),
}

impl AccessLog {
    /// Starts the thread that writes to `sink`; with [`AccessFormat::Off`] none. Only text has colours.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(format: AccessFormat, colour: Colour, sink: Box<dyn Write + Send>) -> io::Result<Self> {
        let output = match format {
            AccessFormat::Off => Output::Off,
            AccessFormat::Json => Output::Json(Lines::start("access-log", sink)?),
            AccessFormat::Text => Output::Text(Lines::start("access-log", sink)?, colour),
        };
        Ok(Self { output })
    }

    /// Whether anything is written: a record that nobody reads need not be made.
    pub fn is_on(&self) -> bool {
        !matches!(self.output, Output::Off)
    }

    pub fn write(&self, record: &Record) {
        match &self.output {
            Output::Off => {}
            Output::Json(lines) => lines.push(record.json()),
            Output::Text(lines, colour) => lines.push(record.text(*colour)),
        }
    }

    /// Lines that were not written because the reader of the log is slow or gone, since the start.
    pub fn dropped(&self) -> u64 {
        self.lines().map_or(0, Lines::dropped)
    }

    /// Writes what is queued, but waits no longer than `within`; later records are dropped. False when the sink did not
    /// take all in time. Blocks the calling thread.
    pub fn close(&self, within: Duration) -> bool {
        self.lines().is_none_or(|lines| lines.close(within))
    }

    fn lines(&self) -> Option<&Lines> {
        match &self.output {
            Output::Off => None,
            Output::Json(lines) | Output::Text(lines, _) => Some(lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::samples::{Kept, refused};

    fn written(format: AccessFormat) -> String {
        let kept = Kept::default();
        let log = AccessLog::start(format, Colour::Plain, Box::new(kept.clone())).unwrap();
        log.write(&refused("r-1"));
        log.write(&refused("r-2"));
        assert!(log.close(Duration::from_secs(30)));
        assert_eq!(log.dropped(), 0);
        kept.text()
    }

    #[test]
    fn each_format_writes_a_line_per_record() {
        assert_eq!(written(AccessFormat::Json), format!("{}\n{}\n", refused("r-1").json(), refused("r-2").json()));
        let text = |id| refused(id).text(Colour::Plain);
        assert_eq!(written(AccessFormat::Text), format!("{}\n{}\n", text("r-1"), text("r-2")));
        assert_eq!(written(AccessFormat::Off), "");
    }
}
