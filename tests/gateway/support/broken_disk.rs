//! A disk that fails or is slow for one process: strace answers its system calls on the store's files.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::Gateway;

/// Ends with its value; the process goes on and its calls are its own again.
pub struct BrokenDisk(Child);

impl BrokenDisk {
    /// Every write into the store is answered with this error, such as `EROFS`.
    pub fn failing(gateway: &Gateway, error: &str) -> Self {
        Self::inject(gateway, &format!("inject=write,pwrite64:error={error}"), "trace=write,pwrite64")
    }

    /// Whoever waits until the disk has everything waits this much longer.
    pub fn slow(gateway: &Gateway, milliseconds: u32) -> Self {
        Self::inject(gateway, &format!("inject=fsync,fdatasync:delay_enter={}", milliseconds * 1000), "trace=fsync,fdatasync")
    }

    fn inject(gateway: &Gateway, injection: &str, calls: &str) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &gateway.pid().to_string(), "-o", "/dev/null", "-e", calls, "-e", injection]);
        for name in ["gateward.db", "gateward.db-wal"] {
            command.arg("-P").arg(gateway.folder.path().join(name));
        }
        let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("strace: {error}; it is in Debian's package strace"));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let attached = lines.find(|line| line.contains("attached") || line.contains("not permitted"));
        assert!(attached.as_ref().is_some_and(|line| line.contains("attached")), "{attached:?}: strace needs the right to trace");
        // Whoever reads no more would stop strace, and the process with it.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }
}

impl Drop for BrokenDisk {
    fn drop(&mut self) {
        // It lets the process go when it is told to end, not when it is killed.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}
