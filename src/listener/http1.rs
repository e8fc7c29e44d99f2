//! HTTP/1.1 and HTTP/1.0: hyper behind the raw-head guard.

use std::pin::pin;

use hyper::server::conn::http1::Connection;
use hyper::service::service_fn;

use crate::listener::Handler;
use crate::listener::answer::{Answering, Taken};
use crate::listener::connection::Course;
use crate::listener::guard::{Guard, Refusals};
use crate::listener::timed_io::TimedIo;

/// Serves a connection on which a client speaks HTTP/1.
pub async fn serve<H: Handler>(io: TimedIo, answering: Answering<H>, course: Course) {
    let refusals = Refusals::default();
    let service = service_fn(|mut request| {
        let fault = refusals.claim(&mut request);
        // hyper keeps room for this future in each connection from its start. Boxed, its ten kilobytes are taken only while
        // a request is served.
        Box::pin(answering.clone().answer(request, fault, Taken::default()))
    });
    let settings = course.settings.clone();
    let io = Guard::new(io, settings.heads, refusals.clone());
    let http = pin!(settings.http.serve_connection(io, service));
    course.drive(http, Connection::graceful_shutdown).await;
}
