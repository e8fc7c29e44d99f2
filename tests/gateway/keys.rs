//! API keys that are almost right, and credentials that are none.

use serde_json::Value;

use crate::support::{Gateway, Upstream, until};

const NODES: &str = "/api/v1/tenants/prod/nodes";
const REFUSED: &str = r#"{"error":{"code":"UNAUTHORIZED","message":"Invalid or expired token"}}"#;

struct Stage {
    upstream: Upstream,
    gateway: Gateway,
    key: String,
    other: String,
}

impl Stage {
    fn new() -> Self {
        let upstream = Upstream::start();
        let gateway = Gateway::infracast(&upstream.url());
        gateway.add_user("ann", "correct horse", &["prod=viewer"]);
        let key = || {
            let made: Value = serde_json::from_str(&gateway.cli_ok(&["key", "create", "--owner", "ann", "--json"], "")).unwrap();
            made["key"].as_str().unwrap().to_owned()
        };
        let (key, other) = (key(), key());
        for key in [&key, &other] {
            until("the key to be followed", || {
                (gateway.get(NODES, &[&format!("Authorization: Bearer {key}")]).status == 200).then_some(())
            });
        }
        upstream.forget();
        Self { upstream, gateway, key, other }
    }

    fn refused(&self, key: &str, reason: &str) {
        let answer = self.gateway.get(NODES, &[&format!("Authorization: Bearer {key}")]);
        assert_eq!((answer.status, answer.body.as_str()), (401, REFUSED), "{reason}");
        assert_eq!(self.gateway.why(&answer), format!("refused authenticate {reason}"), "{key}");
        assert_eq!(self.upstream.count(), 0, "{reason}");
    }
}

/// The checksum as the format says, written a second time: CRC-32 in six digits of base 62.
fn sealed(body: &str) -> String {
    let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut sum = [0; 6];
    for digit in sum.iter_mut().rev() {
        *digit = digits[rest as usize % 62];
        rest /= 62;
    }
    format!("{body}_{}", String::from_utf8_lossy(&sum))
}

/// H1 H3: a key that differs in its secret anywhere, checksum and all, is no key: the whole digest is compared.
#[test]
fn a_key_is_compared_whole() {
    let stage = Stage::new();
    let (body, _) = stage.key.rsplit_once('_').unwrap();
    assert_eq!(sealed(body), stage.key);
    let (head, secret) = body.rsplit_once('_').unwrap();
    for at in 0..secret.len() {
        let old = secret.as_bytes()[at] as char;
        let flipped = if old.is_ascii_lowercase() { old.to_ascii_uppercase() } else { old.to_ascii_lowercase() };
        let new = if flipped == old { if old == '7' { '8' } else { '7' } } else { flipped };
        let mut changed = secret.to_owned();
        changed.replace_range(at..=at, &new.to_string());
        stage.refused(&sealed(&format!("{head}_{changed}")), "key_unknown");
    }
    let foreign = stage.other.rsplit('_').nth(1).unwrap();
    stage.refused(&sealed(&format!("{head}_{foreign}")), "key_unknown");
    stage.refused(&sealed(&format!("{head}_{}", secret.to_uppercase())), "key_unknown");
    stage.refused(&sealed(&format!("{head}_{}", secret.get(1..).unwrap())), "key_malformed");
    stage.refused(&sealed(&format!("{head}_{secret}0")), "key_malformed");
    stage.refused(&sealed(&format!("ic_live_0000000000_{secret}")), "key_unknown");
}

/// H1: cut anywhere, or longer by anything, it is no key; what is left of the prefix is a token at most.
#[test]
fn a_key_cut_anywhere_is_no_key() {
    let stage = Stage::new();
    for length in 1..stage.key.len() {
        let reason = if length < "ic_".len() { "token_malformed" } else { "key_malformed" };
        stage.refused(stage.key.get(..length).unwrap(), reason);
    }
    for more in ["0", "_", "_000000", "=", "%00"] {
        stage.refused(&format!("{}{more}", stage.key), "key_malformed");
    }
    stage.refused(&format!("{}{}", stage.key, stage.other), "key_malformed");
}

/// H2: a wrong checksum is told before any look-up, for a key that there is and for one that there is not.
#[test]
fn a_wrong_checksum_is_told_before_any_look_up() {
    let stage = Stage::new();
    let (body, sum) = stage.key.rsplit_once('_').unwrap();
    let wrong = if sum.starts_with('0') { sum.replacen('0', "1", 1) } else { format!("0{}", sum.get(1..).unwrap()) };
    stage.refused(&format!("{body}_{wrong}"), "key_checksum");
    stage.refused(&format!("{body}_{}", sum.chars().rev().collect::<String>()), "key_checksum");
    let unknown = format!("ic_live_0000000000_{}", "a".repeat(43));
    stage.refused(&format!("{unknown}_000000"), "key_checksum");
    stage.refused(&sealed(&unknown), "key_unknown");
}

/// H8: one parser says who calls and with what proof. What looks like a signature is no credential, in whatever place, and
/// takes nothing away from one.
#[test]
fn a_signature_that_nobody_asked_for_is_no_credential() {
    let stage = Stage::new();
    let scope = "AKIDEXAMPLE/20260101/us-east-1/s3/aws4_request";
    let signed = format!("Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00");
    let query =
        format!("{NODES}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={scope}&X-Amz-Signature=00&X-Amz-SignedHeaders=host");
    let presigned = format!("{NODES}?Signature=00&Expires=4000000000&access_token={}", stage.key);
    let unsigned = "X-Amz-Content-SHA256: UNSIGNED-PAYLOAD";
    for (path, headers, reason) in [
        (NODES, [signed.as_str(), unsigned].as_slice(), "credential_malformed"),
        (NODES, &["Authorization: Signature keyId=a", unsigned], "credential_malformed"),
        (NODES, &["Authorization: HMAC-SHA256 abc"], "credential_malformed"),
        (NODES, &["Signature: sig1=:AA==:", "Signature-Input: sig1=()"], "credential_missing"),
        (NODES, &["X-Signature: 00", "X-Key-Id: k", unsigned, "Content-Digest: sha-256=:AA==:"], "credential_missing"),
        (&query, &[unsigned], "credential_missing"),
        (&presigned, &["X-Signature: 00"], "credential_missing"),
    ] {
        let answer = stage.gateway.request("GET", path, headers, "body");
        assert_eq!((answer.status, answer.body.as_str(), stage.upstream.count()), (401, REFUSED, 0), "{headers:?}");
        assert_eq!(stage.gateway.why(&answer), format!("refused credential {reason}"), "{headers:?}");
    }
    let bearer = format!("Authorization: Bearer {}", stage.key);
    assert_eq!(stage.gateway.get(NODES, &[&bearer, "X-Signature: 00", unsigned]).status, 200);
}
