//! Follows a chunked body (RFC 9112, section 7.1) to its end, so that the next head is found. Reads nothing of the data.
//!
//! Stricter than the RFC asks: no blank in a size line outside its extensions, no lone CR or LF anywhere, sizes of at
//! most 16 digits. Extensions are passed over, trailers are judged as header fields are. The caps on both lie below
//! hyper's, so that hyper never ends a body that was passed here.

use crate::listener::guard::syntax::{LONGEST_NAME, is_token, is_value};

/// A chunked body and how much of it has gone by.
#[derive(Clone, Debug, Default)]
pub struct Chunks {
    at: At,
    /// Bytes of the current chunk still to come.
    left: u64,
    /// Digits of its size so far.
    digits: u32,
    extension_bytes: u32,
    trailer_bytes: u32,
    trailers: u32,
    /// Bytes of the current trailer's name so far.
    name: usize,
}

/// What became of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// So many of them are a sound part of the body.
    pub taken: usize,
    pub end: End,
}

/// How a body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// More of it must come.
    Open,
    /// The bytes after those taken belong to the next request.
    Whole,
    /// The byte after those taken cannot stand there.
    Broken,
}

/// Where in the grammar the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The first byte of a trailer, or the CR of the empty line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

impl Chunks {
    /// Goes on with the bytes that follow those taken before.
    pub fn follow(&mut self, bytes: &[u8]) -> Progress {
        let mut taken = 0;
        while let Some(&byte) = bytes.get(taken) {
            if self.at == At::Data {
                taken += self.pass_data(bytes.len() - taken);
                continue;
            }
            match self.step(byte) {
                Some(at) => self.at = at,
                None => return Progress { taken, end: End::Broken },
            }
            taken += 1;
            if self.at == At::End {
                return Progress { taken, end: End::Whole };
            }
        }
        Progress { taken, end: End::Open }
    }

    /// How many of so many bytes are data.
    fn pass_data(&mut self, available: usize) -> usize {
        let (passed, left) = pass(self.left, available);
        self.left = left;
        if left == 0 {
            self.at = At::DataCr;
        }
        passed
    }

    /// Where the byte after this one stands; `None` when this one cannot stand here.
    fn step(&mut self, byte: u8) -> Option<At> {
        match self.at {
            At::Size => self.step_size(byte),
            At::Extension => {
                self.extension_bytes += 1;
                let allowed = is_value(byte) && self.extension_bytes <= MOST_EXTENSION_BYTES;
                if byte == b'\r' { Some(At::SizeLf) } else { allowed.then_some(At::Extension) }
            }
            At::SizeLf => {
                let next = if self.left == 0 { At::TrailerStart } else { At::Data };
                self.digits = 0;
                (byte == b'\n').then_some(next)
            }
            At::DataCr => (byte == b'\r').then_some(At::DataLf),
            At::DataLf => (byte == b'\n').then_some(At::Size),
            At::TrailerStart | At::TrailerName | At::TrailerValue | At::TrailerLf => self.step_trailer(byte),
            At::EndLf => (byte == b'\n').then_some(At::End),
            At::Data | At::End => None,
        }
    }

    fn step_size(&mut self, byte: u8) -> Option<At> {
        match (byte, char::from(byte).to_digit(16)) {
            (_, Some(digit)) if self.digits < MOST_DIGITS => {
                self.digits += 1;
                self.left = self.left << 4 | u64::from(digit);
                Some(At::Size)
            }
            (b'\r', None) if self.digits > 0 => Some(At::SizeLf),
            (b';', None) if self.digits > 0 => Some(At::Extension),
            _ => None,
        }
    }

    fn step_trailer(&mut self, byte: u8) -> Option<At> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > MOST_TRAILER_BYTES {
            return None;
        }
        match (self.at, byte) {
            (At::TrailerStart, b'\r') => Some(At::EndLf),
            (At::TrailerStart, _) => {
                self.trailers += 1;
                self.name = 1;
                (is_token(byte) && self.trailers <= MOST_TRAILERS).then_some(At::TrailerName)
            }
            (At::TrailerName, b':') => Some(At::TrailerValue),
            (At::TrailerName, _) => {
                self.name += 1;
                (is_token(byte) && self.name <= LONGEST_NAME).then_some(At::TrailerName)
            }
            (At::TrailerValue, b'\r') => Some(At::TrailerLf),
            (At::TrailerValue, _) => is_value(byte).then_some(At::TrailerValue),
            (At::TrailerLf, b'\n') => Some(At::TrailerStart),
            _ => None,
        }
    }
}

/// How many of `available` bytes belong to the `left` that are awaited, and how many are awaited then.
pub fn pass(left: u64, available: usize) -> (usize, u64) {
    let passed = usize::try_from(left).map_or(available, |left| left.min(available));
    (passed, left.saturating_sub(u64::try_from(passed).unwrap_or(u64::MAX)))
}

/// Of a chunk's size: what 64 bits hold.
const MOST_DIGITS: u32 = 16;
/// Of one body; hyper's cap is 16 KiB.
const MOST_EXTENSION_BYTES: u32 = 8 << 10;
/// With names, line ends and the empty line; hyper's cap is twice the listener's `header_bytes`, at least 16 KiB.
const MOST_TRAILER_BYTES: u32 = 8 << 10;
/// hyper's cap is 100, or the listener's `headers` where that is more.
const MOST_TRAILERS: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    /// How a body ends, and what of it is sound, however it is cut.
    fn said(body: &str) -> (End, usize) {
        let whole = Chunks::default().follow(body.as_bytes());
        let mut chunks = Chunks::default();
        let mut taken = 0;
        for byte in body.as_bytes() {
            let progress = chunks.follow(&[*byte]);
            taken += progress.taken;
            if progress.end != End::Open {
                assert_eq!((progress.end, taken), (whole.end, whole.taken), "{body:?}");
                break;
            }
        }
        assert_eq!(taken, whole.taken, "{body:?}");
        (whole.end, whole.taken)
    }

    #[test]
    fn a_whole_body_ends_at_its_last_byte() {
        for body in [
            "0\r\n\r\n",
            "000\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "0005\r\nhello\r\n0\r\n\r\n",
            "a\r\n0\r\n\r\n12345\r\n0\r\n\r\n",
            "1;name=value; other=\"a b\"\r\nx\r\n0;last\r\n\r\n",
            "1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n",
        ] {
            assert_eq!(said(&format!("{body}GET / HTTP/1.1\r\n")), (End::Whole, body.len()), "{body:?}");
            assert_eq!(said(body.strip_suffix('\n').unwrap()), (End::Open, body.len() - 1), "{body:?}");
        }
    }

    /// The part before the bar is sound, the byte after it is not.
    #[test]
    fn a_broken_body_ends_before_the_first_byte_that_is_wrong() {
        for body in [
            "|\r\n",
            "|;a\r\n",
            "|+5\r\n",
            "|-5\r\n",
            "| 5\r\n",
            "|g\r\n",
            "|\n",
            "0|x5\r\n",
            "5|_0\r\n",
            "5| \r\n",
            "5| ;a\r\n",
            "5|\t\r\n",
            "5|\n",
            "5\r|x",
            "5\r|\r\n",
            "5;a|\n",
            "5;a|\0",
            "5;a\r|b",
            "1\r\nx|y",
            "1\r\nx|\n",
            "1\r\nx\r|x",
            "1\r\nx\r\n|\r\n",
            "0\r\n|\n",
            "0\r\n\r|x",
            "0\r\n| a: b",
            "0\r\n|:",
            "0\r\na| : b",
            "0\r\na|\r\n",
            "0\r\na: b|\n",
            "0\r\na: b\r|c",
            "0\r\na: b\r\n| c",
            "0\r\na: |\0",
            "ffffffffffffffff|f",
            "0000000000000000|0",
            "f0000000000000003\r\n",
        ] {
            let (sound, rest) = body.split_once('|').unwrap_or(("f000000000000000", "3"));
            assert_eq!(said(&format!("{sound}{rest}")), (End::Broken, sound.len()), "{body:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_capped() {
        let extension = |bytes: usize| said(&format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(bytes))).0;
        assert_eq!((extension(8191), extension(8193)), (End::Whole, End::Broken));
        let spread = |count: usize| said(&format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "e".repeat(1023)).repeat(count))).0;
        assert_eq!((spread(8), spread(9)), (End::Whole, End::Broken));
        let trailers = |count: usize| said(&format!("0\r\n{}\r\n", "a: b\r\n".repeat(count))).0;
        assert_eq!((trailers(100), trailers(101)), (End::Whole, End::Broken));
        let long = |bytes: usize| said(&format!("0\r\na:{}\r\n\r\n", "b".repeat(bytes))).0;
        assert_eq!((long(8187), long(8188)), (End::Whole, End::Broken));
        let name = |bytes: usize| said(&format!("0\r\n{}: b\r\n\r\n", "a".repeat(bytes))).0;
        assert_eq!((name(256), name(257)), (End::Whole, End::Broken));
    }

    #[test]
    fn the_largest_size_is_followed() {
        let mut chunks = Chunks::default();
        assert_eq!(chunks.follow(b"FFFFffffFFFFffff\r\nxx"), Progress { taken: 20, end: End::Open });
        assert_eq!((chunks.at, chunks.left), (At::Data, u64::MAX - 2));
    }
}
