//! HOW AN API SPEAKS. A contract file says how one API's clients log in, refresh, carry credentials and are told no;
//! this module turns it, with the `[[api]]` section that uses it, into an [`Api`]. It decides nothing about a request.

mod api;
mod builtin;
mod check;
mod compile;
mod errors;
mod facts;
mod features;
mod fields;
mod file;
mod operation;
mod overlay;
mod placeholder;
mod routes;
mod template;

pub use api::{Access, Api, Carrier, Demand, Endpoint, Limit, Route, Target};
#[cfg(any(test, feature = "internals"))]
pub use compile::compile_text;
pub use compile::{Surroundings, compile, demo_contracts};
pub use errors::{ErrorAnswer, ErrorTable};
#[cfg(any(test, feature = "internals"))]
pub use facts::ErrorFacts;
pub use facts::{ApiFacts, CallerFacts, Facts, KeyFacts, PageFacts, TokenFacts};
pub use features::{Cors, Fixed};
pub use fields::Inputs;
pub use file::LimitHeaders;
pub use operation::{Input, Operation};
pub use placeholder::Placeholder;
#[cfg(any(test, feature = "internals"))]
pub use template::Template;

#[cfg(test)]
mod tests;
