//! Lines and bytes of a message head (RFC 9112, sections 2 to 5), in their strict form: what is read here in one way
//! cannot be read in another.

use crate::rejection::Denial;

/// What stands at the beginning of some bytes, where a field line or the end of the fields is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// The line goes on after the last byte.
    Incomplete,
    /// The empty line.
    End,
    /// A field. `length` counts the whole line with its end; the value is without the blanks around it.
    Field { name: &'a [u8], value: &'a [u8], length: usize },
    /// No field line, and why.
    Fault(&'static str),
}

/// Reads one field line, of which the first `read` bytes were read before and found incomplete: a line that comes a byte
/// at a time is not read from its start for each of them.
///
/// Bytes from 0x80 are allowed in a value (`obs-text`): they have one meaning here and for hyper, and names in cookies
/// and user agents do hold them.
pub fn field_line(bytes: &[u8], read: usize) -> Line<'_> {
    match bytes {
        [] | [b'\r'] => return Line::Incomplete,
        [b'\r', b'\n', ..] => return Line::End,
        _ => {}
    }
    let (name, rest) = split_run(bytes, is_token);
    let rest = match (name, rest) {
        (_, [b'\n', ..]) | ([], [b'\r', ..]) => return Line::Fault(BARE_LINE_END),
        ([], [b':', ..]) => return Line::Fault("a field without a name"),
        ([], [b' ' | b'\t', ..]) => return Line::Fault("a folded line, or a blank before a field's name"),
        (_, [b' ' | b'\t', ..]) => return Line::Fault("a blank before the colon"),
        (_, [b'\r', ..]) => return Line::Fault("a line without a colon"),
        (name, _) if name.len() > LONGEST_NAME => return Line::Fault("a field's name of more than 256 bytes"),
        (_, [b':', rest @ ..]) => rest,
        (_, []) => return Line::Incomplete,
        (_, [_, ..]) => return Line::Fault("a byte that no field's name may hold"),
    };
    // The last byte may be the CR of the line's end.
    let known = read.saturating_sub(name.len() + 2).min(rest.len());
    let run = value_run(rest.get(known..).unwrap_or_default());
    let (value, rest) = rest.split_at_checked(known + run).unwrap_or((rest, &[]));
    match rest {
        [] | [b'\r'] => Line::Incomplete,
        [b'\r', b'\n', ..] => {
            let length = name.len() + 1 + value.len() + 2;
            Line::Field { name, value: trim_blanks(value), length }
        }
        [b'\r' | b'\n', ..] => Line::Fault(BARE_LINE_END),
        [_, ..] => Line::Fault("a control byte in a field's value"),
    }
}

/// The bytes up to the first that is not of the class, and the rest.
pub fn split_run(bytes: &[u8], class: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let length = bytes.iter().position(|byte| !class(*byte)).unwrap_or(bytes.len());
    bytes.split_at_checked(length).unwrap_or((bytes, &[]))
}

/// How many bytes a value takes up. Whole lanes first, which a processor judges at once: most of a head are values.
fn value_run(bytes: &[u8]) -> usize {
    let is_sound =
        |lane: &[u8]| lane.iter().fold(true, |sound, byte| sound & ((*byte >= b' ' && *byte != 0x7f) | (*byte == b'\t')));
    let lanes = bytes.chunks_exact(LANE).take_while(|lane| is_sound(lane)).count() * LANE;
    lanes + split_run(bytes.get(lanes..).unwrap_or_default(), is_value).0.len()
}

/// `tchar` (RFC 9110, section 5.6.2).
pub fn is_token(byte: u8) -> bool {
    has(byte, TOKEN)
}

/// What a field's value may hold: HTAB, blanks, visible ASCII and bytes from 0x80.
pub fn is_value(byte: u8) -> bool {
    has(byte, VALUE)
}

/// Visible ASCII.
pub fn is_visible(byte: u8) -> bool {
    has(byte, VISIBLE)
}

pub fn malformed(what: &'static str) -> Denial {
    Denial::HeadMalformed { what }
}

fn has(byte: u8, class: u8) -> bool {
    CLASSES.get(usize::from(byte)).is_some_and(|classes| classes & class != 0)
}

/// Without the optional white space around it (RFC 9110, section 5.6.3).
fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const VISIBLE: u8 = 4;

/// The classes of every byte. A table, because each byte of each head is looked up.
#[expect(clippy::indexing_slicing, reason = "computed by the compiler, which would refuse an index out of bounds")]
#[expect(clippy::cast_possible_truncation, reason = "the index is below 256")]
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        let token = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        let value = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        classes[at] =
            if token { TOKEN } else { 0 } | if value { VALUE } else { 0 } | if byte.is_ascii_graphic() { VISIBLE } else { 0 };
        at += 1;
    }
    classes
};

/// A line that ends in a lone LF, or a lone CR inside one.
pub const BARE_LINE_END: &str = "a line that does not end in CR LF";
const LANE: usize = 16;
/// Far below what the header map takes, and far above what anybody sends.
pub const LONGEST_NAME: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_at_the_first_byte_that_it_may_not_hold_wherever_that_stands() {
        for byte in 0..=255 {
            for at in 0..3 * LANE {
                let mut bytes = [b'v'; 3 * LANE];
                bytes[at] = byte;
                assert_eq!(value_run(&bytes), if is_value(byte) { bytes.len() } else { at }, "{byte} at {at}");
            }
        }
    }

    #[test]
    fn a_field_line_has_one_form() {
        let field = |name: &'static str, value: &'static str, length| Line::Field {
            name: name.as_bytes(),
            value: value.as_bytes(),
            length,
        };
        for (bytes, expected) in [
            (&b"a: b\r\n"[..], field("a", "b", 6)),
            (b"a:b\r\nc", field("a", "b", 5)),
            (b"A_-1: \t b c\t \r\n", field("A_-1", "b c", 15)),
            (b"a:\r\n", field("a", "", 4)),
            (b"a: \t \r\n", field("a", "", 7)),
            (b"\r\nx", Line::End),
            (b"", Line::Incomplete),
            (b"\r", Line::Incomplete),
            (b"a", Line::Incomplete),
            (b"a:", Line::Incomplete),
            (b"a: b\r", Line::Incomplete),
            (b"\n", Line::Fault(BARE_LINE_END)),
            (b"\ra", Line::Fault(BARE_LINE_END)),
            (b"a: b\n", Line::Fault(BARE_LINE_END)),
            (b"a: b\rc", Line::Fault(BARE_LINE_END)),
            (b"a\n", Line::Fault(BARE_LINE_END)),
            (b": x\r\n", Line::Fault("a field without a name")),
            (b" a: b\r\n", Line::Fault("a folded line, or a blank before a field's name")),
            (b"\ta", Line::Fault("a folded line, or a blank before a field's name")),
            (b"a : b\r\n", Line::Fault("a blank before the colon")),
            (b"a\t: b\r\n", Line::Fault("a blank before the colon")),
            (b"no colon\r\n", Line::Fault("a blank before the colon")),
            (b"colon\r\n", Line::Fault("a line without a colon")),
            (b"a\0: b\r\n", Line::Fault("a byte that no field's name may hold")),
            (b"\xe9: b\r\n", Line::Fault("a byte that no field's name may hold")),
            (b"a\"b: c\r\n", Line::Fault("a byte that no field's name may hold")),
            (b"a: b\0\r\n", Line::Fault("a control byte in a field's value")),
            (b"a: \x0bb\r\n", Line::Fault("a control byte in a field's value")),
            (b"a: b\x7f\r\n", Line::Fault("a control byte in a field's value")),
        ] {
            assert_eq!(field_line(bytes, 0), expected, "{}", bytes.escape_ascii());
            // What was incomplete before is read on, and comes to the same.
            for read in (0..bytes.len()).filter(|read| field_line(&bytes[..*read], 0) == Line::Incomplete) {
                assert_eq!(field_line(bytes, read), expected, "{read} of {}", bytes.escape_ascii());
            }
        }
        assert_eq!(field_line(b"a: \xe9\r\n", 0), Line::Field { name: b"a", value: b"\xe9", length: 6 });
        let long = [b"a".repeat(LONGEST_NAME), b": b\r\n".to_vec()].concat();
        assert_eq!(field_line(&long, 0), Line::Field { name: &long[..LONGEST_NAME], value: b"b", length: long.len() });
        let longer = [b"a", long.as_slice()].concat();
        assert_eq!(field_line(&longer, 0), Line::Fault("a field's name of more than 256 bytes"));
    }
}
