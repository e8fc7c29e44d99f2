//! Asks the running server, by its admin listener.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

/// One request. Status and body of the answer.
///
/// # Errors
/// Where no server answers, with what would help.
pub fn call(address: SocketAddr, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
    let reach = || format!("no server answers on {address} (`admin.address`): start it, or use --offline");
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(2)).with_context(reach)?;
    socket.set_read_timeout(Some(Duration::from_secs(15)))?;
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    socket.take(1 << 20).read_to_string(&mut answer).context("the server's answer cannot be read")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the server's answer is no HTTP")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("the server's answer has no status")?;
    Ok((status, body.to_owned()))
}

/// What an error answer says.
pub fn error_of(body: &str) -> String {
    let error =
        serde_json::from_str::<Value>(body).ok().and_then(|body| body.get("error").and_then(Value::as_str).map(str::to_owned));
    error.unwrap_or_else(|| format!("the server answered {}", json!(body)))
}
