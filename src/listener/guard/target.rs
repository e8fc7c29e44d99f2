//! The forms of a request target (RFC 9112, section 3.2), and the bytes that each may hold.

use http::Uri;

use crate::listener::guard::syntax::malformed;
use crate::rejection::Denial;

/// Whether this method may have this target, and hyper reads all of it. The target is visible ASCII and not empty.
///
/// # Errors
/// [`Denial::HeadMalformed`].
pub fn check(method: &[u8], target: &[u8]) -> Result<(), Denial> {
    if target.contains(&b'#') {
        return Err(malformed("a fragment in the request target"));
    }
    match (method, target) {
        (b"CONNECT", _) if is_authority(target) => Ok(()),
        (b"CONNECT", _) => Err(malformed("a CONNECT whose target is no host and port")),
        (b"OPTIONS", b"*") => Ok(()),
        (_, [b'/', ..]) if is_path_and_query(target) => Ok(()),
        (_, [b'/', ..]) => Err(malformed("a byte that no path or query may hold")),
        _ if is_absolute(target) => Ok(()),
        _ => Err(malformed("a request target that is neither a path nor an http URL")),
    }
}

/// As hyper reads it: rare enough to be read twice.
fn is_authority(target: &[u8]) -> bool {
    let has_port = |uri: &Uri| uri.authority().is_some_and(|authority| authority.port_u16().is_some());
    Uri::try_from(target).is_ok_and(|uri| uri.scheme().is_none() && uri.path_and_query().is_none() && has_port(&uri))
}

fn is_absolute(target: &[u8]) -> bool {
    let Ok(uri) = Uri::try_from(target) else { return false };
    let of_the_web = |scheme: &str| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    uri.scheme_str().is_some_and(of_the_web) && uri.authority().is_some()
}

/// The bytes that hyper takes. `<`, `>` and, after the first `?`, `"` are not among them; before it `^` is, which the
/// path normaliser refuses.
fn is_path_and_query(target: &[u8]) -> bool {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let query = target.get(path.len()..).unwrap_or_default();
    path.iter().all(|byte| !matches!(byte, b'<' | b'>' | b'`')) && query.iter().all(|byte| !matches!(byte, b'"' | b'<' | b'>'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(method: &str, target: &str) -> String {
        check(method.as_bytes(), target.as_bytes()).map_or_else(|denial| denial.to_string(), |()| "sound".to_owned())
    }

    #[test]
    fn each_method_has_its_forms() {
        for (method, target) in [
            ("GET", "/"),
            ("GET", "/a/../b%2f?x=/?&y={}|^`"),
            ("GET", "//a"),
            ("POST", "http://gw.test/a?b"),
            ("GET", "HTTPS://gw.test"),
            ("OPTIONS", "*"),
            ("OPTIONS", "/"),
            ("CONNECT", "gw.test:443"),
            ("CONNECT", "[::1]:443"),
        ] {
            assert_eq!(said(method, target), "sound", "{method} {target}");
        }
        for (method, target, what) in [
            ("GET", "/a#b", "a fragment in the request target"),
            ("GET", "http://gw.test/#b", "a fragment in the request target"),
            ("GET", "/a<b", "a byte that no path or query may hold"),
            ("GET", "/a?\"", "a byte that no path or query may hold"),
            ("GET", "*", "a request target that is neither a path nor an http URL"),
            ("options", "*", "a request target that is neither a path nor an http URL"),
            ("GET", "gw.test:80", "a request target that is neither a path nor an http URL"),
            ("GET", "admin", "a request target that is neither a path nor an http URL"),
            ("GET", "?x", "a request target that is neither a path nor an http URL"),
            ("GET", "../admin", "a request target that is neither a path nor an http URL"),
            ("GET", "ftp://gw.test/", "a request target that is neither a path nor an http URL"),
            ("GET", "http:///a", "a request target that is neither a path nor an http URL"),
            ("GET", "http://gw.test/a<", "a request target that is neither a path nor an http URL"),
            ("CONNECT", "/", "a CONNECT whose target is no host and port"),
            ("CONNECT", "*", "a CONNECT whose target is no host and port"),
            ("CONNECT", "gw.test", "a CONNECT whose target is no host and port"),
            ("CONNECT", "http://gw.test:80/", "a CONNECT whose target is no host and port"),
        ] {
            assert_eq!(said(method, target), format!("the request's head is malformed: {what}"), "{method} {target}");
        }
    }

    #[test]
    fn a_path_and_query_hold_what_hyper_takes() {
        for byte in 0x21..0x7f {
            for target in [vec![b'/', byte], vec![b'/', b'?', byte]] {
                let taken = byte != b'#' && Uri::try_from(target.as_slice()).is_ok();
                let passed = said("GET", std::str::from_utf8(&target).unwrap()) == "sound";
                assert_eq!(passed, taken, "{}", target.escape_ascii());
            }
        }
    }
}
