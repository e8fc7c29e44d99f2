//! Finds the credential of a request. Verifies nothing.
//!
//! The contract's carriers are looked at in their order; the first that is there is the credential, and what is wrong
//! with it ends the search: no other carrier is tried.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::contract::{Access, Api, Carrier, Route};
use crate::identity::CredentialKind;
use crate::listener::ClientCertificate;
use crate::pipeline::exchange::Exchange;
use crate::rejection::{Denial, Stage};

/// What was found. All that is verified of it is what the connection has verified: a certificate's signature.
#[derive(Debug)]
pub enum Credential {
    Text {
        kind: CredentialKind,
        text: Text,
        /// The header that it stood in.
        header: HeaderName,
    },
    Certificate(Arc<ClientCertificate>),
}

impl Credential {
    /// The header that it stood in, if it stood in one.
    pub fn header(&self) -> Option<&HeaderName> {
        match self {
            Self::Text { header, .. } => Some(header),
            Self::Certificate(_) => None,
        }
    }
}

/// The text of a credential: a part of its header's value, whose bytes are the request's own and not copied. `Debug` is
/// redacted, and `expose` marks each place that needs the text, as with [`crate::identity::Secret`].
pub struct Text {
    value: HeaderValue,
    at: Range<usize>,
}

impl Text {
    pub fn expose(&self) -> &str {
        // What was read once is visible ASCII, and can be cut anywhere.
        let bytes = self.value.as_bytes().get(self.at.clone());
        bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(…)")
    }
}

/// Longest credential that is looked at. A JWT may have 8 KiB.
const MAX_BYTES: usize = 8 << 10;

/// The credential that the route asks for. `None` on public routes, where none is looked for.
///
/// # Errors
/// The denials of stage `credential`.
pub fn extract(api: &Api, route: &Route, exchange: &mut Exchange) -> Result<Option<Credential>, Denial> {
    let Access::Known { kinds, unmapped, .. } = &route.access else {
        exchange.note(Stage::Credential, || "the route is public: no credential is looked for".to_owned());
        return Ok(None);
    };
    // What stands in a header of a route that takes certificates alone is no credential: it may be the upstream's own.
    let carriers = if matches!(kinds[..], [CredentialKind::ClientCertificate]) { &[] } else { api.carriers.as_slice() };
    for carrier in carriers {
        let Some((text, kind)) = read(api, carrier, exchange)? else { continue };
        exchange.notes.kind = Some(kind);
        if !*unmapped && !kinds.contains(&kind) {
            return Err(Denial::CredentialKindRefused { kind });
        }
        exchange.note(Stage::Credential, || format!("{kind} in {}, {} bytes", carrier.header(), text.expose().len()));
        return Ok(Some(Credential::Text { kind, text, header: carrier.header().clone() }));
    }
    // A certificate belongs to the connection and not to the request: it comes after whatever the request itself says.
    let certificate = exchange.tls.as_ref().and_then(|tls| tls.client(exchange.now.wall));
    match certificate.filter(|_| kinds.contains(&CredentialKind::ClientCertificate)) {
        Some(certificate) => {
            exchange.notes.kind = Some(CredentialKind::ClientCertificate);
            exchange.note(Stage::Credential, || format!("the client certificate {} of the connection", certificate.serial));
            Ok(Some(Credential::Certificate(certificate)))
        }
        None => Err(Denial::CredentialMissing),
    }
}

/// What stands in a carrier, and its kind.
fn read(api: &Api, carrier: &Carrier, exchange: &Exchange) -> Result<Option<(Text, CredentialKind)>, Denial> {
    let name = carrier.header();
    let mut values = exchange.headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    let Some(value) = first else { return Ok(None) };
    if second.is_some() {
        return Err(Denial::CredentialDuplicate { name: name.to_string() });
    }
    let malformed = |what| Denial::CredentialMalformed { what };
    let foreign_bytes = || malformed("it holds bytes that are no visible ASCII");
    let whole = std::str::from_utf8(value.as_bytes()).map_err(|_| foreign_bytes())?;
    // Both are a part of the value that ends where its trailing blanks begin. A bearer token's bytes are judged once, and
    // more closely; a value that is no such token is looked at again, for the right word about it.
    let text = match carrier {
        Carrier::Bearer => bearer(whole).map_err(|denial| if is_visible(whole) { denial } else { foreign_bytes() })?,
        Carrier::Header(_) if is_visible(whole) => whole.trim_matches(' '),
        Carrier::Header(_) => return Err(foreign_bytes()),
    };
    let end = whole.trim_end_matches(' ').len();
    match text.len() {
        0 => Err(malformed("it is empty")),
        length if length > MAX_BYTES => Err(malformed("it is longer than 8 KiB")),
        length => {
            let kind = api.kind_of(carrier, text).ok_or(malformed("no kind has this form"))?;
            Ok(Some((Text { value: value.clone(), at: end.saturating_sub(length)..end }, kind)))
        }
    }
}

/// Whether there are blanks, tabs and visible ASCII only.
fn is_visible(text: &str) -> bool {
    // Every byte is looked at, so that many are at once.
    text.bytes().fold(true, |sound, b| sound & (matches!(b, b' '..=b'~') | (b == b'\t')))
}

/// `Bearer` in any case, blanks, the token and nothing else (RFC 6750, section 2.1; RFC 9110, section 11.4).
fn bearer(value: &str) -> Result<&str, Denial> {
    let wrong = || Denial::CredentialMalformed { what: "Authorization is not `Bearer` and a token" };
    let (scheme, token) = value.trim_matches(' ').split_once(' ').ok_or_else(wrong)?;
    let token = token.trim_start_matches(' ');
    // Every byte is looked at, so that many are at once.
    let is_plain = !token.is_empty() && token.bytes().fold(true, |plain, b| plain & b.is_ascii_graphic() & (b != b','));
    if scheme.eq_ignore_ascii_case("bearer") && is_plain { Ok(token) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_text_of_visible_bytes() {
        for character in (0..=u8::MAX).map(char::from) {
            let text = format!("a{character}");
            let expected = HeaderValue::from_str(&text).is_ok_and(|value| value.to_str().is_ok());
            assert_eq!(is_visible(&text), expected, "{character:?}");
        }
    }

    #[test]
    fn the_scheme_is_read_in_any_case_and_the_token_exactly() {
        assert_eq!(bearer("Bearer abc").unwrap(), "abc");
        assert_eq!(bearer("bEARER   abc").unwrap(), "abc");
        for wrong in ["abc", "Bearer", "Bearer ", "Basic abc", "Bearer a b", "Bearer a,b", "Bearerabc"] {
            assert_eq!(bearer(wrong).unwrap_err().code(), "credential_malformed", "{wrong}");
        }
    }
}
