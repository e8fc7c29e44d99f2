//! HTTP/1.1 read as strictly as it can be written (RFC 9112): CRLF only, exactly one framing, nothing folded. What is
//! not that is a violation, never repaired.

/// One message that could not be read in another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The request or status line.
    pub start: String,
    /// As they came, in their order; bytes above ASCII as the letters of Latin-1.
    pub fields: Vec<(String, String)>,
    pub framing: Framing,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(usize),
    Chunked,
    /// Of an answer only.
    UntilClose,
}

/// A whole message and its length in bytes; `None` while more bytes are needed; or what is wrong.
pub type Read = Result<Option<(Message, usize)>, String>;

/// What an answer is an answer to, as far as its framing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Head,
    Other,
}

impl Message {
    /// The values of all fields of a name, which is lower case.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

/// The request at the beginning of `bytes`, as a gateway has to write it.
pub fn request(bytes: &[u8]) -> Read {
    let Some((start, fields, length)) = head(bytes)? else { return Ok(None) };
    let parts: Vec<&str> = start.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else { return Err(format!("request line {start:?}")) };
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(format!("method {method:?}"));
    }
    if !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(format!("target {target:?}"));
    }
    let framing = framing(&fields)?;
    let message = Message { start, fields, framing, body: Vec::new(), trailers: Vec::new() };
    if message.values("host").len() != 1 {
        return Err(format!("Host {:?}", message.values("host")));
    }
    body(message, bytes, length)
}

/// The answer at the beginning of `bytes`, after which the connection has ended.
pub fn answer(bytes: &[u8], asked: Asked) -> Read {
    let Some((start, fields, length)) = head(bytes)? else { return Ok(None) };
    let mut parts = start.splitn(3, ' ');
    let (version, status, reason) = (parts.next(), parts.next().unwrap_or_default(), parts.next());
    let is_status = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(version, Some("HTTP/1.1" | "HTTP/1.0")) || !is_status || reason.is_none() {
        return Err(format!("status line {start:?}"));
    }
    let mut framing = framing(&fields)?;
    if status.starts_with('1') || status == "204" {
        if framing != Framing::None {
            return Err(format!("a {status} with a body"));
        }
    } else if asked == Asked::Head || status == "304" {
        framing = Framing::None;
    } else if framing == Framing::None {
        framing = Framing::UntilClose;
    }
    let message = Message { start, fields, framing, body: Vec::new(), trailers: Vec::new() };
    body(message, bytes, length)
}

/// Start line, fields and the length of both with the empty line.
type Head = (String, Vec<(String, String)>, usize);

fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut rest = bytes;
    let Some(start) = line(&mut rest)? else { return Ok(None) };
    let Some(fields) = fields(&mut rest)? else { return Ok(None) };
    Ok(Some((latin(start), fields, bytes.len() - rest.len())))
}

/// Takes a line without its end.
fn line<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, String> {
    let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else { return Ok(None) };
    match rest[end..] {
        [b'\r', b'\n', ..] => {
            let line = &rest[..end];
            *rest = &rest[end + 2..];
            Ok(Some(line))
        }
        [b'\r'] => Ok(None),
        _ => Err(format!("a bare CR or LF after {:?}", latin(&rest[..end]))),
    }
}

/// Takes fields and the empty line after them.
fn fields(rest: &mut &[u8]) -> Result<Option<Vec<(String, String)>>, String> {
    let mut fields = Vec::new();
    loop {
        let Some(line) = line(rest)? else { return Ok(None) };
        if line.is_empty() {
            return Ok(Some(fields));
        }
        let wrong = || format!("field {:?}", latin(line));
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(wrong)?;
        let (name, value) = (&line[..colon], without_blanks(&line[colon + 1..]));
        let is_value = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
        if name.is_empty() || !name.iter().copied().all(is_token) || !value.iter().all(is_value) {
            return Err(wrong());
        }
        fields.push((latin(name), latin(value)));
    }
}

fn framing(fields: &[(String, String)]) -> Result<Framing, String> {
    let all = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    };
    match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Ok(Framing::None),
        ([], ["chunked"]) => Ok(Framing::Chunked),
        ([length], []) => match length.parse::<usize>() {
            // Only the one spelling: no sign, no blank, no zero in front.
            Ok(number) if number.to_string() == *length => Ok(Framing::Length(number)),
            Ok(_) | Err(_) => Err(format!("Content-Length {length:?}")),
        },
        (lengths, codings) => Err(format!("Content-Length {lengths:?} and Transfer-Encoding {codings:?}")),
    }
}

fn body(mut message: Message, bytes: &[u8], head: usize) -> Read {
    let rest = &bytes[head..];
    let length = match message.framing {
        Framing::None => 0,
        Framing::UntilClose => rest.len(),
        Framing::Length(length) if rest.len() < length => return Ok(None),
        Framing::Length(length) => length,
        Framing::Chunked => {
            let mut after = rest;
            let Some((chunks, trailers)) = chunks(&mut after)? else { return Ok(None) };
            message.body = chunks.concat();
            message.trailers = trailers;
            return Ok(Some((message, bytes.len() - after.len())));
        }
    };
    message.body = rest[..length].to_vec();
    Ok(Some((message, head + length)))
}

type Chunks<'a> = (Vec<&'a [u8]>, Vec<(String, String)>);

/// Takes chunks without extensions, the last one and the trailers.
fn chunks<'a>(rest: &mut &'a [u8]) -> Result<Option<Chunks<'a>>, String> {
    let mut chunks = Vec::new();
    loop {
        let Some(line) = line(rest)? else { return Ok(None) };
        let digits = latin(line);
        let size = usize::from_str_radix(&digits, 16).ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let size = size.ok_or_else(|| format!("chunk size {digits:?}"))?;
        if size == 0 {
            return Ok(fields(rest)?.map(|trailers| (chunks, trailers)));
        }
        let Some((data, after)) = rest.split_at_checked(size) else { return Ok(None) };
        match after {
            [b'\r', b'\n', after @ ..] => *rest = after,
            [] | [b'\r'] => return Ok(None),
            _ => return Err(format!("no CRLF after a chunk of {size} bytes")),
        }
        chunks.push(data);
    }
}

/// Without the optional blanks around it, which are spaces and tabs and nothing else.
fn without_blanks(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

#[test]
fn the_strict_reader_takes_nothing_that_can_be_read_in_two_ways() {
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    let framed =
        |text: String| request(text.as_bytes()).unwrap().map(|(message, length)| (message.framing, message.body, length));
    assert_eq!(framed(get("")), Some((Framing::None, vec![], 27)));
    assert_eq!(framed(get("content-length: 2\r\n") + "abc"), Some((Framing::Length(2), b"ab".to_vec(), 48)));
    let chunked = "transfer-encoding: chunked\r\n";
    assert_eq!(framed(get(chunked) + "1\r\na\r\n0\r\n\r\n"), Some((Framing::Chunked, b"a".to_vec(), 66)));
    for unfinished in
        [get("").replace("\r\n\r\n", "\r\n\r"), get("content-length: 2\r\n") + "a", get(chunked) + "1\r\na\r\n0\r\n"]
    {
        assert_eq!(framed(unfinished.clone()), None, "{unfinished:?}");
    }
    for wrong in [
        "GET / HTTP/1.1\nhost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.0\r\nhost: a\r\n\r\n".to_owned(),
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "GET /#a HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        get("host: a\r\n"),
        get("x : a\r\n"),
        get(" x: a\r\n"),
        get("x: a\r\n b\r\n"),
        get("x: a\rb\r\n"),
        get("x: a\0\r\n"),
        get("x\r\n"),
        get(": a\r\n"),
        get("content-length: 2\r\ncontent-length: 2\r\n"),
        get("content-length: +2\r\n"),
        get("content-length: 02\r\n"),
        get("content-length: 2\r\ntransfer-encoding: chunked\r\n"),
        get("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
        get("transfer-encoding: Chunked\r\n"),
        get("transfer-encoding: gzip, chunked\r\n"),
        get(chunked) + "0x1\r\na\r\n0\r\n\r\n",
        get(chunked) + "+1\r\na\r\n0\r\n\r\n",
        get(chunked) + "1;a\r\na\r\n0\r\n\r\n",
        get(chunked) + "1\na\r\n0\r\n\r\n",
        get(chunked) + "1\r\nab\r\n0\r\n\r\n",
        get(chunked) + "\r\n0\r\n\r\n",
        get(chunked) + "0\r\nx : a\r\n\r\n",
    ] {
        assert!(matches!(request(wrong.as_bytes()), Err(what) if !what.is_empty()), "{wrong:?}");
    }
}
