//! Why nothing was fetched, for operators. Names the host and never the rest of the URL, which may hold a secret.

use std::net::IpAddr;
use std::time::Duration;

use http::StatusCode;
use thiserror::Error;

use crate::outbound::address::Kind;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FetchError {
    #[error("{host}: {why}")]
    Url { host: String, why: &'static str },
    #[error("{host} has the address {address}, which is {kind}: {rule}")]
    Address { host: String, address: IpAddr, kind: Kind, rule: &'static str },
    #[error("the name {host} cannot be resolved: {detail}")]
    Resolve { host: String, detail: String },
    #[error("{host} cannot be reached: {detail}")]
    Connect { host: String, detail: String },
    #[error("no TLS with {host}: {detail}")]
    Tls { host: String, detail: String },
    #[error("{host} cannot be trusted: this system has no certificates of authorities; name a file with `ca_file`")]
    NoAuthorities { host: String },
    #[error("{host} answered {status}, a redirect to {to}, which is not followed")]
    Redirect { host: String, status: StatusCode, to: String },
    #[error("{host} answered {status}")]
    Status { host: String, status: StatusCode },
    #[error("{host} answered in an encoding that was not asked for")]
    Encoded { host: String },
    #[error("the answer of {host} has more than {bytes} bytes")]
    TooLarge { host: String, bytes: usize },
    #[error("{host} took longer than {time:?}")]
    TooSlow { host: String, time: Duration },
    #[error("{host} broke off: {detail}")]
    Broken { host: String, detail: String },
}
