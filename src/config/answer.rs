//! `redirect` and `respond` of a route: answers that stand in the config file.

use http::StatusCode;

use crate::config::decode::{Named, section};
use crate::config::report::{Located, Report};

section! {
    /// `redirect` of a route.
    pub struct Redirect {
        /// Where to: a URL or a path, e.g. "https://new.example.com{path}". `{path}` at its end is the path and the query that were asked for.
        to: Located<String>,
        /// 301, 302, 303, 307 or 308.
        status: u64 = 308,
    }
}

section! {
    /// `respond` of a route.
    pub struct FixedResponse {
        /// From 200 to 599.
        status: u64 = 200,
        /// What it says.
        body: String = String::new(),
        /// Of the body, where there is one.
        content_type: String = "text/plain; charset=utf-8".to_owned(),
        /// Further headers of the answer.
        headers: Named<Located<String>> = Named::default(),
    }
}

impl Redirect {
    /// Reports what is wrong within the section.
    pub fn check(&self, report: &mut Report) {
        if !REDIRECTS.contains(&self.status) {
            report.error(
                report.at(self.place, "status"),
                format!("{} redirects nobody: expected one of {REDIRECTS:?}", self.status),
            );
        }
        if let Err(why) = self.check_place() {
            report.error_with_help(
                self.to.place,
                why,
                "expected one such as \"https://new.example.com{path}\" or \"/new{path}\"",
            );
        }
    }

    /// What stands before `{path}`, and whether that follows.
    pub fn parts(&self) -> (&str, bool) {
        self.to.value.strip_suffix("{path}").map_or((self.to.value.as_str(), false), |base| (base, true))
    }

    /// What the client sends comes after a whole host: it never says which one.
    fn check_place(&self) -> Result<(), String> {
        let (base, keeps_path) = self.parts();
        let wrong = |why: &str| Err(format!("`{}` {why}", self.to.value));
        if base.contains(['{', '}']) {
            return wrong("has a placeholder that is no `{path}` at its end");
        }
        if keeps_path && (base.ends_with('/') || base.contains(['?', '#'])) {
            return wrong("has something between the host or segment and `{path}`");
        }
        let is_sound = match base.strip_prefix('/') {
            Some(rest) => !rest.starts_with(['/', '\\']) && base.parse::<http::Uri>().is_ok(),
            None => base.parse::<http::Uri>().is_ok_and(|uri| {
                let authority = uri.authority().map(http::uri::Authority::as_str);
                matches!(uri.scheme_str(), Some("http" | "https")) && authority.is_some_and(|text| !text.contains('@'))
            }),
        };
        if is_sound { Ok(()) } else { wrong("is neither a path nor a URL of http or https") }
    }
}

impl FixedResponse {
    /// Reports what is wrong within the section.
    pub fn check(&self, report: &mut Report) {
        let status = u16::try_from(self.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let place = report.at(self.place, "status");
        match status.filter(|status| (200..600).contains(&status.as_u16())) {
            None => report.error(place, format!("{} is no status of a whole answer: expected 200 to 599", self.status)),
            Some(StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED) if !self.body.is_empty() => {
                report.error(place, format!("an answer of status {} has no body", self.status));
            }
            Some(_) => {}
        }
        if http::HeaderValue::from_str(&self.content_type).is_err() {
            report.error(report.at(self.place, "content_type"), "`content_type` is no header value");
        }
    }
}

const REDIRECTS: [u64; 5] = [301, 302, 303, 307, 308];
