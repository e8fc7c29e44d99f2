//! WHAT WAS ASKED. `gateway.toml` as typed values. One file per section; a value that exists is valid.

pub mod decode;
pub mod report;
pub mod value;

mod answer;
mod api;
mod cors;
mod counters;
mod database;
mod files;
mod interpolate;
mod issuer;
mod limit;
mod listener;
mod load;
mod outline;
mod path;
mod resolve;
mod route;
mod schema;
mod section;
mod server;
mod tls;
mod upstream;

pub use api::{
    Api, ApiCertificate, CertificateAccounts, CredentialHandling, EndpointChoice, OptionValue, Outside, SigningAlgorithm,
    check_identity_header,
};
pub use cors::{Cors, OriginPattern};
pub use counters::{Counters, CountersUrl, RedisUrl, ServerAddress, Servers};
pub use database::{PostgresHost, PostgresTls, PostgresUrl, StoreUrl};
use decode::section;
pub use files::{Content, UsedFile, content};
pub use issuer::{AccountSource, Issuer, JwsAlgorithm, KeysFrom};
pub use limit::{Algorithm, Count, KeyPart, Limit, Mode, OnOutage};
pub use listener::{Count as ConnectionCap, Listener, ListenerTimeouts, ProxyProtocol, TrustedProxies};
pub use load::load;
#[cfg(any(test, feature = "internals"))]
pub use load::{Loaded, parse};
pub use outline::{Around, Difference, Outline};
pub use route::{HeaderChanges, Route};
pub use schema::schema;
pub use server::{AccessFormat, Admin, Level, Log, Server, Store, Workers};
pub use tls::{CertificateName, CertificatePair, ClientAuth, ListenerTls, TlsVersion};
pub use upstream::{Balance, Upstream, UpstreamLimits, UpstreamRetries, UpstreamTimeouts, UpstreamTls};

section! {
    /// The whole file.
    pub struct Config {
        /// The process.
        server: Server = Server::default(),
        /// Sockets that requests come in by; without any, "public" on 127.0.0.1:8080.
        "listener" listeners: Vec<Listener> = Vec::new(),
        /// The operators' listener with /healthz, /readyz and /metrics.
        admin: Admin = Admin::default(),
        /// Accounts, sessions, keys, revocations, audit.
        store: Store = Store::default(),
        /// Rate limits and news of revocations, for this process alone or for all gateways together.
        counters: Counters = Counters::default(),
        /// The servers of an API.
        "upstream" upstreams: Vec<Upstream> = Vec::new(),
        /// The APIs behind the gateway, at least one.
        "api" apis: Vec<Api> = Vec::new(),
        /// What is written to stderr and stdout.
        log: Log = Log::default(),
    }
}

#[cfg(test)]
mod tests;
