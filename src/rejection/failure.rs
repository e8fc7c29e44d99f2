//! Everything that can break on our side of a request.

use crate::rejection::table::reasons;

reasons! {
    /// What broke. `Display` is for operators and holds no secret.
    pub enum Failure {
        Authenticate KeysUnavailable { issuer: String, detail: String } "keys_unavailable" Unavailable "the keys of {issuer} are not known: {detail}";
        Authenticate KeysPending { issuer: String, kid: String } "keys_pending" Unavailable "the key {kid:?} of {issuer} is being asked for";
        Limit CountersUnavailable { detail: String } "counters_unavailable" Unavailable "the shared counters are away: {detail}";
        Forward UpstreamFull { upstream: String, requests: u64 } "upstream_full" Unavailable "{upstream} has {requests} requests to answer, which is its limit";
        Forward UpstreamUnreachable { upstream: String, detail: String } "upstream_unreachable" BadGateway "cannot connect to {upstream}: {detail}";
        Forward UpstreamConnectTimeout { upstream: String } "upstream_connect_timeout" GatewayTimeout "{upstream} did not take the connection in time";
        Forward UpstreamTimeout { upstream: String } "upstream_timeout" GatewayTimeout "{upstream} did not answer in time";
        Forward UpstreamBroken { upstream: String, detail: String } "upstream_broken" BadGateway "{upstream} closed early or sent no HTTP: {detail}";
        Issuer StoreUnavailable { detail: String } "store_unavailable" Unavailable "the store cannot be used: {detail}";
        Issuer HashingBusy "hashing_busy" Unavailable "more logins wait for their password check than the queue holds";
        Listener Internal { detail: String } "internal" Internal "a defect of the gateway: {detail}";
    }
}
