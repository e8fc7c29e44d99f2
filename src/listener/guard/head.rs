//! Judges a request's head by its bytes (RFC 9112): what passes has one reading, hyper's and everybody else's.
//!
//! Stricter than the RFC asks where it leaves a choice: two lines of Content-Length are refused even when they agree,
//! and nothing may follow another line end than CR LF. One empty line before the request line is passed over, as section
//! 2.2 wants. A head is judged as soon as its bytes come, so that what is no HTTP at all is not waited for.

use crate::config::Listener;
use crate::listener::guard::syntax::{BARE_LINE_END, Line, field_line, is_token, is_visible, malformed, split_run};
use crate::listener::guard::target;
use crate::rejection::Denial;

/// The most that one head may take.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Header fields.
    pub fields: u64,
    /// Request line and fields together.
    pub head_bytes: u64,
    /// The request target.
    pub uri_bytes: u64,
}

/// What is to be said of some bytes at the beginning of which a head is due.
#[derive(Clone, Debug)]
pub enum Judgement {
    /// Nothing is wrong yet, and more must come.
    Incomplete,
    /// The first `length` bytes are a head.
    Sound {
        length: usize,
        framing: Framing,
    },
    Refused(Denial),
}

/// How long the body is (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// Judges a head that comes in pieces.
#[derive(Debug, Default)]
pub struct HeadReader {
    /// Where the first line begins that is not judged yet.
    line: usize,
    /// How many bytes of that line, a field's, were there and in order when it was last read.
    read: usize,
    version: Option<Version>,
    fields: u64,
    hosts: u64,
    framing: Option<Framing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

impl HeadReader {
    /// Judges the head at the beginning of `bytes`, which begin with all those of the call before.
    pub fn judge(&mut self, bytes: &[u8], limits: &HeadLimits) -> Judgement {
        match self.read_lines(bytes, limits) {
            Ok(Some(length)) => Judgement::Sound { length, framing: self.framing.unwrap_or(Framing::None) },
            Ok(None) if above(bytes.len(), limits.head_bytes) => Judgement::Refused(too_large(limits)),
            Ok(None) => Judgement::Incomplete,
            Err(denial) => Judgement::Refused(denial),
        }
    }

    /// The head's length, once all of it is there.
    fn read_lines(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Denial> {
        loop {
            let rest = bytes.get(self.line..).unwrap_or_default();
            let Some(version) = self.version else {
                let Some(length) = self.read_start(rest, limits)? else { return Ok(None) };
                self.line += length;
                continue;
            };
            match field_line(rest, std::mem::take(&mut self.read)) {
                Line::Incomplete => {
                    self.read = rest.len();
                    return Ok(None);
                }
                Line::Fault(what) => return Err(malformed(what)),
                Line::Field { name, value, length } => {
                    self.line += length;
                    self.fields += 1;
                    if self.fields > limits.fields {
                        return Err(Denial::TooManyHeaders { limit: limits.fields });
                    }
                    self.note(name, value, version)?;
                }
                Line::End if above(self.line + 2, limits.head_bytes) => return Err(too_large(limits)),
                // RFC 9112, section 3.2: HTTP/1.1 must say the host.
                Line::End if self.hosts == 0 && version == Version::Http11 => return Err(Denial::HostMissing),
                Line::End => return Ok(Some(self.line + 2)),
            }
        }
    }

    /// The request line, or an empty line before it: its length.
    fn read_start(&mut self, rest: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Denial> {
        match rest {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] if self.line == 0 => return Ok(Some(2)),
            [b'\r' | b'\n', ..] => return Err(malformed("more than one CR LF before the request line")),
            _ => {}
        }
        let (method, after) = split_run(rest, is_token);
        if method.len() > LONGEST_METHOD {
            return Err(malformed("a method of more than 32 bytes"));
        }
        let after = match (method, after) {
            (_, []) => return Ok(None),
            ([_, ..], [b' ', after @ ..]) => after,
            _ => return Err(malformed("a request line that does not begin with a method and one blank")),
        };
        let (target, after) = split_run(after, is_visible);
        if above(target.len(), limits.uri_bytes) {
            return Err(Denial::UriTooLong { limit: limits.uri_bytes });
        }
        let after = match (target, after) {
            (_, []) => return Ok(None),
            ([_, ..], [b' ', after @ ..]) => after,
            (_, [b'\r' | b'\n', ..]) => return Err(malformed("a request line without a version")),
            ([], _) => return Err(malformed("more than one blank after the method")),
            _ => return Err(malformed("a byte that no request target may hold")),
        };
        let version = match after {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b'\r', b'\n', ..] => Version::Http11,
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0', b'\r', b'\n', ..] => Version::Http10,
            _ if after.len() < VERSION_AND_END && !after.contains(&b'\n') => return Ok(None),
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b'\r' | b'\n', ..] => return Err(malformed(BARE_LINE_END)),
            _ => return Err(malformed("a version that is neither HTTP/1.1 nor HTTP/1.0")),
        };
        target::check(method, target)?;
        self.version = Some(version);
        Ok(Some(method.len() + target.len() + 2 + VERSION_AND_END))
    }

    /// What a field says of host and framing. The others are the pipeline's.
    fn note(&mut self, name: &[u8], value: &[u8], version: Version) -> Result<(), Denial> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("host") {
            self.hosts += 1;
            return if self.hosts == 1 { Ok(()) } else { Err(Denial::HostMissing) };
        }
        let framing = if is("content-length") {
            Framing::Length(content_length(value).ok_or_else(|| ambiguous("a Content-Length that is no plain number"))?)
        } else if is("transfer-encoding") {
            if version == Version::Http10 {
                return Err(ambiguous("a Transfer-Encoding with HTTP/1.0"));
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(ambiguous("a Transfer-Encoding other than chunked"));
            }
            Framing::Chunked
        } else {
            return Ok(());
        };
        match self.framing.replace(framing) {
            None => Ok(()),
            Some(_) => Err(ambiguous("more than one Content-Length or Transfer-Encoding")),
        }
    }
}

/// Digits alone (RFC 9110, section 8.6), and fewer than could overflow.
pub fn content_length(value: &[u8]) -> Option<u64> {
    let plain = (1..=MOST_DIGITS).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    if plain { std::str::from_utf8(value).ok()?.parse().ok() } else { None }
}

fn above(length: usize, limit: u64) -> bool {
    u64::try_from(length).map_or(true, |length| length > limit)
}

fn too_large(limits: &HeadLimits) -> Denial {
    Denial::HeadTooLarge { limit: limits.head_bytes }
}

fn ambiguous(what: &'static str) -> Denial {
    Denial::FramingAmbiguous { what }
}

impl From<&Listener> for HeadLimits {
    fn from(listener: &Listener) -> Self {
        let limits = &listener.limits;
        Self { fields: limits.headers, head_bytes: limits.header_bytes.0, uri_bytes: limits.uri_bytes.0 }
    }
}

/// Methods become values of metrics and logs.
pub const LONGEST_METHOD: usize = 32;
/// `HTTP/1.1` and the line's end.
const VERSION_AND_END: usize = 10;
/// An exabyte less one.
const MOST_DIGITS: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { fields: 5, head_bytes: 200, uri_bytes: 20 };

    fn judge(bytes: &[u8]) -> Judgement {
        HeadReader::default().judge(bytes, &LIMITS)
    }

    fn said(head: &str) -> String {
        match judge(head.as_bytes()) {
            Judgement::Incomplete => "incomplete".to_owned(),
            Judgement::Sound { length, framing } if length == head.len() => format!("{framing:?}"),
            Judgement::Sound { length, .. } => panic!("{length} of {head:?}"),
            Judgement::Refused(denial) => format!("{}: {denial}", denial.code()),
        }
    }

    fn with(fields: &str) -> String {
        said(&format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"))
    }

    #[test]
    fn a_sound_head_says_how_long_its_body_is() {
        for (fields, framing) in [
            ("X: a", "None"),
            ("Content-Length: 0", "Length(0)"),
            ("content-LENGTH:\t0042 ", "Length(42)"),
            ("Content-Length: 999999999999999999", "Length(999999999999999999)"),
            ("Transfer-Encoding: chunked", "Chunked"),
            ("transfer-encoding:Chunked", "Chunked"),
        ] {
            assert_eq!(with(fields), framing, "{fields}");
        }
        assert_eq!(said("GET / HTTP/1.0\r\n\r\n"), "None");
        assert_eq!(said("\r\nOPTIONS * HTTP/1.1\r\nhost:\r\n\r\n"), "None");
    }

    #[test]
    fn framing_that_two_programs_could_read_in_two_ways_is_refused() {
        let refused = |what: &str| format!("framing_ambiguous: where the body ends could be read in two ways: {what}");
        let (twice, other) = ("more than one Content-Length or Transfer-Encoding", "a Transfer-Encoding other than chunked");
        let number = "a Content-Length that is no plain number";
        for (fields, what) in [
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", twice),
            ("Transfer-Encoding: chunked\r\nContent-Length: 0", twice),
            ("Content-Length: 5\r\nContent-Length: 5", twice),
            ("Content-Length: 5\r\nContent-Length: 6", twice),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", twice),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", other),
            ("Transfer-Encoding: identity", other),
            ("Transfer-Encoding: gzip, chunked", other),
            ("Transfer-Encoding: ,chunked", other),
            ("Transfer-Encoding: xchunked", other),
            ("Transfer-Encoding: chunked;q=1", other),
            ("Transfer-Encoding: \"chunked\"", other),
            ("Transfer-Encoding:", other),
            ("Content-Length: +5", number),
            ("Content-Length: -1", number),
            ("Content-Length: 5,5", number),
            ("Content-Length: 5 5", number),
            ("Content-Length: 0x5", number),
            ("Content-Length: 5_0", number),
            ("Content-Length:", number),
            ("Content-Length: 1000000000000000000", number),
            ("Content-Length: 18446744073709551616", number),
        ] {
            assert_eq!(with(fields), refused(what), "{fields}");
        }
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(said(old), refused("a Transfer-Encoding with HTTP/1.0"));
    }

    #[test]
    fn a_request_line_has_one_form() {
        let (start, blanks) =
            ("a request line that does not begin with a method and one blank", "more than one blank after the method");
        let (none, other) = ("a request line without a version", "a version that is neither HTTP/1.1 nor HTTP/1.0");
        for (line, what) in [
            (" GET / HTTP/1.1\r\n", start),
            ("G\0T / HTTP/1.1\r\n", start),
            ("GET\t/ HTTP/1.1\r\n", start),
            ("GET\r\n", start),
            ("\x16\x03\x01\x02\0\x01", start),
            ("GET  / HTTP/1.1\r\n", blanks),
            ("GET /\r\n", none),
            ("GET /\n", none),
            ("GET \r\n", none),
            ("GET /  HTTP/1.1\r\n", other),
            ("GET / HTTP/1.1 \r\n", other),
            ("GET / HTTP/1.2\r\n", other),
            ("GET / HTTP/2.0\r\n", other),
            ("GET / http/1.1\r\n", other),
            ("GET / HTTP/1.10\r\n", other),
            ("GET / a HTTP/1.1\r\n", other),
            ("GET / \r\n", other),
            ("PRI * HTTP/2.0\r\n", other),
            ("GET / HTTP/1.1\n", BARE_LINE_END),
            ("GET / HTTP/1.1\rHost: a", BARE_LINE_END),
            ("GET /\t HTTP/1.1\r\n", "a byte that no request target may hold"),
            ("GET /\u{e9} HTTP/1.1\r\n", "a byte that no request target may hold"),
            ("GET /\x7f HTTP/1.1\r\n", "a byte that no request target may hold"),
            ("GET /# HTTP/1.1\r\n", "a fragment in the request target"),
            ("\r\n\r\nGET / HTTP/1.1\r\n", "more than one CR LF before the request line"),
            ("\nGET / HTTP/1.1\r\n", "more than one CR LF before the request line"),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG /", "a method of more than 32 bytes"),
        ] {
            let expected = format!("head_malformed: the request's head is malformed: {what}");
            assert_eq!(said(line), expected, "{line:?}");
        }
    }

    /// B4: never the first of two.
    #[test]
    fn a_host_is_said_once() {
        let refused = "host_missing: the request names no host, or more than one";
        assert_eq!(said("GET / HTTP/1.1\r\nX: a\r\n\r\n"), refused);
        assert_eq!(with("Host: a"), refused);
        assert_eq!(said("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n"), refused);
    }

    #[test]
    fn a_fault_in_a_field_is_said() {
        for (fields, what) in [
            ("Transfer-Encoding : chunked", "a blank before the colon"),
            ("X: a\r\n b", "a folded line, or a blank before a field's name"),
            ("X: a\nY: b", BARE_LINE_END),
        ] {
            assert_eq!(with(fields), format!("head_malformed: the request's head is malformed: {what}"), "{fields}");
        }
    }

    /// B14: no buffer of hyper's is what ends a large head.
    #[test]
    fn limits_are_the_last_that_fits() {
        let target = |length: usize| said(&format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(length - 1)));
        assert_eq!(target(20), "None");
        assert_eq!(target(21), "uri_too_long: the request target is longer than 20 bytes");
        assert_eq!(said("GET /abcdefghijklmnopqrst"), "uri_too_long: the request target is longer than 20 bytes");
        let fields = |count: usize| said(&format!("GET / HTTP/1.0\r\n{}\r\n", "a: b\r\n".repeat(count)));
        assert_eq!(fields(5), "None");
        assert_eq!(fields(6), "too_many_headers: there are more than 5 header fields");
        let head = |length: usize| said(&format!("GET / HTTP/1.0\r\na: {}\r\n\r\n", "b".repeat(length - 23)));
        assert_eq!(head(200), "None");
        assert_eq!(head(201), "head_too_large: the header fields are larger than 200 bytes");
        let endless = format!("GET / HTTP/1.0\r\na: {}", "b".repeat(181));
        assert_eq!(said(&endless), "incomplete");
        assert_eq!(said(&format!("{endless}b")), "head_too_large: the header fields are larger than 200 bytes");
    }

    /// Every beginning of a sound head is incomplete, and reading byte by byte comes to the same.
    #[test]
    fn a_head_may_come_in_any_pieces() {
        let head = b"\r\nPOST http://a/b?c HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nX:\r\n\r\n";
        let mut reader = HeadReader::default();
        for end in 0..head.len() {
            assert!(matches!(judge(&head[..end]), Judgement::Incomplete), "{end}");
            assert!(matches!(reader.judge(&head[..end], &LIMITS), Judgement::Incomplete), "{end}");
        }
        let Judgement::Sound { length, framing } = reader.judge(head, &LIMITS) else { panic!("refused") };
        assert_eq!((length, framing), (head.len(), Framing::Length(12)));
    }
}
