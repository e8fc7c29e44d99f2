//! The gateway from outside: the real binary, real sockets, a raw upstream that records every byte it is sent.
#![cfg(test)]

mod support;

mod access;
mod credentials;
mod headers;
mod issuing;
mod paths;
