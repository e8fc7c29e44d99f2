//! Moments as people read them.

use std::time::Duration;

use crate::clock::Timestamp;

/// RFC 3339, and how far away that is: `2024-03-16T10:00:00Z (in 59m)`.
pub fn beside_now(at: Timestamp, now: Timestamp) -> String {
    let distance = match at >= now {
        true => format!("in {}", rough(Duration::from_millis(at.0 - now.0))),
        false => format!("{} ago", rough(Duration::from_millis(now.0 - at.0))),
    };
    format!("{at} ({distance})")
}

/// The unit that says most, rounded down.
fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_with_its_distance() {
        let now = Timestamp::from_seconds(1_710_583_200);
        for (seconds, shown) in [(0, "in 0s"), (59, "in 59s"), (3599, "in 59m"), (172_799, "in 47h"), (7_776_000, "in 90d")] {
            let at = Timestamp::from_seconds(1_710_583_200 + seconds);
            assert_eq!(beside_now(at, now), format!("{at} ({shown})"));
        }
        assert_eq!(beside_now(now, Timestamp(now.0 + 61_500)), "2024-03-16T10:00:00Z (1m ago)");
    }
}
