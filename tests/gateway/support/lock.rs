//! Another process that has the store.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::Gateway;

/// Holds a lock on a gateway's store from another process until it is dropped.
pub struct Lock(Child);

impl Lock {
    /// `kind` is SQLite's word: IMMEDIATE keeps writers out, EXCLUSIVE readers too.
    pub fn on(gateway: &Gateway, kind: &str) -> Self {
        let script = format!(
            "import sqlite3,sys\nc=sqlite3.connect('gateward.db',isolation_level=None)\nc.execute('BEGIN {kind}')\n\
                      print('held',flush=True)\nsys.stdin.read()\nc.execute('ROLLBACK')"
        );
        let mut child = Command::new("python3")
            .args(["-c", &script])
            .current_dir(gateway.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self(child)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}
