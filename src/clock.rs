//! The only place that reads a clock. Everything else takes `now` as an argument, so that validity is a function of
//! its inputs and a test may pick the hour.
//!
//! Wall time judges credentials; monotonic time judges waits and limits, because it never steps.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

/// Monotonic time in microseconds since the process started. Never steps back, never compared across processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(pub u64);

/// Both clocks, read together, once per request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    pub wall: Timestamp,
    pub tick: Tick,
}

/// Reads both clocks.
#[expect(clippy::disallowed_methods, reason = "this is the one place that may read the clocks")]
pub fn now() -> Now {
    // A clock before 1970 reads as 1970: every token is then not yet valid or expired, which refuses.
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { wall: Timestamp(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)), tick: tick() }
}

/// Reads the monotonic clock, for what only measures.
#[expect(clippy::disallowed_methods, reason = "this is the one place that may read the clocks")]
pub fn tick() -> Tick {
    static START: OnceLock<Instant> = OnceLock::new();
    let started = *START.get_or_init(Instant::now);
    Tick(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX))
}

impl Timestamp {
    /// From whole seconds since the epoch, the unit of `exp`, `nbf` and `iat` (RFC 7519, section 2, NumericDate).
    pub fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Parses RFC 3339 with any offset. `None` when it is no date of this calendar or lies before 1970.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        u64::try_from(parsed.unix_timestamp_nanos() / 1_000_000).ok().map(Self)
    }

    /// RFC 3339 in UTC with whole seconds, e.g. `2024-03-16T10:00:00Z`.
    pub fn rfc3339(self) -> String {
        let seconds = i64::try_from(self.seconds()).unwrap_or(i64::MAX);
        OffsetDateTime::from_unix_timestamp(seconds)
            .ok()
            .and_then(|moment| moment.format(&Rfc3339).ok())
            .unwrap_or_else(|| format!("@{seconds}"))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl Tick {
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Microseconds since an earlier tick; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_is_read_in_any_offset_and_written_in_utc() {
        let parsed = Timestamp::parse_rfc3339("2024-03-16T12:00:00.250+02:00").unwrap();
        assert_eq!(parsed.rfc3339(), "2024-03-16T10:00:00Z");
        assert_eq!(parsed.0 % 1000, 250);
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for text in ["2024-02-30T00:00:00Z", "2024-03-16", "yesterday", "", "1969-12-31T23:59:59Z"] {
            assert_eq!(Timestamp::parse_rfc3339(text), None, "{text}");
        }
    }
}
