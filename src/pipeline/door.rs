//! What the pipeline knows of a listener: how large a head may be, and who answers what belongs to no API.

use std::sync::Arc;
use std::time::Duration;

use http::header;

use crate::pipeline::exchange::Exchange;
use crate::rejection::Denial;

/// A listener.
pub struct Door {
    pub name: Arc<str>,
    /// The API that answers what belongs to none.
    pub default_api: Option<usize>,
    pub max_uri_bytes: u64,
    pub max_head_bytes: u64,
    pub max_headers: u64,
    /// How long a body may stand still.
    pub body_progress: Duration,
}

impl Door {
    /// Whether a head keeps to the listener's limits.
    ///
    /// # Errors
    /// [`Denial::UriTooLong`], [`Denial::TooManyHeaders`], [`Denial::HeadTooLarge`] and [`Denial::ExpectationUnknown`].
    pub fn check(&self, exchange: &Exchange) -> Result<(), Denial> {
        let count = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
        let target = exchange.uri.path_and_query().map_or(0, |target| target.as_str().len());
        if count(target) > self.max_uri_bytes {
            return Err(Denial::UriTooLong { limit: self.max_uri_bytes });
        }
        if count(exchange.headers.len()) > self.max_headers {
            return Err(Denial::TooManyHeaders { limit: self.max_headers });
        }
        // As on the wire: `name: value` and a line end.
        let fields: usize = exchange.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if count(fields + target) > self.max_head_bytes {
            return Err(Denial::HeadTooLarge { limit: self.max_head_bytes });
        }
        let expectation = exchange.headers.get(header::EXPECT);
        match expectation.is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
            true => Ok(()),
            false => Err(Denial::ExpectationUnknown),
        }
    }
}
