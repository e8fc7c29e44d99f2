//! An identity provider: signs tokens, and tells its keys to whoever asks, as well or badly as a test wants.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// How it answers when asked for its keys.
#[derive(Clone)]
pub enum Telling {
    Keys,
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// Nothing, for ever.
    Silence,
}

/// It speaks plain HTTP on a loopback address.
pub struct Provider {
    pub address: SocketAddr,
    shared: Arc<Mutex<State>>,
}

struct State {
    issuer: String,
    keys: Vec<(String, Ed25519KeyPair)>,
    telling: Telling,
    fetches: usize,
}

impl Provider {
    /// With one key, called `one`.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let keys = vec![("one".to_owned(), Ed25519KeyPair::generate().unwrap())];
        let issuer = format!("http://{address}");
        let shared = Arc::new(Mutex::new(State { issuer, keys, telling: Telling::Keys, fetches: 0 }));
        let serving = shared.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = serving.clone();
                thread::spawn(move || answer(socket, &shared));
            }
        });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What its metadata says that it is called, instead of its address.
    pub fn call_itself(&self, issuer: &str) {
        self.shared.lock().unwrap().issuer = issuer.to_owned();
    }

    pub fn tell(&self, telling: Telling) {
        self.shared.lock().unwrap().telling = telling;
    }

    pub fn add_key(&self, kid: &str) {
        self.shared.lock().unwrap().keys.push((kid.to_owned(), Ed25519KeyPair::generate().unwrap()));
    }

    /// It signs with it no more, and tells it no more.
    pub fn drop_key(&self, kid: &str) {
        self.shared.lock().unwrap().keys.retain(|(known, _)| known != kid);
    }

    /// How often its keys were asked for.
    pub fn fetches(&self) -> usize {
        self.shared.lock().unwrap().fetches
    }

    /// A token with these members beside `iss`, `aud`, `sub`, `iat`, `exp` and `jti`.
    pub fn token(&self, more: &Value) -> String {
        self.signed("one", &json!({ "typ": "at+jwt" }), more)
    }

    /// The same, by one of its keys and with other members of the header. A member that is null is left out.
    pub fn signed(&self, kid: &str, header: &Value, more: &Value) -> String {
        let state = self.shared.lock().unwrap();
        let key = &state.keys.iter().find(|(known, _)| known == kid).unwrap().1;
        let mut head = json!({ "alg": "EdDSA", "kid": kid });
        let mut claims = json!({
            "iss": self.url(), "aud": "https://api.test", "sub": "ext-1", "jti": "t-1", "iat": 1_700_000_000, "exp": 4_000_000_000_u64,
        });
        for (target, source) in [(&mut head, header), (&mut claims, more)] {
            target.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
            target.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        }
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(head.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes())))
    }
}

fn answer(mut socket: TcpStream, shared: &Mutex<State>) {
    let mut head = Vec::new();
    let mut one = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read(&mut one) {
            Ok(1) => head.push(one[0]),
            Ok(_) | Err(_) => return,
        }
    }
    let (body, telling) = {
        let mut state = shared.lock().unwrap();
        if head.starts_with(b"GET /.well-known/openid-configuration ") {
            let address = socket.local_addr().unwrap();
            (json!({ "issuer": state.issuer, "jwks_uri": format!("http://{address}/keys") }), Telling::Keys)
        } else {
            state.fetches += 1;
            let jwk = |(kid, key): &(String, Ed25519KeyPair)| json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": URL_SAFE_NO_PAD.encode(key.public_key().as_ref()) });
            (json!({ "keys": state.keys.iter().map(jwk).collect::<Vec<_>>() }), state.telling.clone())
        }
    };
    let body = body.to_string();
    let whole = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    match telling {
        Telling::Keys => drop(socket.write_all(whole.as_bytes())),
        Telling::Bytes(bytes) => drop(socket.write_all(&bytes)),
        // Until the other end has had enough.
        Telling::Silence => drop(socket.read(&mut one)),
    }
}
