//! A refused head on its way to the pipeline. hyper gets a stand-in in its place, and the service that hyper calls finds
//! the verdict beside it, so that the refusal has the API's shape, a log line, an id and a count like any other.

use std::cell::RefCell;
use std::rc::Rc;

use http::header::{FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request};

use crate::listener::guard::head::LONGEST_METHOD;
use crate::listener::guard::syntax::{Line, field_line, is_token, is_visible, split_run};
use crate::rejection::Denial;

/// What the guard says of a request that it has refused. The request beside it holds what could be read of the head.
#[derive(Clone, Debug)]
pub struct Fault {
    pub denial: Denial,
    /// The path as it came, without its query, as far as it could be read; for the log.
    pub path: String,
}

/// The one refusal that a connection can have: nothing follows it. Shared by the guard, which writes it, and the
/// service, which finds it.
#[derive(Clone, Default)]
pub struct Refusals(Rc<RefCell<Option<Refused>>>);

struct Refused {
    /// Drawn when the head is refused, so that nothing which the client has sent can hold it.
    mark: String,
    fault: Fault,
    method: Method,
    headers: HeaderMap,
}

impl Refusals {
    /// Notes that the head at the beginning of `bytes` is refused. Returns the request that hyper is to see in its place.
    pub fn refuse(&self, denial: Denial, bytes: &[u8]) -> Vec<u8> {
        let mark = crate::random::token();
        let (method, path, headers) = readable(bytes);
        // The answer to a HEAD has no body.
        let verb = if method == Method::HEAD { "HEAD" } else { "GET" };
        let stand_in = format!("{verb} / HTTP/1.1\r\nhost: refused\r\n{MARK}: {mark}\r\nconnection: close\r\n\r\n");
        self.0.replace(Some(Refused { mark, fault: Fault { denial, path }, method, headers }));
        stand_in.into_bytes()
    }

    /// The fault, when this request is the stand-in; it then holds what could be read of the refused head.
    pub fn claim<B>(&self, request: &mut Request<B>) -> Option<Fault> {
        // A request that came before the refused one may still be asked about after it was refused.
        let refused = self
            .0
            .borrow_mut()
            .take_if(|refused| request.headers().get(MARK).is_some_and(|mark| mark == refused.mark.as_str()))?;
        *request.method_mut() = refused.method;
        *request.headers_mut() = refused.headers;
        Some(refused.fault)
    }
}

/// Method, path and fields of a head that is not sound: for the log, the client's address, and the API's shape.
fn readable(bytes: &[u8]) -> (Method, String, HeaderMap) {
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let (method, rest) = split_run(bytes, is_token);
    let sound = (1..=LONGEST_METHOD).contains(&method.len()) && rest.first() == Some(&b' ');
    let method = Some(method).filter(|_| sound).unwrap_or(b"-");
    let (target, _) = split_run(rest.get(1..).unwrap_or_default(), is_visible);
    // An absolute target may hold a password, a query or a fragment a token.
    let path = target.split(|byte| matches!(byte, b'?' | b'#')).next().filter(|path| sound && path.starts_with(b"/"));
    let path = path.unwrap_or_default();
    let path = path.get(..LONGEST_PATH).unwrap_or(path);
    (Method::from_bytes(method).unwrap_or_default(), String::from_utf8_lossy(path).into_owned(), fields(bytes))
}

fn fields(bytes: &[u8]) -> HeaderMap {
    let wanted = [HOST, USER_AGENT, FORWARDED, HeaderName::from_static("x-forwarded-for")];
    let mut headers = HeaderMap::new();
    // The request line, then field by field; a line that is none is passed over.
    let mut rest = after_line(bytes);
    while headers.len() < MOST_READABLE {
        match field_line(rest, 0) {
            Line::Incomplete | Line::End => break,
            Line::Field { name, value, length } => {
                let name = wanted.iter().find(|known| name.eq_ignore_ascii_case(known.as_str().as_bytes()));
                if let (Some(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                    headers.append(name, value);
                }
                rest = rest.get(length..).unwrap_or_default();
            }
            // Whoever ends lines with LF alone ends the head so too.
            Line::Fault(_) if rest.starts_with(b"\n") => break,
            Line::Fault(_) => rest = after_line(rest),
        }
    }
    headers
}

fn after_line(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
    bytes.get(end..).unwrap_or_default()
}

/// The field that marks a stand-in.
const MARK: &str = "x-gateward-refused";
/// Of a path in the log.
const LONGEST_PATH: usize = 1024;
const MOST_READABLE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (String, String, Vec<String>) {
        let (method, path, headers) = readable(bytes);
        let fields = headers.iter().map(|(name, value)| format!("{name}: {}", value.as_bytes().escape_ascii())).collect();
        (method.to_string(), path, fields)
    }

    #[test]
    fn what_can_be_read_of_a_refused_head_is_read() {
        let head = b"GET /a?secret HTTP/1.1\r\nHost: a.test\r\nbad line\r\nX-Forwarded-For: 1.2.3.4\r\nCookie: c\r\nUser-Agent: u\xff\r\n\r\nHost: b";
        let fields = ["host: a.test", "x-forwarded-for: 1.2.3.4", "user-agent: u\\xff"].map(str::to_owned).to_vec();
        assert_eq!(read(head), ("GET".to_owned(), "/a".to_owned(), fields));
        for (bytes, method, path) in [
            (&b"\r\nDELETE /a#token HTTP/1.1\r\n"[..], "DELETE", "/a"),
            (b"GET /a\0b HTTP/1.1\r\n", "GET", "/a"),
            (b"GET http://ann:secret@a.test/ HTTP/1.1\r\n", "GET", ""),
            (b"GET\r\n", "-", ""),
            (b"\x16\x03\x01", "-", ""),
            (b"", "-", ""),
        ] {
            assert_eq!(read(bytes), (method.to_owned(), path.to_owned(), vec![]), "{}", bytes.escape_ascii());
        }
        let odd = b"GET / HTTP/1.1\nHost: a\n\nHost: b\r\n\r\n";
        assert_eq!(read(odd).2, Vec::<String>::new());
        let many = [b"GET / HTTP/1.1\r\n".to_vec(), b"host: a\r\n".repeat(100_000)].concat();
        assert_eq!((read(&many).2.len(), read(&b"GET /".repeat(9000)).1.len()), (MOST_READABLE, 4));
    }

    #[test]
    fn only_the_stand_in_claims_the_fault() {
        let refusals = Refusals::default();
        let marked = |mark: &str| Request::builder().header(MARK, mark).body(()).unwrap();
        assert!(refusals.claim(&mut marked("")).is_none());
        let stand_in = refusals.refuse(Denial::HostMissing, b"PUT /a HTTP/1.1\r\nHost: b\r\nHost: c\r\n");
        let stand_in = String::from_utf8(stand_in).unwrap();
        assert!(stand_in.starts_with("GET / HTTP/1.1\r\nhost: refused\r\n"), "{stand_in}");
        assert!(refusals.claim(&mut marked("")).is_none());
        assert!(refusals.claim(&mut Request::new(())).is_none());
        let mark = stand_in.split(&format!("{MARK}: ")).nth(1).unwrap().lines().next().unwrap();
        let mut request = marked(mark);
        let fault = refusals.claim(&mut request).unwrap();
        assert_eq!((fault.denial.code(), fault.path.as_str()), ("host_missing", "/a"));
        assert_eq!((request.method(), request.headers().get_all(HOST).iter().count()), (&Method::PUT, 2));
        assert!(refusals.claim(&mut marked(mark)).is_none(), "a fault is told once");
    }
}
