//! A Redis server that keeps nothing on disk unless it is told to.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::servers::{free_address, listens, redis_cli, signal, spawn, until};

pub struct Redis {
    pub address: SocketAddr,
    pub folder: TempDir,
    options: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    /// A server that takes commands.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more options of the command line, such as `["--maxmemory", "2mb"]`.
    pub fn start_with(options: &[&str]) -> Self {
        let options = options.iter().map(|word| (*word).to_owned()).collect();
        let mut server = Self { address: free_address(), folder: tempfile::tempdir().unwrap(), options, child: None };
        server.restart();
        server
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Starts the process again on the same port and folder. Without `--appendonly yes` it knows nothing of before.
    pub fn restart(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("server.log")).unwrap();
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.address.port().to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--dir", &self.folder.path().to_string_lossy()]).args(&self.options);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(spawn(&mut command, "redis-server"));
        until("the start of Redis", || listens(self.address).filter(|_| self.command(&["PING"]) == "PONG"));
    }

    /// What `redis-cli` prints of a command.
    pub fn command(&self, words: &[&str]) -> String {
        redis_cli(self.address, words)
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Sends the process a signal: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        signal(self.child.as_ref().unwrap(), name);
    }

    /// Ends the process at once, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
