//! The one path normaliser. Its output is matched, logged, limited and forwarded; a path that two programs could read
//! in two ways is refused, because the second program might read it as a path that needs a credential.
//!
//! Refused: anything but an absolute path; `.` and `..` segments, empty segments, `;` parameters, backslashes, control
//! bytes and non-ASCII bytes; encoded `/`, `\`, `;`, control bytes, dot segments and invalid UTF-8; a percent sign that
//! would decode to another escape. Decoded: letters, digits, `-`, `_` and `~` (RFC 3986, section 6.2.2.2). Everything
//! else stays as it came.

use std::borrow::Cow;
use std::fmt;

use crate::rejection::Denial;

/// A path in its only form. Starts with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath(String);

impl NormalPath {
    /// Normalises the path of a request target (without its query).
    ///
    /// # Errors
    /// [`Denial::PathAmbiguous`], naming what is ambiguous.
    pub fn parse(raw: &str) -> Result<Self, Denial> {
        if is_plain(raw) { Ok(Self(raw.to_owned())) } else { Self::parse_any(raw) }
    }

    fn parse_any(raw: &str) -> Result<Self, Denial> {
        let Some(rest) = raw.strip_prefix('/') else { return Err(ambiguous("it does not start with a slash")) };
        let mut out = String::with_capacity(raw.len());
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            out.push('/');
            let start = out.len();
            normalise_segment(segment, &mut out)?;
            let normal = out.get(start..).unwrap_or_default();
            // Judged in the normal form: of `%25%32%65` the second and third escape are decoded, and `%252e` is left.
            if normal.split("%25").skip(1).any(begins_with_hex_pair) {
                return Err(ambiguous("a double encoding"));
            }
            let dots = normal.replace("%2e", ".").replace("%2E", ".");
            if dots == "." || dots == ".." {
                return Err(ambiguous("a dot segment"));
            }
            if normal.is_empty() && segments.peek().is_some() {
                return Err(ambiguous("an empty segment"));
            }
        }
        Ok(Self(out))
    }

    /// The path as a server reads it that tells no capitals apart.
    ///
    /// # Errors
    /// As [`NormalPath::parse`]: the letters of an escape are letters too.
    pub fn in_small_letters(&self) -> Result<Cow<'_, Self>, Denial> {
        match self.0.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Self::parse(&self.0.to_ascii_lowercase()).map(Cow::Owned),
            false => Ok(Cow::Borrowed(self)),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn into_string(self) -> String {
        self.0
    }

    /// What follows a prefix of whole segments, with its slash. `None` where the path does not begin with it.
    pub fn without(&self, prefix: &str) -> Option<&str> {
        match self.0.strip_prefix(prefix)? {
            "" => Some("/"),
            rest if rest.starts_with('/') => Some(rest),
            _ => None,
        }
    }

    /// The segments between slashes; a trailing slash makes a last, empty one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        let rest = self.0.strip_prefix('/').unwrap_or_default();
        // `/` itself has no segment at all.
        (!rest.is_empty()).then(|| rest.split('/')).into_iter().flatten()
    }
}

impl fmt::Display for NormalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether the path is its own normal form at first sight, as nearly all are. Says no where it would have to look twice.
fn is_plain(raw: &str) -> bool {
    let mut begins = false;
    let is_plain = |byte: u8| {
        let at_start = std::mem::replace(&mut begins, byte == b'/');
        match byte {
            // An empty segment, or one that may be of dots.
            b'/' | b'.' => !at_start,
            _ => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b':' | b'@' | b',' | b'=' | b'+' | b'*'),
        }
    };
    raw.starts_with('/') && raw.bytes().all(is_plain)
}

fn normalise_segment(segment: &str, out: &mut String) -> Result<(), Denial> {
    let mut bytes = segment.bytes();
    let mut decoded = Vec::with_capacity(segment.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let escape = (bytes.next(), bytes.next());
                let value = hex_pair(escape).ok_or_else(|| ambiguous("a percent sign without two hexadecimal digits"))?;
                check_escaped(value)?;
                decoded.push(value);
                push_escape(value, escape, out);
            }
            b'\\' => return Err(ambiguous("a backslash")),
            b';' => return Err(ambiguous("a semicolon")),
            b'?' => return Err(ambiguous("a query")),
            b'#' => return Err(ambiguous("a fragment")),
            0..=0x20 | 0x7f..=0xff => return Err(ambiguous("a control, blank or non-ASCII byte")),
            b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => return Err(ambiguous("a byte that a URL may not hold")),
            plain => {
                decoded.push(plain);
                out.push(char::from(plain));
            }
        }
    }
    match std::str::from_utf8(&decoded) {
        Ok(_) => Ok(()),
        Err(_) => Err(ambiguous("an escape that is no UTF-8")),
    }
}

fn check_escaped(value: u8) -> Result<(), Denial> {
    match value {
        b'/' => Err(ambiguous("an encoded slash")),
        b'\\' => Err(ambiguous("an encoded backslash")),
        b';' => Err(ambiguous("an encoded semicolon")),
        0..=0x1f | 0x7f => Err(ambiguous("an encoded control byte")),
        _ => Ok(()),
    }
}

/// Unreserved characters are decoded, except the dot: `%2e` stays, so that only the dot-segment rule has to know it.
fn push_escape(value: u8, (high, low): (Option<u8>, Option<u8>), out: &mut String) {
    if value.is_ascii_alphanumeric() || matches!(value, b'-' | b'_' | b'~') {
        out.push(char::from(value));
        return;
    }
    out.push('%');
    out.extend([high, low].into_iter().flatten().map(char::from));
}

fn begins_with_hex_pair(text: &str) -> bool {
    let mut bytes = text.bytes();
    hex_pair((bytes.next(), bytes.next())).is_some()
}

fn hex_pair((high, low): (Option<u8>, Option<u8>)) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

fn ambiguous(what: &'static str) -> Denial {
    Denial::PathAmbiguous { what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// There is one normal form, however it was found.
        #[test]
        fn what_is_plain_at_first_sight_is_plain(raw in "[/a-zA-Z0-9.%;:@,=+*_~!$&'()\\[\\]{}\\\\ \"-]{0,12}") {
            if is_plain(&raw) {
                prop_assert_eq!(NormalPath::parse_any(&raw).map(|path| path.0).ok(), Some(raw));
            }
        }
    }

    #[test]
    fn ordinary_paths_are_plain_at_first_sight() {
        let plain: Vec<_> =
            ["/", "/api/v1/items", "/a/b.c/", "//", "/.well-known", "/a/..", "/a%2fb", "a", ""].map(is_plain).into();
        assert_eq!(plain, [true, true, true, false, false, false, false, false, false]);
    }

    fn parse(raw: &str) -> Result<String, &'static str> {
        match NormalPath::parse(raw) {
            Ok(path) => Ok(path.0),
            Err(Denial::PathAmbiguous { what }) => Err(what),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn plain_paths_stay_as_they_are() {
        for path in
            ["/", "/a", "/a/", "/a/b.c", "/admin.", "/admin%2e", "/admin%20", "/admin%23x", "/100%25", "/~a-b_c", "/a:b@c,d=e"]
        {
            assert_eq!(parse(path).as_deref(), Ok(path));
        }
    }

    #[test]
    fn escaped_unreserved_characters_are_decoded() {
        assert_eq!(parse("/ad%6din/%7Ex").as_deref(), Ok("/admin/~x"));
    }

    /// A1 A2 A4 A6 A9 of the security cases, at the level of the function.
    #[test]
    fn paths_that_two_programs_read_differently_are_refused() {
        for (path, what) in [
            ("/public/../admin", "a dot segment"),
            ("/public/%2e%2E/admin", "a dot segment"),
            ("/public/.%2e", "a dot segment"),
            ("/./admin", "a dot segment"),
            ("/public/..%2fadmin", "an encoded slash"),
            ("/public/%5Cadmin", "an encoded backslash"),
            ("/public/%252e%252e/admin", "a double encoding"),
            ("/public/%255c", "a double encoding"),
            ("/public/%25%32%65%25%32e/admin", "a double encoding"),
            ("/public/%25%35c", "a double encoding"),
            ("/public\\admin", "a backslash"),
            ("/public/..;/admin", "a semicolon"),
            ("/admin%3bx", "an encoded semicolon"),
            ("//admin", "an empty segment"),
            ("/public//admin", "an empty segment"),
            ("/admin?x", "a query"),
            ("/admin#x", "a fragment"),
            ("/admin%00", "an encoded control byte"),
            ("/admin%7f", "an encoded control byte"),
            ("/admin%", "a percent sign without two hexadecimal digits"),
            ("/admin%zz", "a percent sign without two hexadecimal digits"),
            ("/%c0%ae", "an escape that is no UTF-8"),
            ("/\u{e9}", "a control, blank or non-ASCII byte"),
            ("admin", "it does not start with a slash"),
            ("*", "it does not start with a slash"),
            ("", "it does not start with a slash"),
        ] {
            assert_eq!(parse(path), Err(what), "{path}");
        }
    }

    #[test]
    fn the_root_has_no_segment_and_a_trailing_slash_an_empty_one() {
        let segments = |path: &str| NormalPath::parse(path).unwrap().segments().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(segments("/"), Vec::<String>::new());
        assert_eq!(segments("/a/"), ["a", ""]);
    }
}
