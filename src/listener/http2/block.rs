//! A header block on its way from several frames to h2.

use crate::listener::http2::frames::{CONTINUATION, END_HEADERS, HEAD, HEADERS, LARGEST};

/// A header block that is held back until all of it is there.
#[derive(Default)]
pub struct Block {
    pub frames: Vec<u8>,
    /// Where the payload of its last frame begins.
    pub payload: usize,
    pub fragments: Vec<u8>,
    /// Frames.
    pub count: usize,
    /// Of its first frame.
    pub flags: u8,
    pub stream: u32,
}

impl Block {
    /// The same block as one that h2 takes for malformed, so that it resets the stream and its table stays right: a method
    /// stands there once more, after everything else, and again.
    pub fn malformed(self) -> Vec<u8> {
        let mut block = self.fragments;
        block.extend_from_slice(&[METHOD_GET, METHOD_GET]);
        let mut frames = Vec::with_capacity(block.len() + HEAD);
        let mut pieces = block.chunks(LARGEST).peekable();
        let mut kind = HEADERS;
        while let Some(piece) = pieces.next() {
            let end = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            let first = if kind == HEADERS { self.flags & END_STREAM } else { 0 };
            let [.., a, b, c] = piece.len().to_be_bytes();
            frames.extend_from_slice(&[a, b, c, kind, end | first]);
            frames.extend_from_slice(&self.stream.to_be_bytes());
            frames.extend_from_slice(piece);
            kind = CONTINUATION;
        }
        frames
    }
}

/// The fragment that the payload of a HEADERS frame holds (RFC 9113, section 6.2). Padding that is too long is left, for
/// h2 to refuse.
pub fn without_padding(payload: &[u8], flags: u8) -> &[u8] {
    let (padding, rest) = match payload.split_first() {
        Some((padding, rest)) if flags & PADDED != 0 => (usize::from(*padding), rest),
        _ => (0, payload),
    };
    let rest = if flags & PRIORITY_THERE != 0 { rest.get(5..).unwrap_or_default() } else { rest };
    rest.get(..rest.len().saturating_sub(padding)).unwrap_or_default()
}

/// `:method: GET`, from the static table (RFC 7541, section 6.1).
const METHOD_GET: u8 = 0x82;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;
const PRIORITY_THERE: u8 = 0x20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_block_is_the_same_and_two_methods() {
        let fragments = vec![7; LARGEST + 5];
        let block = Block { fragments: fragments.clone(), flags: END_STREAM | PADDED, stream: 3, ..Block::default() };
        let frames = block.malformed();
        let (first, second) = frames.split_at(HEAD + LARGEST);
        assert_eq!(first[..HEAD], [0, 0x40, 0, HEADERS, END_STREAM, 0, 0, 0, 3]);
        assert_eq!(second[..HEAD], [0, 0, 7, CONTINUATION, END_HEADERS, 0, 0, 0, 3]);
        assert_eq!([&first[HEAD..], &second[HEAD..]].concat(), [&fragments[..], &[0x82, 0x82]].concat());
        assert_eq!(without_padding(&[2, 0, 0, 0, 0, 9, 1, 2, 3, 0, 0], PADDED | PRIORITY_THERE), [1, 2, 3]);
        assert_eq!(without_padding(&[1, 2, 3], 0), [1, 2, 3]);
        assert_eq!(without_padding(&[9, 2, 3], PADDED), [0; 0]);
    }
}
