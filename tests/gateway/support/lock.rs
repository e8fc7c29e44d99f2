//! The store's file, in the hands of another process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Holds a lock on the store in a folder from another process until it is dropped.
pub struct Lock(Child);

impl Lock {
    /// `kind` is SQLite's word: IMMEDIATE keeps writers out, EXCLUSIVE readers too.
    pub fn on(folder: &Path, kind: &str) -> Self {
        let script = format!(
            "import sqlite3,sys\nc=sqlite3.connect('gateward.db',isolation_level=None)\nc.execute('BEGIN {kind}')\n\
                      print('held',flush=True)\nsys.stdin.read()\nc.execute('ROLLBACK')"
        );
        let mut child = Command::new("python3")
            .args(["-c", &script])
            .current_dir(folder)
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

/// What SQLite says of the file, and how many keys have no line in the audit trail or a line no key.
pub fn soundness(folder: &Path) -> String {
    let script = "import sqlite3\nc=sqlite3.connect('gateward.db')\nprint(c.execute('PRAGMA integrity_check').fetchone()[0])\n\
        made=set(r[0] for r in c.execute(\"select object from audit where done=1 and action like 'key%creat%'\"))\n\
        keys=set(r[0] for r in c.execute('select id from keys'))\nprint(len(keys^made), len(keys)>0)";
    let output = Command::new("python3").args(["-c", script]).current_dir(folder).output().unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}
