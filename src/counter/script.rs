//! A Lua script, which the server keeps under the SHA-1 of its text.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use redis::{Cmd, ErrorKind, ServerErrorKind, Value, cmd, from_redis_value};

use crate::counter::Unavailable;
use crate::counter::link::Link;

/// A script over one key that returns integers. What it does happens as a whole or not at all.
#[derive(Debug)]
pub struct Script {
    source: String,
    /// In hexadecimal digits: the name that EVALSHA knows the text by.
    sha1: String,
}

impl Script {
    /// A script of this text, in which the key is `KEYS[1]` and the arguments are `ARGV[1]` and so on, as decimal digits.
    pub fn new(source: impl Into<String>) -> Self {
        let source = source.into();
        let mut sha1 = String::with_capacity(40);
        for byte in digest(&SHA1_FOR_LEGACY_USE_ONLY, source.as_bytes()).as_ref() {
            let _ = write!(sha1, "{byte:02x}");
        }
        Self { source, sha1 }
    }

    /// Runs it. A server that does not know it, because it was restarted or told to forget, is sent the text.
    pub(super) async fn run(&self, link: &mut Link, key: &[u8], arguments: &[i64]) -> Result<Vec<i64>, Unavailable> {
        let by_name = link.query(&invocation("EVALSHA", &self.sha1, key, arguments)).await;
        let value: Value = match by_name {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                link.query(&invocation("EVAL", &self.source, key, arguments)).await?
            }
            outcome => outcome?,
        };
        from_redis_value(value).map_err(|_| Unavailable::Malformed)
    }
}

fn invocation(command: &str, script: &str, key: &[u8], arguments: &[i64]) -> Cmd {
    let mut invocation = cmd(command);
    invocation.arg(script).arg(1).arg(key).arg(arguments);
    invocation
}
