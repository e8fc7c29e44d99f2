//! Everything that can break on our side of a request.

use crate::rejection::{Class, Stage};

macro_rules! failures {
    ($( $(#[doc = $doc:literal])* $stage:ident $variant:ident $({ $($field:ident : $type:ty),* $(,)? })? $code:literal $class:ident $message:literal; )*) => {
        /// What broke. `Display` is for operators and holds no secret.
        #[derive(Clone, Debug, thiserror::Error)]
        pub enum Failure { $( $(#[doc = $doc])* #[error($message)] $variant $({ $($field: $type),* })?, )* }

        impl Failure {
            /// All codes, in the order of the table.
            pub const CODES: &'static [&'static str] = &[$($code),*];

            /// The stable code: logs, metrics, `explain`, contract files.
            pub fn code(&self) -> &'static str {
                match self { $( Self::$variant { .. } => $code, )* }
            }

            pub fn class(&self) -> Class {
                match self { $( Self::$variant { .. } => Class::$class, )* }
            }

            pub fn stage(&self) -> Stage {
                match self { $( Self::$variant { .. } => Stage::$stage, )* }
            }

            /// The class that a code belongs to. `None` when no failure has that code.
            pub fn class_of_code(code: &str) -> Option<Class> {
                match code { $( $code => Some(Class::$class), )* _ => None }
            }
        }
    };
}

failures! {
    Forward UpstreamUnreachable { upstream: String, detail: String } "upstream_unreachable" BadGateway "cannot connect to {upstream}: {detail}";
    Forward UpstreamConnectTimeout { upstream: String } "upstream_connect_timeout" GatewayTimeout "{upstream} did not take the connection in time";
    Forward UpstreamTimeout { upstream: String } "upstream_timeout" GatewayTimeout "{upstream} did not answer in time";
    Forward UpstreamBroken { upstream: String, detail: String } "upstream_broken" BadGateway "{upstream} closed early or sent no HTTP: {detail}";
    Issuer StoreUnavailable { detail: String } "store_unavailable" Unavailable "the store cannot be used: {detail}";
    Issuer HashingBusy "hashing_busy" Unavailable "more logins wait for their password check than the queue holds";
    Listener Internal { detail: String } "internal" Internal "a defect of the gateway: {detail}";
}
