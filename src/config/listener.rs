//! `[[listener]]`: a socket that requests come in by.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::config::decode::{Decode, Decoder, Node, section};
use crate::config::report::Located;
use crate::config::value::ByteSize;

section! {
    /// `[[listener]]`
    pub struct Listener {
        /// The name that an `[[api]]` refers to.
        name: Located<String>,
        address: SocketAddr,
        /// Networks whose `X-Forwarded-For` or `Forwarded` header is believed. Nobody by default.
        trusted_proxies: Vec<Located<IpNet>> = Vec::new(),
        /// The API in whose error shapes a request is refused that belongs to no API; empty = RFC 9457.
        default_api: Option<Located<String>> = None,
        limits: ListenerLimits = ListenerLimits::default(),
        timeouts: ListenerTimeouts = ListenerTimeouts::default(),
    }
}

section! {
    /// `limits` of a listener.
    pub struct ListenerLimits: Default {
        /// Header fields of one request.
        headers: u64 = 100,
        /// Request line and header fields together.
        header_bytes: ByteSize = ByteSize(32 << 10),
        /// The request target.
        uri_bytes: ByteSize = ByteSize(8 << 10),
        /// Open connections: a number, or "auto" for what the file limit allows.
        connections: Count = Count::Auto,
    }
}

section! {
    /// `timeouts` of a listener.
    pub struct ListenerTimeouts: Default {
        /// From the first byte of a request to the end of its header fields.
        header: Duration = Duration::from_secs(10),
        /// A connection without a request.
        idle: Duration = Duration::from_secs(75),
        /// A body in either direction of which nothing moves.
        body_progress: Duration = Duration::from_secs(30),
    }
}

/// A number, or what the machine gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    Auto,
    Exactly(u64),
}

impl Decode for Count {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        if node.value.get_ref().as_str() == Some("auto") {
            return Some(Self::Auto);
        }
        match node.value.get_ref().as_integer().and_then(|number| number.as_str().parse().ok()) {
            Some(count @ 1..) => Some(Self::Exactly(count)),
            _ => decoder.mismatch(node, "\"auto\" or a number from 1"),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1 }] })
    }
}
