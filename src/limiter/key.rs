//! The name of a counter, made of what the client sent, at a fixed length.

use std::sync::LazyLock;

use aws_lc_rs::hmac;

use crate::random;

/// 128 bits of HMAC-SHA-256 over the bucket and the parts, under a key that lives as long as the process: nobody outside
/// can make two callers meet in one cell, whatever bytes they send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CellKey(u128);

impl CellKey {
    /// The cell of these parts in this bucket. Every part goes in behind its length, so `ab`, `c` is not `a`, `bc`.
    pub fn new(bucket: &str, parts: &[&[u8]]) -> Self {
        Self::hash(&[b"cell", bucket.as_bytes()], parts)
    }

    /// The cell that callers share when no further one may be made. No parts lead here.
    pub(super) fn shared(bucket: &str) -> Self {
        Self::hash(&[b"shared", bucket.as_bytes()], &[])
    }

    pub(super) fn bits(self) -> u128 {
        self.0
    }

    fn hash(domain: &[&[u8]], parts: &[&[u8]]) -> Self {
        static KEY: LazyLock<hmac::Key> = LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>()));
        let mut context = hmac::Context::with_key(&KEY);
        for part in domain.iter().chain(parts) {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        let bits = tag.as_ref().first_chunk::<16>().copied().unwrap_or_default();
        Self(u128::from_be_bytes(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_parts_name_one_cell() {
        assert_eq!(CellKey::new("login", &[b"10.0.0.1", b"bob"]), CellKey::new("login", &[b"10.0.0.1", b"bob"]));
    }

    #[test]
    fn no_shift_of_bytes_between_parts_names_the_same_cell() {
        let keys = [
            CellKey::new("b", &[b"ab", b"c"]),
            CellKey::new("b", &[b"a", b"bc"]),
            CellKey::new("b", &[b"abc"]),
            CellKey::new("b", &[b"abc", b""]),
            CellKey::new("b", &[b"", b"abc"]),
            CellKey::new("ba", &[b"b", b"c"]),
            CellKey::new("b", &[b"ab\0c"]),
            CellKey::new("b", &[]),
            CellKey::shared("b"),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(index + 1).all(|other| other != key), "{index}");
        }
    }
}
