//! `[server]`, `[admin]`, `[store]` and `[log]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::database::StoreUrl;
use crate::config::decode::{Decode, Decoder, Node, section, words};

section! {
    /// `[server]`: the process.
    pub struct Server: Default {
        /// Threads that carry requests: a number, or "auto" for one per core.
        workers: Workers = Workers::Auto,
        /// How long requests in flight may go on after SIGTERM before they are cut.
        drain_timeout: Duration = Duration::from_secs(30),
        /// Whether a change of this file, or of a file that it names, is taken over by itself; `gateward reload` and SIGHUP
        /// do so in any case.
        watch: bool = true,
        /// A Unix socket by which `gateward serve --takeover` is handed the sockets of this process, to take its place without
        /// a connection being lost.
        upgrade_socket: Option<PathBuf> = None,
    }
}

section! {
    /// `[admin]`: the operators' listener with /healthz, /readyz and /metrics.
    pub struct Admin: Default {
        /// Where it listens; keep it off the public network.
        address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9901)),
    }
}

section! {
    /// `[store]`: accounts, sessions, keys, revocations, audit.
    pub struct Store: Default {
        /// "sqlite:PATH", relative to the folder of this file; for many nodes "postgres://USER:PASSWORD@HOST/DATABASE", with
        /// several hosts if one may take another's place, and `?sslmode=verify-full&sslrootcert=FILE` for TLS.
        url: StoreUrl = StoreUrl::Sqlite("gateward.db".into()),
        /// The key that encrypts signing keys at rest; made at first start if missing, mode 0600. Gateways on one database
        /// need the same file.
        encryption_key_file: PathBuf = PathBuf::from("gateward.key"),
    }
}

section! {
    /// `[log]`
    pub struct Log: Default {
        /// The least level that the diagnostic log on stderr shows: error, warn, info, debug or trace; RUST_LOG wins.
        level: Level = Level::Info,
        /// The form of the access log on stdout.
        access: AccessFormat = AccessFormat::Json,
    }
}

words! {
    /// Levels of the diagnostic log.
    pub enum Level { Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace" }
}

words! {
    /// Forms of the access log.
    pub enum AccessFormat { Json = "json", Text = "text", Off = "off" }
}

/// How many threads carry requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    Auto,
    Exactly(usize),
}

impl Decode for Workers {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        if node.value.get_ref().as_str() == Some("auto") {
            return Some(Self::Auto);
        }
        match node.whole_number().and_then(|number| usize::try_from(number).ok()) {
            Some(count @ 1..=1024) => Some(Self::Exactly(count)),
            _ => decoder.mismatch(node, "\"auto\" or a number from 1 to 1024"),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1024 }] })
    }
}
