//! WHAT WAS ASKED. `gateway.toml` as typed values. One file per section; a value that exists is valid.

pub mod decode;
pub mod report;
pub mod value;

mod api;
mod limit;
mod listener;
mod path;
mod section;
mod server;
mod upstream;

pub use api::{
    Api, ApiCredentials, ApiIdentity, ApiTokens, CredentialHandling, EndpointChoice, OptionValue, Outside, Route, RouteIdentity,
    RouteTimeouts, SigningAlgorithm,
};
use decode::section;
pub use limit::{Algorithm, Count, KeyPart, Limit, Mode};
pub use listener::{Count as ConnectionCap, Listener, ListenerLimits, ListenerTimeouts};
pub use server::{AccessFormat, Admin, Level, Log, Server, Store, Workers};
pub use upstream::{Upstream, UpstreamTimeouts};

section! {
    /// The whole file.
    pub struct Config {
        server: Server = Server::default(),
        "listener" listeners: Vec<Listener> = Vec::new(),
        admin: Admin = Admin::default(),
        store: Store = Store::default(),
        "upstream" upstreams: Vec<Upstream> = Vec::new(),
        "api" apis: Vec<Api> = Vec::new(),
        log: Log = Log::default(),
    }
}
