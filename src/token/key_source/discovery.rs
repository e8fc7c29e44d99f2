//! From an issuer to the URL of its keys, by the issuer's own metadata (OpenID Connect Discovery 1.0, section 4; RFC 8414,
//! section 3).

use std::time::Duration;

use http::{StatusCode, Uri};
use serde_json::Value;

use crate::outbound::{Client, FetchError, FetchLimits};
use crate::token::json;

/// Asks the issuer where its keys are.
///
/// # Errors
/// Says what was asked and what is wrong with the answer.
pub async fn jwks_uri(client: &Client, issuer: &str) -> Result<String, String> {
    let (first, second) = metadata_urls(issuer)?;
    let fetched = match client.get(&first, &DOCUMENT).await {
        Err(FetchError::Status { status: StatusCode::NOT_FOUND, .. }) => client.get(&second, &DOCUMENT).await,
        other => other,
    };
    judged(&fetched.map_err(|error| format!("its metadata cannot be fetched: {error}"))?.body, issuer)
}

/// Where the metadata may be: OpenID puts `.well-known` behind the issuer's path, RFC 8414 before it.
fn metadata_urls(issuer: &str) -> Result<(String, String), String> {
    let uri: Uri = issuer.parse().map_err(|_| format!("the issuer {} is no URL", quoted(issuer)))?;
    let (Some(scheme), Some(authority), None) = (uri.scheme_str(), uri.authority(), uri.query()) else {
        return Err(format!("the issuer {} is no URL without a query, which discovery wants", quoted(issuer)));
    };
    let path = uri.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let host = format!("{scheme}://{authority}");
    let openid = format!("{host}{path}/.well-known/openid-configuration");
    Ok((openid, format!("{host}/.well-known/oauth-authorization-server{path}")))
}

/// The `jwks_uri` of a document that speaks for this issuer and no other: whoever may write one issuer's metadata must
/// not name the keys of another.
fn judged(document: &[u8], issuer: &str) -> Result<String, String> {
    let members = json::object(document).ok_or("its metadata is no JSON object that can be read in one way only")?;
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    match text("issuer") {
        Some(found) if found == issuer => {}
        Some(found) => {
            let (found, wanted) = (quoted(found), quoted(issuer));
            return Err(format!(
                "its metadata is of the issuer {found}, and the config says {wanted}; they must be equal to the byte"
            ));
        }
        None => return Err("its metadata names no `issuer`".to_owned()),
    }
    text("jwks_uri").map(str::to_owned).ok_or_else(|| "its metadata names no `jwks_uri`".to_owned())
}

/// As much of a text from outside as a message needs, with nothing in it that a terminal obeys.
fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(200).collect::<String>())
}

const DOCUMENT: FetchLimits = FetchLimits { bytes: 256 << 10, time: Duration::from_secs(5) };

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://login.test/realm";

    #[test]
    fn the_well_known_part_stands_behind_the_path_or_before_it() {
        for (issuer, openid, oauth) in [
            (
                "https://a.test",
                "https://a.test/.well-known/openid-configuration",
                "https://a.test/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.test/",
                "https://a.test/.well-known/openid-configuration",
                "https://a.test/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.test:8443/b/c/",
                "https://a.test:8443/b/c/.well-known/openid-configuration",
                "https://a.test:8443/.well-known/oauth-authorization-server/b/c",
            ),
        ] {
            assert_eq!(metadata_urls(issuer), Ok((openid.to_owned(), oauth.to_owned())));
        }
        let error = "the issuer \"https://a.test/?x=1\" is no URL without a query, which discovery wants";
        assert_eq!(metadata_urls("https://a.test/?x=1"), Err(error.to_owned()));
        assert_eq!(metadata_urls("a b"), Err("the issuer \"a b\" is no URL".to_owned()));
    }

    /// G5
    #[test]
    fn metadata_of_another_issuer_is_refused_to_the_byte() {
        let right = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"https://keys.test/jwks"}}"#);
        assert_eq!(judged(right.as_bytes(), ISSUER), Ok("https://keys.test/jwks".to_owned()));
        for other in [
            "https://login.test/realm/",
            "https://LOGIN.test/realm",
            "https://login.test:443/realm",
            "",
            "http://login.test/realm",
        ] {
            let document = format!(r#"{{"issuer":"{other}","jwks_uri":"https://keys.test/jwks"}}"#);
            let expected = format!(
                "its metadata is of the issuer \"{other}\", and the config says \"{ISSUER}\"; they must be equal to the byte"
            );
            assert_eq!(judged(document.as_bytes(), ISSUER), Err(expected));
        }
    }

    /// G5 G8
    #[test]
    fn a_document_that_does_not_say_all_of_it_is_refused() {
        for (document, error) in [
            ("<html></html>", "its metadata is no JSON object that can be read in one way only"),
            (
                r#"{"issuer":"https://login.test/realm","issuer":"x"}"#,
                "its metadata is no JSON object that can be read in one way only",
            ),
            (r#"{"jwks_uri":"https://keys.test"}"#, "its metadata names no `issuer`"),
            (r#"{"issuer":["https://login.test/realm"]}"#, "its metadata names no `issuer`"),
            (r#"{"issuer":"https://login.test/realm"}"#, "its metadata names no `jwks_uri`"),
            (r#"{"issuer":"https://login.test/realm","jwks_uri":7}"#, "its metadata names no `jwks_uri`"),
        ] {
            assert_eq!(judged(document.as_bytes(), ISSUER), Err(error.to_owned()), "{document}");
        }
    }

    #[test]
    fn a_foreign_issuer_is_repeated_escaped_and_cut() {
        let document = format!(r#"{{"issuer":"\u001b[2J{}"}}"#, "x".repeat(5000));
        let error = judged(document.as_bytes(), ISSUER).unwrap_err();
        assert!(error.starts_with("its metadata is of the issuer \"\\u{1b}[2Jxxx") && error.len() < 400, "{error}");
    }
}
