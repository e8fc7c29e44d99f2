//! Values that must never reach a log, an error or an answer by accident.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroize;

/// A secret text: passwords, keys, tokens. `Debug` is redacted, there is no `Display`, no `Serialize` and no
/// `PartialEq`; the memory is overwritten when it is dropped. `expose` marks each place that needs the text.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// SHA-256 of a secret of at least 128 random bits: what is kept of a key or a refresh token. Plain SHA-256 is right
/// for such secrets (OWASP ASVS 5.0, 6.5.2); passwords go through `password/`.
#[derive(Clone, Copy, Eq, PartialEq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(secret: &str) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
        Self(out)
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether the two are one, compared in constant time over the full length.
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for Digest {
    /// Eight hexadecimal digits: enough to tell two secrets apart in a log, not enough to find one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_no_secret() {
        let shown = format!("{:?} {:?}", Secret::new("hunter2"), Digest::of("hunter2"));
        assert_eq!(shown, "Secret(…) sha256:f52fbd32");
    }

    /// H3: all of it counts, to the last bit; benches/key_timing.rs measures that the time tells nothing.
    #[test]
    fn a_digest_matches_its_own_text_only() {
        let digest = Digest::of("0123456789abcdef");
        assert!(digest.is(&Digest::of("0123456789abcdef")));
        for bit in 0..256 {
            let mut near = *digest.as_bytes();
            near[bit / 8] ^= 1 << (bit % 8);
            assert!(!Digest::from_bytes(near).is(&digest), "{bit}");
        }
        for other in ["0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", ""] {
            assert!(!digest.is(&Digest::of(other)), "{other}");
        }
    }
}
