//! Which trailer fields are passed on. No stage has seen them when the head is judged, so that nothing may go on which a
//! reader that merges them into the header fields would act on (RFC 9110, section 6.5.1).

use std::sync::Arc;

use http::HeaderName;

use crate::body::TrailerRule;
use crate::contract::{Api, Carrier};
use crate::pipeline::headers::{self, folded};
use crate::pipeline::inject::is_identity;

/// The rule for requests and answers of an API: no identity, no credential, and nothing of framing, routing, control or
/// the content's form, in any spelling.
pub fn rule(api: &Arc<Api>) -> TrailerRule {
    let api = api.clone();
    Box::new(move |name| {
        let carriers = || api.carriers.iter().map(Carrier::header).any(|carrier| same(name, carrier.as_str()));
        !is_read_before_the_body(name)
            && !headers::is_not_to_be_believed(name.as_str())
            && !is_identity(&api, name.as_str())
            && !carriers()
    })
}

fn is_read_before_the_body(name: &HeaderName) -> bool {
    let text = name.as_str();
    let begins = |word: &str| text.len() >= word.len() && text.bytes().take(word.len()).map(folded).eq(word.bytes());
    NAMES.into_iter().any(|known| same(name, known)) || FAMILIES.into_iter().any(begins)
}

fn same(name: &HeaderName, known: &str) -> bool {
    name.as_str().len() == known.len() && name.as_str().bytes().map(folded).eq(known.bytes())
}

const NAMES: [&str; 31] = [
    "age",
    "authorization",
    "cache-control",
    "connection",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "host",
    "keep-alive",
    "last-modified",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-request-id",
];

const FAMILIES: [&str; 5] = ["access-control-", "content-", "if-", "proxy-", "sec-"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::fixture;

    /// B7, D10: what may be merged is nothing that counts.
    #[test]
    fn only_fields_that_nobody_acts_on_are_trailers() {
        let api = Arc::new(fixture::api("[api.identity]\nheaders = { \"X-Auth-User\" = \"account.id\" }\n"));
        let rule = rule(&api);
        let passes = |name: &str| rule(&HeaderName::from_bytes(name.as_bytes()).unwrap());
        for name in ["grpc-status", "grpc-message", "grpc-status-details-bin", "x-checksum", "server-timing", "digest"] {
            assert!(passes(name), "{name}");
        }
        for name in [
            "x-auth-user",
            "x_auth_user",
            "x.auth.user",
            "authorization",
            "content-length",
            "content_length",
            "content-type",
            "transfer_encoding",
            "host",
            "cookie",
            "set-cookie",
            "connection",
            "te",
            "x-forwarded-for",
            "x_real_ip",
            "forwarded",
            "x-http-method-override",
            "proxy-authorization",
            "if-match",
            "x-request-id",
        ] {
            assert!(!passes(name), "{name}");
        }
    }
}
