//! The name of a counter, made of what the client sent, at a fixed length.

use std::hash::{BuildHasher, RandomState};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::limiter::Rule;

/// 128 bits over the rule's bucket, algorithm and window, and over the parts. In a store that nodes share they are of SHA-256,
/// the same on every node: to make two callers meet in one cell takes 2^64 hashes, to meet a caller that is given takes 2^128.
/// A counter of one process has them of a keyed hash, which is faster and which nobody outside can compute at all.
///
/// A counter belongs to its bucket, the algorithm and the window. Two rules of one bucket that differ in one of these would
/// read each other's numbers wrongly, and a caller could reset the slow rule through the fast one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CellKey(u128);

impl CellKey {
    /// The cell of these parts. Every part goes in behind its length, so `ab`, `c` is not `a`, `bc`.
    pub fn new(rule: &Rule, parts: &[&[u8]]) -> Self {
        Self::hash("gateward cell 1", rule, parts)
    }

    /// The cell that callers share when no further one may be made. No parts lead here.
    pub(super) fn shared(rule: &Rule) -> Self {
        Self::hash("gateward shared cell 1", rule, &[])
    }

    pub(super) fn bits(self) -> u128 {
        self.0
    }

    /// What the counter is called in a shared store: 25 characters, whatever the client sent.
    pub(super) fn name(self) -> String {
        format!("gw:{}", URL_SAFE_NO_PAD.encode(self.0.to_be_bytes()))
    }

    fn hash(domain: &str, rule: &Rule, parts: &[&[u8]]) -> Self {
        let digest = digest::digest(&digest::SHA256, &text(domain, rule, parts));
        let bits = digest.as_ref().first_chunk::<16>().copied().unwrap_or_default();
        Self(u128::from_be_bytes(bits))
    }
}

/// Names the cells of one process: 64 bits under each of two random keys.
#[derive(Default)]
pub(super) struct Naming([RandomState; 2]);

impl Naming {
    pub fn key(&self, rule: &Rule, parts: &[&[u8]]) -> CellKey {
        let text = text("gateward cell 1", rule, parts);
        let [high, low] = self.0.each_ref().map(|keyed| u128::from(keyed.hash_one(&*text)));
        CellKey(high << 64 | low)
    }
}

/// What is hashed: every part behind its length.
fn text(domain: &str, rule: &Rule, parts: &[&[u8]]) -> Vec<u8> {
    let window = rule.quota.window.as_micros().to_be_bytes();
    let domain = [domain.as_bytes(), rule.bucket.as_bytes(), rule.algorithm.as_str().as_bytes(), &window];
    let mut text = Vec::with_capacity(ROOM);
    for part in domain.iter().chain(parts) {
        text.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        text.extend_from_slice(part);
    }
    text
}

/// For an ordinary name.
const ROOM: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Algorithm;
    use crate::config::value::Quota;
    use std::time::Duration;

    fn rule(bucket: &str, algorithm: Algorithm, seconds: u64) -> Rule {
        let quota = Quota { count: 1, window: Duration::from_secs(seconds) };
        Rule { bucket: bucket.into(), quota, burst: 1, algorithm }
    }

    #[test]
    fn equal_parts_name_one_cell_whatever_the_number_is() {
        let login = rule("login", Algorithm::Gcra, 60);
        let more = Rule { quota: Quota { count: 7, ..login.quota }, burst: 9, ..login.clone() };
        assert_eq!(CellKey::new(&login, &[b"10.0.0.1", b"bob"]), CellKey::new(&more, &[b"10.0.0.1", b"bob"]));
    }

    #[test]
    fn no_shift_of_bytes_between_parts_names_the_same_cell() {
        let b = rule("b", Algorithm::Gcra, 60);
        let keys = [
            CellKey::new(&b, &[b"ab", b"c"]),
            CellKey::new(&b, &[b"a", b"bc"]),
            CellKey::new(&b, &[b"abc"]),
            CellKey::new(&b, &[b"abc", b""]),
            CellKey::new(&b, &[b"", b"abc"]),
            CellKey::new(&rule("ba", Algorithm::Gcra, 60), &[b"b", b"c"]),
            CellKey::new(&b, &[b"ab\0c"]),
            CellKey::new(&b, &[]),
            CellKey::shared(&b),
            CellKey::new(&rule("b", Algorithm::Gcra, 61), &[]),
            CellKey::new(&rule("b", Algorithm::FixedWindow, 60), &[]),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(index + 1).all(|other| other != key), "{index}");
        }
    }

    /// What one process calls a cell is its own secret, and the same as long as the process runs.
    #[test]
    fn another_process_names_its_cells_otherwise() {
        let rule = rule("b", Algorithm::Gcra, 60);
        let (here, there) = (Naming::default(), Naming::default());
        let key = here.key(&rule, &[b"bob"]);
        assert_eq!(key, here.key(&rule, &[b"bob"]));
        assert_ne!(key, here.key(&rule, &[b"bo", b"b"]));
        assert_ne!(key, there.key(&rule, &[b"bob"]));
        assert_ne!(key, CellKey::new(&rule, &[b"bob"]));
        assert_ne!(key.bits() >> 64, key.bits() & u128::from(u64::MAX), "the two halves have keys of their own");
    }

    /// M11: whatever a client sends, the name in the shared store is of one length and one alphabet: no `{}`, which choose
    /// the node of a cluster, no line end, no colon of its own. The value is what every node and every release computes.
    #[test]
    fn names_have_one_form() {
        let rule = rule("api/per-key", Algorithm::Gcra, 60);
        let long = vec![b'x'; 10_240];
        let hostile: [&[u8]; 6] = [b"a\r\nFLUSHALL\r\n", b"gw:a:b", b"{tag}", &long, b"", b"\xff\0"];
        for part in hostile {
            let name = CellKey::new(&rule, &[part]).name();
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            assert!(name.len() == 25 && name.strip_prefix("gw:").unwrap().bytes().all(plain), "{name}");
        }
        assert_eq!(CellKey::new(&rule, &[b"bob"]).name(), "gw:dyc2Q8dQJASm_aR1ktE89g");
    }
}
