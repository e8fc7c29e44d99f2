//! Makes the head of an HTTP/2 request what the guard leaves of one by HTTP/1.1: the target is a path, the authority
//! stands in `Host`, and cookies stand in one field. What HTTP/1.1 could not say so is refused.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, Uri};
use http_body::Body;

use crate::listener::answer::Outgoing;
use crate::listener::guard::{Fault, HeadLimits, LONGEST_METHOD, content_length, malformed};
use crate::rejection::Denial;

/// Settles the head, or says why it is refused; the request then keeps what the log and the answer need.
pub fn settle<B>(request: &mut Request<B>, limits: &HeadLimits) -> Option<Fault> {
    let path = request.uri().path_and_query().map_or("", |target| target.path()).to_owned();
    let denial = check(request, limits).and_then(|()| settle_host(request)).err();
    if let Some(authority) = request.uri().authority().cloned() {
        // With a fault, too: the API is found by the host, and the words of the refusal by the API.
        if !request.headers().contains_key(HOST)
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(HOST, host);
        }
        if let Some(target) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = Uri::from(target);
        }
    }
    let Some(denial) = denial else {
        join_cookies(request.headers_mut());
        return None;
    };
    let kept = readable(request.headers());
    *request.headers_mut() = kept;
    Some(Fault { denial, path })
}

fn check<B>(request: &Request<B>, limits: &HeadLimits) -> Result<(), Denial> {
    let (uri, headers) = (request.uri(), request.headers());
    // Counted before cookies are joined: crumbs are fields.
    if u64::try_from(headers.len()).map_or(true, |count| count > limits.fields) {
        return Err(Denial::TooManyHeaders { limit: limits.fields });
    }
    if request.method().as_str().len() > LONGEST_METHOD {
        return Err(malformed("a method of more than 32 bytes"));
    }
    if uri.scheme_str().is_some_and(|scheme| !["http", "https"].contains(&scheme)) {
        return Err(malformed("a scheme other than http and https"));
    }
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    match (request.method(), target.as_bytes()) {
        (&Method::CONNECT, _) | (&Method::OPTIONS, b"*") => {}
        (_, bytes @ [b'/', ..]) if bytes.iter().all(u8::is_ascii_graphic) => {}
        (_, [b'/', ..]) => return Err(malformed("a byte that no request target may hold")),
        _ => return Err(malformed("a request target that is no path")),
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (_, Some(_)) => return Err(Denial::FramingAmbiguous { what: "more than one Content-Length" }),
        (Some(length), None) if content_length(length.as_bytes()).is_none() => {
            return Err(Denial::FramingAmbiguous { what: "a Content-Length that is no plain number" });
        }
        _ => {}
    }
    // RFC 9113, section 8.2.1. By HTTP/1.1 the blanks would be lost, and another value read than was judged.
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if headers.values().any(|value| is_blank(value.as_bytes().first()) || is_blank(value.as_bytes().last())) {
        return Err(malformed("a field value that begins or ends with a blank"));
    }
    Ok(())
}

/// RFC 9113, section 8.3.1: `:authority` and `Host` say the same, or one of them nothing.
fn settle_host<B>(request: &Request<B>) -> Result<(), Denial> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (request.uri().authority(), hosts.next(), hosts.next()) {
        (_, _, Some(_)) | (None, None, None) => Err(Denial::HostMissing),
        (Some(authority), Some(host), None) if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            Err(Denial::HostMalformed)
        }
        _ => Ok(()),
    }
}

/// RFC 9113, section 8.2.3: the crumbs of cookies are one field for whoever speaks HTTP/1.1.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut whole = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(crumb.as_bytes());
    }
    // Pieces of values, joined by what a value may hold.
    if let Ok(whole) = HeaderValue::from_maybe_shared(bytes::Bytes::from(whole)) {
        headers.insert(COOKIE, whole);
    }
}

/// What a refusal needs, and no more: a head of thousands of fields ends here.
fn readable(headers: &HeaderMap) -> HeaderMap {
    let wanted = [HOST, CONTENT_TYPE, USER_AGENT, FORWARDED, HeaderName::from_static("x-forwarded-for")];
    let mut kept = HeaderMap::new();
    for name in &wanted {
        for value in headers.get_all(name).iter().take(MOST_LINES) {
            kept.append(name, value.clone());
        }
    }
    kept
}

/// The answer to a HEAD: hyper would send its body.
pub fn only(response: Response<Outgoing>) -> Response<Outgoing> {
    let (mut parts, body) = response.into_parts();
    if let Some(length @ 1..) = body.size_hint().exact() {
        parts.headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
    Response::from_parts(parts, body.emptied())
}

/// Of one name, of a refused head.
const MOST_LINES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { fields: 5, head_bytes: 8192, uri_bytes: 100 };

    fn request(uri: &str, fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method("GET").uri(uri).body(()).unwrap();
        for (name, value) in fields {
            request.headers_mut().append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        request
    }

    fn refused(uri: &str, fields: &[(&str, &str)]) -> String {
        let mut request = request(uri, fields);
        settle(&mut request, &LIMITS).map_or_else(|| "sound".to_owned(), |fault| fault.denial.to_string())
    }

    #[test]
    fn a_sound_head_is_as_by_http1() {
        let mut sound = request("https://A.test:8443/a?b", &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3")]);
        assert!(settle(&mut sound, &LIMITS).is_none());
        assert_eq!(sound.uri().to_string(), "/a?b");
        let fields: Vec<_> = sound.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(fields, [("cookie", "a=1; b=2; c=3"), ("x", "y"), ("host", "A.test:8443")]);
    }

    /// D8: the host is said once, or twice the same.
    #[test]
    fn authority_and_host_agree() {
        let malformed = "the request's host is malformed, or the target names another";
        for (fields, said) in [
            (&[("host", "a.test")][..], "sound"),
            (&[("host", "A.TEST")], "sound"),
            (&[("host", "b.test")], malformed),
            (&[("host", "a.test"), ("host", "a.test")], "the request names no host, or more than one"),
        ] {
            let found = refused("http://a.test/", fields);
            assert!(found == said || (said == malformed && found != "sound"), "{fields:?}: {found}");
        }
        assert_eq!(refused("/", &[]), "the request names no host, or more than one");
    }

    /// A7, B14, D4, D7: crumbs count as fields, and values have no blanks around them.
    #[test]
    fn what_http1_could_not_say_is_refused() {
        let crumbs = [("cookie", "a"); 6];
        assert_eq!(refused("http://a.test/", &crumbs), "there are more than 5 header fields");
        assert_eq!(refused("http://a.test/", &crumbs[..5]), "sound");
        let malformed = |what: &str| format!("the request's head is malformed: {what}");
        for value in [" a", "a ", "\ta", "a\t", " "] {
            let said = refused("http://a.test/", &[("x", value)]);
            assert_eq!(said, malformed("a field value that begins or ends with a blank"), "{value:?}");
        }
        assert_eq!(refused("ftp://a.test/", &[]), malformed("a scheme other than http and https"));
        assert_eq!(refused("*", &[("host", "a.test")]), malformed("a request target that is no path"));
        let two = [("content-length", "5"), ("content-length", "5")];
        assert_eq!(
            refused("http://a.test/", &two),
            "where the body ends could be read in two ways: more than one Content-Length"
        );
    }
}
