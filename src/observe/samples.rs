//! What the tests of this folder and of the modules below share.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use http::Method;

use crate::clock::Timestamp;
use crate::observe::{Record, Verdict};

/// A request that was refused: its key had been revoked.
pub fn refused(request_id: &str) -> Record {
    Record {
        at: Timestamp(1_710_583_200_250),
        request_id: request_id.to_owned(),
        verdict: Verdict::Refused,
        stage: Some("authenticate"),
        reason: Some("key_revoked"),
        detail: Some("the key key-abc was revoked".to_owned()),
        listener: "public".into(),
        api: "jobs".into(),
        route: "jobs-list".into(),
        protocol: "HTTP/1.1",
        method: Method::GET,
        host: "api.example.com".to_owned(),
        path: "/v1/jobs".to_owned(),
        client_ip: "203.0.113.9".parse().unwrap(),
        peer: "[::1]:51000".parse().unwrap(),
        credential: Some("api_key:key-abc".to_owned()),
        account: None,
        tenant: None,
        status: 401,
        duration_us: 81,
        upstream: None,
        upstream_us: None,
        bytes_in: 0,
        bytes_out: 52,
        user_agent: Some("curl/8.5".to_owned()),
    }
}

/// A sink that keeps what it is given.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
