//! The only source of randomness: the operating system's, through aws-lc.
//!
//! Secrets take [`bytes`] and [`token`]; request ids take [`request_id`], which spends one system draw on many ids.

use std::cell::RefCell;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// `N` random bytes.
///
/// # Panics
/// When the operating system has no randomness to give: nothing that this program does is safe then.
#[expect(clippy::expect_used, reason = "without randomness no secret may be made; stopping is the safe answer")]
#[expect(clippy::disallowed_methods, reason = "this is the one place that draws random bytes")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    SystemRandom::new().fill(&mut out).expect("the operating system gives random bytes");
    out
}

/// 256 random bits as 43 characters of base64url.
pub fn token() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<32>())
}

/// `length` characters of `a-z0-9`, each 5.17 bits. For ids that people read, never for secrets shorter than 26.
pub fn word(length: usize) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut out = String::with_capacity(length);
    while out.len() < length {
        for byte in bytes::<32>() {
            // 252 is the largest multiple of 36 below 256: bytes above it would favour the first letters.
            if byte < 252 && out.len() < length {
                out.push(char::from(ALPHABET.get(usize::from(byte % 36)).copied().unwrap_or(b'a')));
            }
        }
    }
    out
}

/// A version 4 UUID (RFC 9562, section 5.4).
pub fn uuid() -> String {
    let mut raw = u128::from_be_bytes(bytes::<16>());
    raw = (raw & !(0xf << 76)) | (0x4 << 76);
    raw = (raw & !(0x3 << 62)) | (0x2 << 62);
    let hex = format!("{raw:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// 32 hexadecimal digits, unique and unguessable enough to name a request; also a valid trace id (W3C Trace Context).
pub fn request_id() -> String {
    const IDS_PER_DRAW: usize = 32;
    thread_local! {
        static POOL: RefCell<(usize, [u8; 16 * IDS_PER_DRAW])> = const { RefCell::new((IDS_PER_DRAW, [0; 16 * IDS_PER_DRAW])) };
    }
    POOL.with_borrow_mut(|(used, pool)| {
        if *used == IDS_PER_DRAW {
            *pool = bytes();
            *used = 0;
        }
        let start = *used * 16;
        *used += 1;
        let mut raw = [0; 16];
        raw.copy_from_slice(pool.get(start..start + 16).unwrap_or(&[0; 16]));
        let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' - 10 + value };
        let mut digits = [0; 32];
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(raw) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        // Digits are text.
        String::from_utf8(digits.to_vec()).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn request_ids_do_not_repeat_across_draws() {
        let seen: HashSet<String> = (0..1000).map(|_| request_id()).collect();
        assert_eq!(seen.len(), 1000);
        let digits: HashSet<char> = seen.iter().flat_map(|id| id.chars()).collect();
        assert_eq!(digits, "0123456789abcdef".chars().collect());
        assert!(seen.iter().all(|id| id.len() == 32));
    }

    #[test]
    fn uuids_carry_version_and_variant() {
        let id = uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }

    #[test]
    fn words_have_the_length_asked_for_and_only_their_alphabet() {
        assert_eq!(word(10).len(), 10);
        assert!(word(200).bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    }
}
