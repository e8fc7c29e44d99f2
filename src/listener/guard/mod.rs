//! The raw-head guard. Stands between the socket and hyper, and judges every head and every body's framing before hyper
//! reads them: what hyper would settle in silence (a fragment, a lone LF, two lengths) or refuse in nobody's words is
//! refused here, and answered by the pipeline. What passes, hyper gets byte for byte; it reads the same requests in it.
//!
//! Knows no route and no field but Host, Content-Length and Transfer-Encoding. A body's data is never looked at.

mod syntax;
mod target;
mod head;
mod chunks;
mod stream;
mod refusal;
mod io;

pub use head::{HeadLimits, LONGEST_METHOD, content_length};
pub use io::Guard;
#[cfg(any(test, feature = "internals"))]
pub use oracle::hyper_reads_what_was_judged;
pub use refusal::{Fault, Refusals};
pub use syntax::malformed;
pub use target::check as check_target;

#[cfg(any(test, feature = "internals"))]
mod oracle;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
