//! The sample API of `gateward demo`: answers every request with what it saw of it, as JSON. Stands for an API that a
//! gateway is put in front of; it checks nothing.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use http::{HeaderValue, Request, Response, header};
use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;

use crate::body::{Body, Incoming};
use crate::config;
use crate::listener::{self, ConnectionInfo, Fault, Handler, Live, Settings};

/// A running sample API. Dropping it stops it.
pub struct Sample {
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
}

impl Sample {
    /// Starts it on a free port of the loopback address.
    ///
    /// # Errors
    /// When there is no free port or no thread.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Starts it on an address; port 0 is a free one.
    ///
    /// # Errors
    /// When the address cannot be had, or no thread.
    pub fn start_on(address: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpListener::bind(address).with_context(|| format!("the sample API cannot have {address}"))?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let (stop, stopping) = watch::channel(false);
        let run = move || -> anyhow::Result<()> {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
            let settings = Live::new(Settings::new(&config::Listener::default(), 1, Duration::from_secs(1)));
            runtime.block_on(listener::serve(socket, settings, Rc::new(Echo), stopping))?;
            Ok(())
        };
        std::thread::Builder::new().name("sample-api".to_owned()).spawn(run).context("the sample API cannot be started")?;
        Ok(Self { address, stop })
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

struct Echo;

impl Handler for Echo {
    async fn call(&self, request: Request<Incoming>, _: ConnectionInfo, fault: Option<Fault>) -> Response<Body> {
        if let Some(fault) = fault {
            let mut response = Response::new(Body::full(format!("{}\n", fault.denial)));
            *response.status_mut() = fault.denial.class().default_status();
            return response;
        }
        let (parts, incoming) = request.into_parts();
        let mut headers = Map::new();
        for (name, value) in &parts.headers {
            headers.insert(name.to_string(), Value::String(String::from_utf8_lossy(value.as_bytes()).into_owned()));
        }
        let body = match Body::from_client(incoming, Some(64 << 10), Duration::from_secs(10)) {
            Ok(body) => body.collect(64 << 10).await.unwrap_or_default(),
            Err(_) => bytes::Bytes::new(),
        };
        let path = parts.uri.path();
        let seen = json!({
            "method": parts.method.as_str(),
            "path": path,
            "query": parts.uri.query(),
            "headers": headers,
            "body": String::from_utf8_lossy(&body),
        });
        let mut response = Response::new(Body::full(format!("{seen:#}\n")));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
