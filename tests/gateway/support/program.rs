//! Another program that listens: a proxy or a server, in a folder of its own. It ends with its value.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::until;

pub struct Program {
    pub address: SocketAddr,
    folder: TempDir,
    child: Child,
}

impl Program {
    /// Writes the files and starts `command` among them; returns once somebody listens at `address`. `package` is where
    /// the program comes from.
    pub fn start(address: SocketAddr, files: &[(&str, &str)], command: &[&str], package: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let log = fs::File::create(folder.path().join("program.log")).unwrap();
        let mut start = Command::new(command[0]);
        start.args(&command[1..]).current_dir(folder.path()).env("HOME", folder.path()).process_group(0);
        start.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = start.spawn().unwrap_or_else(|error| panic!("{}: {error}; it is in {package}", command[0]));
        let mut program = Self { address, folder, child };
        until(command[0], || {
            let ended = program.child.try_wait().unwrap();
            assert!(ended.is_none(), "{} ended: {}", command[0], program.said());
            TcpStream::connect(address).ok()
        });
        program
    }

    /// What it has written.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("program.log")).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // With the processes that it has started itself.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}
