//! A request on its way to an upstream: framed by its body, and kept in case the connection turns out closed.

use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Method, Request, Version};
use http_body::Body as _;

use crate::body::{Body, Meter};

/// A request that may go to more than one server before one answers.
pub struct Outgoing {
    pub request: Request<Body>,
    /// As it was judged; each server puts its own base path before it.
    pub path: PathAndQuery,
    /// Of the request's body; `None` when it has none.
    pub meter: Option<Meter>,
}

impl Outgoing {
    /// Boxed, because it is handed on from future to future, each of which would have room for it.
    pub fn new(mut request: Request<Body>) -> Box<Self> {
        *request.version_mut() = Version::HTTP_11;
        // An absolute target is the Host header's business, which was judged with it.
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        frame(&mut request);
        let meter = (!request.body().is_end_stream()).then(|| request.body_mut().meter());
        Box::new(Self { request, path, meter })
    }

    /// What a second one is made of, if it may be sent twice.
    pub fn spare(&self) -> Option<Spare> {
        if self.meter.is_some() || !self.request.method().is_idempotent() {
            return None;
        }
        let mut fields = Vec::with_capacity(FIELDS_ROOM);
        for (name, value) in self.request.headers() {
            fields.extend_from_slice(name.as_str().as_bytes());
            fields.push(b':');
            fields.extend_from_slice(value.as_bytes());
            fields.push(b'\n');
        }
        Some(Spare { method: self.request.method().clone(), path: self.path.clone(), fields })
    }
}

/// A request without a body, packed: each request keeps one in case its connection turns out closed, and hardly any is
/// unpacked. A map of headers would cost more to copy and to drop than all else that is done here.
pub struct Spare {
    method: Method,
    path: PathAndQuery,
    /// `name:value` and a line feed, which neither of them can hold.
    fields: Vec<u8>,
}

impl Spare {
    pub fn unpack(self) -> Option<Box<Outgoing>> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = self.method;
        for line in self.fields.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let (name, value) = line.split_at_checked(line.iter().position(|byte| *byte == b':')?)?;
            let (name, value) = (HeaderName::from_lowercase(name).ok()?, HeaderValue::from_bytes(value.get(1..)?).ok()?);
            request.headers_mut().append(name, value);
        }
        Some(Box::new(Outgoing { request, path: self.path, meter: None }))
    }
}

/// Writes the framing headers from the body. hyper would send the body of a GET whose length is unknown as none at all,
/// and trusts a Content-Length that it finds.
fn frame(request: &mut Request<Body>) {
    let length = request.body().size_hint().exact();
    let has_none = request.body().is_end_stream();
    let expects_one = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    let headers = request.headers_mut();
    headers.remove(TRANSFER_ENCODING);
    let stated_zero = headers.remove(CONTENT_LENGTH).is_some();
    match length {
        _ if has_none && !expects_one && !stated_zero => {}
        _ if has_none => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Some(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// More than the fields of most requests take.
const FIELDS_ROOM: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spare_is_the_same_request() {
        let mut request = Request::put("/a?b=c").body(Body::empty()).unwrap();
        for (name, value) in [("host", &b"h"[..]), ("x-a", b"1: 2"), ("x-a", b""), ("x-b", b"\xff\t,")] {
            request.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let outgoing = Outgoing::new(request);
        let spare = *outgoing.spare().unwrap().unpack().unwrap();
        assert_eq!((spare.request.method(), &spare.path), (&Method::PUT, &outgoing.path));
        assert_eq!(spare.request.headers(), outgoing.request.headers());
        assert!(spare.meter.is_none());
    }

    #[test]
    fn what_may_not_be_sent_twice_has_no_spare() {
        let spare = |method: &str, body: &'static str| {
            Outgoing::new(Request::builder().method(method).body(Body::full(body)).unwrap()).spare().is_some()
        };
        assert_eq!([spare("POST", ""), spare("PUT", "x"), spare("GET", ""), spare("DELETE", "")], [false, false, true, true]);
    }
}
