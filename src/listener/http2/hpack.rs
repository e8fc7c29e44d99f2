//! Looks through header blocks as they are on the wire (RFC 7541): how many fields they hold, and what h2 drops in silence.
//! Values are not kept; the table of a connection is followed as far as that needs.
//!
//! h2 cuts a fragment off `:path`, and passes over pseudo fields in trailers: what was judged would not be what was sent.

use std::collections::VecDeque;

/// What is known of the fields that a client has put into the table.
#[derive(Default)]
pub struct Table {
    /// Newest first.
    entries: VecDeque<Entry>,
    size: usize,
    most: Option<usize>,
}

#[derive(Clone, Copy)]
struct Entry {
    name: Name,
    name_length: usize,
    has_fragment: bool,
    size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Path,
    OtherPseudo,
    Regular,
}

/// What a header block holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub fields: usize,
    pub has_pseudo: bool,
    /// `:path` has a `#`.
    pub has_fragment: bool,
}

impl Table {
    /// Looks through one header block. `None` when it is none: h2 says so, and the connection ends.
    pub fn look_through(&mut self, block: &[u8]) -> Option<Found> {
        let mut found = Found::default();
        let mut rest = block;
        while let Some(first) = rest.first().copied() {
            let entry = match first {
                0x80.. => self.entry(integer(&mut rest, 7)?)?,
                0x40..0x80 => {
                    let entry = self.literal(&mut rest, 6)?;
                    self.insert(entry);
                    entry
                }
                0x20..0x40 => {
                    self.most = Some(integer(&mut rest, 5)?.min(TABLE_BYTES));
                    self.evict(0);
                    continue;
                }
                _ => self.literal(&mut rest, 4)?,
            };
            found.fields += 1;
            found.has_pseudo |= entry.name != Name::Regular;
            found.has_fragment |= entry.name == Name::Path && entry.has_fragment;
        }
        Some(found)
    }

    fn literal(&self, rest: &mut &[u8], prefix: u8) -> Option<Entry> {
        let (name, name_length) = match integer(rest, prefix)? {
            0 => {
                let text = Text::read(rest)?;
                (text.name(), text.length)
            }
            index => self.entry(index).map(|entry| (entry.name, entry.name_length))?,
        };
        let value = Text::read(rest)?;
        let size = name_length.saturating_add(value.length).saturating_add(OVERHEAD);
        Some(Entry { name, name_length, has_fragment: value.has_hash, size })
    }

    fn entry(&self, index: usize) -> Option<Entry> {
        let (name, name_length) = match index {
            0 => return None,
            4 | 5 => (Name::Path, 5),
            1..=14 => (Name::OtherPseudo, pseudo_length(index)),
            15..=STATIC => (Name::Regular, usize::from(*LENGTHS.get(index - 15)?)),
            _ => return self.entries.get(index - STATIC - 1).copied(),
        };
        Some(Entry { name, name_length, has_fragment: false, size: 0 })
    }

    fn insert(&mut self, entry: Entry) {
        self.evict(entry.size);
        // What is larger than the table empties it (section 4.4).
        if entry.size <= self.most.unwrap_or(TABLE_BYTES) {
            self.size += entry.size;
            self.entries.push_front(entry);
        }
    }

    /// Makes room.
    fn evict(&mut self, room: usize) {
        let most = self.most.unwrap_or(TABLE_BYTES);
        while self.size.saturating_add(room) > most
            && let Some(entry) = self.entries.pop_back()
        {
            self.size -= entry.size;
        }
    }
}

/// What is to be known of a string.
#[derive(Default)]
struct Text {
    length: usize,
    start: [u8; 5],
    has_hash: bool,
}

impl Text {
    fn read(rest: &mut &[u8]) -> Option<Self> {
        let is_huffman = rest.first()? & 0x80 != 0;
        let length = integer(rest, 7)?;
        let (bytes, after) = rest.split_at_checked(length)?;
        *rest = after;
        let mut text = Self::default();
        match is_huffman {
            true => huffman(bytes, |byte| text.push(byte)),
            false => bytes.iter().for_each(|byte| text.push(*byte)),
        }
        Some(text)
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.start.get_mut(self.length) {
            *place = byte;
        }
        self.length += 1;
        self.has_hash |= byte == b'#';
    }

    fn name(&self) -> Name {
        match (self.length, &self.start) {
            (5, b":path") => Name::Path,
            (1.., [b':', ..]) => Name::OtherPseudo,
            _ => Name::Regular,
        }
    }
}

/// Section 5.1, with a prefix of so many bits.
fn integer(rest: &mut &[u8], prefix: u8) -> Option<usize> {
    let (first, mut after) = rest.split_first()?;
    let most = (1_usize << prefix) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        for shift in (0..MOST_BITS).step_by(7) {
            let (byte, more) = after.split_first()?;
            after = more;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *rest = after;
                return Some(value);
            }
        }
        return None;
    }
    *rest = after;
    Some(value)
}

/// Section 5.2. The code is canonical: codes of one length follow each other in the order of the bytes, and those of the
/// next length come after them.
fn huffman(bytes: &[u8], mut tell: impl FnMut(u8)) {
    let (mut code, mut length) = (0_u32, 0_usize);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| u32::from(byte >> at & 1))) {
        code = code << 1 | bit;
        length += 1;
        let Some(first) = CODES.first.get(length).copied() else { return };
        let Some(offset) = code.checked_sub(first).and_then(|offset| usize::try_from(offset).ok()) else { continue };
        let Some((start, count)) = CODES.bytes.get(length).copied() else { return };
        if offset < count {
            tell(CODES.order.get(start + offset).copied().unwrap_or_default());
            (code, length) = (0, 0);
        }
    }
}

struct Codes {
    /// By length: its first code, then where its bytes begin in the order and how many they are.
    first: [u32; LONGEST + 1],
    bytes: [(usize, usize); LONGEST + 1],
    order: [u8; 256],
}

#[expect(clippy::indexing_slicing, reason = "the compiler runs it, and would stop")]
#[expect(clippy::cast_possible_truncation, reason = "a byte's value counts up to 255")]
const fn codes() -> Codes {
    let mut codes = Codes { first: [0; LONGEST + 1], bytes: [(0, 0); LONGEST + 1], order: [0; 256] };
    let (mut length, mut code, mut placed) = (1, 0_u32, 0);
    while length <= LONGEST {
        code <<= 1;
        codes.first[length] = code;
        let (mut byte, mut count) = (0, 0);
        while byte < 256 {
            if (BITS[byte] - b'A') as usize + SHORTEST == length {
                codes.order[placed + count] = byte as u8;
                count += 1;
            }
            byte += 1;
        }
        codes.bytes[length] = (placed, count);
        placed += count;
        code += count as u32;
        length += 1;
    }
    codes
}

/// Of the names in the static table that are pseudo fields, but `:path`.
const fn pseudo_length(index: usize) -> usize {
    match index {
        1 => ":authority".len(),
        _ => ":method".len(),
    }
}

static CODES: Codes = codes();

/// RFC 7541, appendix B: how long the code of each byte is; `A` is five bits.
const BITS: &[u8; 256] = b"ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCCCCCCCCCCCCCCCDCDIOIJBK\
ABABABBBACCBBBABCBAABCCCCCKGJIXPRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRTQRSSQQRQSRSSPRRRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWP\
TPQRQQSRRUUTTVSVWVVWWWWWXWWWWWV";
const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// The size of our table, which nobody may make larger.
const TABLE_BYTES: usize = 4096;
/// What a field counts beside its text (section 4.1).
const OVERHEAD: usize = 32;
/// Entries of the static table.
const STATIC: usize = 61;
/// How long the names of its entries from the 15th on are (appendix A).
const LENGTHS: [u8; 47] = [
    14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19,
    5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
];
/// More than any length that a block can hold.
const MOST_BITS: usize = 28;

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(name: &str, value: &str, first: u8) -> Vec<u8> {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        [&[first, length(name)][..], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    }

    fn unpacked(hex: &str) -> String {
        let digits: Vec<u8> = hex.chars().map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap()).collect();
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        let mut text = Vec::new();
        huffman(&bytes, |byte| text.push(byte));
        String::from_utf8(text).unwrap()
    }

    /// RFC 7541, appendices C.4 and C.6.
    #[test]
    fn huffman_codes_are_read() {
        for (hex, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            (
                "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
        ] {
            assert_eq!(unpacked(hex), text);
        }
    }

    #[test]
    fn a_fragment_is_found_however_the_path_is_said() {
        let mut table = Table::default();
        let mut has_fragment = |block: &[u8]| table.look_through(block).unwrap().has_fragment;
        assert!(!has_fragment(&[0x82, 0x84, 0x86]));
        assert!(has_fragment(&plain(":path", "/a#b", 0)));
        assert!(!has_fragment(&plain("x-path", "/a#b", 0)));
        assert!(has_fragment(&[0x04, 4, b'/', b'a', b'#', b'b']));
        // `/a#b` by Huffman's code: 011000 00011 111111111010 100011 and ones.
        assert!(has_fragment(&[0x04, 0x84, 0x60, 0x7f, 0xf5, 0x1f]));
        // In the table, and from it; then only its name.
        assert!(has_fragment(&plain(":path", "/#", 0x40)));
        assert!(has_fragment(&[0x82, 0xbe]));
        assert!(!has_fragment(&[0x7e, 1, b'/']));
        assert!(has_fragment(&[0x7e, 1, b'#']));
        assert!(!has_fragment(&[0xbf]));
    }

    #[test]
    fn the_table_forgets_as_that_of_h2_does() {
        let mut table = Table::default();
        table.look_through(&plain(":path", "/#", 0x40)).unwrap();
        for _ in 0..40 {
            table.look_through(&plain("x", &"v".repeat(100), 0x40)).unwrap();
        }
        // 4,096 less the 30 that fit of 133 bytes each.
        assert_eq!((table.entries.len(), table.size), (30, 3990));
        assert!(table.look_through(&[0x80 | 127, 0]).is_none());
        table.look_through(&[0x3f, 0x45]).unwrap();
        assert_eq!((table.entries.len(), table.size), (0, 0));
        table.look_through(&plain("x", "v", 0x40)).unwrap();
        assert_eq!(table.size, 34);
    }

    #[test]
    fn fields_are_counted_and_pseudo_fields_told() {
        let found = |block: &[u8]| Table::default().look_through(block);
        let all = [&plain("a", "b", 0)[..], &plain("a", "b", 0x40), &[0xbe; 50]].concat();
        assert_eq!(found(&all), Some(Found { fields: 52, has_pseudo: false, has_fragment: false }));
        assert!(found(&plain(":status", "200", 0)).unwrap().has_pseudo);
        assert!(found(&[0x88]).unwrap().has_pseudo);
        assert_eq!(found(&[0x80]), None);
        assert_eq!(found(&[0x40, 5, b'x']), None);
        assert_eq!(found(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]), None);
    }
}
