//! The gateway as somebody's child who reads its logs, or does not.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::support::{Gateway, until};

/// A process with pipes for its logs, killed when the test ends in any way.
pub struct Piped {
    pub child: Child,
}

impl Piped {
    pub fn start(gateway: &Gateway) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_gateward"))
            .args(["serve", "--config", "gateway.toml"])
            .current_dir(gateway.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let piped = Self { child };
        until("the gateway", || TcpStream::connect(gateway.address).ok());
        piped
    }

    /// Its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        assert!(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success());
        until("the end", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
