//! For tests: a server that says what it was told to, with TLS or without, and keeps what it was asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

pub struct Server {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

/// What is done with a request, given its head. The connection closes after it.
pub enum Reply {
    Bytes(Vec<u8>),
    /// These, and then the second ones without end.
    Endless(Vec<u8>, Vec<u8>),
    /// These, and then a byte now and then, without end.
    Drip(Vec<u8>),
    /// Nothing, and the connection stays open.
    Silence,
}

/// A key, and a certificate that it signed itself.
pub struct Identity {
    pub pem: String,
    config: Arc<ServerConfig>,
}

impl Server {
    /// `answer` gets the request's head.
    pub fn http(answer: impl FnMut(&str) -> Reply + Send + 'static) -> Self {
        Self::start(None, answer)
    }

    pub fn https(identity: &Identity, answer: impl FnMut(&str) -> Reply + Send + 'static) -> Self {
        Self::start(Some(identity.config.clone()), answer)
    }

    fn start(tls: Option<Arc<ServerConfig>>, mut answer: impl FnMut(&str) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let kept = heads.clone();
        // One connection after the other; the thread ends with the test's process.
        thread::spawn(move || {
            for socket in listener.incoming() {
                let socket = socket.unwrap();
                let mut pause = socket.try_clone().unwrap();
                let mut answer = |head: String| {
                    kept.lock().unwrap().push(head.clone());
                    answer(&head)
                };
                match &tls {
                    Some(tls) => {
                        let connection = ServerConnection::new(tls.clone()).unwrap();
                        converse(StreamOwned::new(connection, socket), &mut pause, &mut answer);
                    }
                    None => converse(socket, &mut pause, &mut answer),
                }
            }
        });
        Self { address, heads }
    }

    /// `scheme` and `path` around "localhost".
    pub fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://localhost:{}{path}", self.address.port())
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
}

impl Reply {
    /// Status 200 with this body.
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::with("200 OK", "", body)
    }

    /// `fields` end with a line break each.
    pub fn with(status: &str, fields: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 {status}\r\n{fields}content-length: {}\r\n\r\n", body.len());
        Self::Bytes([head.as_bytes(), body].concat())
    }
}

impl Identity {
    pub fn of(name: &str) -> Self {
        Self::until(name, 4000)
    }

    /// Good until the year begins.
    pub fn until(name: &str, year: i32) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        Self { pem: certificate.pem(), config: Arc::new(config) }
    }

    /// Writes the certificate where a `ca_file` may name it.
    pub fn save(&self, file: &Path) {
        std::fs::write(file, &self.pem).unwrap();
    }
}

/// Reads one request and does what is answered. A client that goes away ends it.
fn converse(mut stream: impl Read + Write, pause: &mut TcpStream, answer: &mut dyn FnMut(String) -> Reply) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let mut send = |bytes: &[u8]| stream.write_all(bytes).and_then(|()| stream.flush());
    let end = match answer(String::from_utf8(head).unwrap()) {
        Reply::Bytes(bytes) => send(&bytes),
        Reply::Endless(first, again) => send(&first).and_then(|()| {
            loop {
                send(&again)?;
            }
        }),
        Reply::Drip(first) => send(&first).and_then(|()| {
            pause.set_read_timeout(Some(Duration::from_millis(20)))?;
            // The client says nothing more: this read is a pause that a client who goes away ends.
            while !matches!(pause.read(&mut byte), Ok(0)) {
                send(b" ")?;
            }
            Ok(())
        }),
        Reply::Silence => pause.read(&mut byte).map(|_| ()),
    };
    // Failing means that the client went away, which is what some tests are about.
    let _ = end;
}
