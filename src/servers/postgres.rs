//! A Postgres server, and replicas of it. Run by root it becomes the system's user `postgres`, because the server
//! refuses to be root.
//!
//! It does not wait for the disk (`fsync=off`): what a killed process had written is with the kernel and stays, so that
//! only the loss of the whole machine would be seen. `start_with(&["-c", "fsync=on"])` takes that back.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::servers::{free_address, listens, spawn, until};

pub struct Postgres {
    pub address: SocketAddr,
    /// The data, the Unix socket and `server.log`; the server's user owns it.
    pub folder: TempDir,
    options: Vec<String>,
    child: Option<Child>,
}

/// Whether a commit on the primary waits for the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    Asynchronous,
    Synchronous,
}

impl Postgres {
    /// A server that answers, with the empty database `postgres`.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more options of the command line, such as `["-c", "max_connections=5"]`.
    pub fn start_with(options: &[&str]) -> Self {
        let mut server = Self::stopped(options);
        server.restart();
        server
    }

    /// A server that [`Postgres::restart`] starts: what its options name can be put into its folder before.
    pub fn stopped(options: &[&str]) -> Self {
        let server = Self::in_new_folder(options.iter().map(|option| (*option).to_owned()).collect());
        let copied = as_server("cp").arg("--archive").args([&template(), &server.data()]).status().unwrap();
        assert!(copied.success(), "the template cannot be copied");
        server
    }

    /// Anyone who reaches the server may be anyone; this is the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@{}/{database}", self.address)
    }

    /// Writes a file that the server may read and nobody else.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        give_to_server(&path);
        path
    }

    /// Starts the process again on the same port and data.
    pub fn restart(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("server.log")).unwrap();
        let mut command = as_server(bin("postgres"));
        command.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
        command.args(["-h", "127.0.0.1", "-p", &self.address.port().to_string()]);
        command.args(["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=50"]).args(&self.options);
        command.current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(spawn(&mut command, "postgresql"));
        until("the start of Postgres", || listens(self.address).filter(|_| self.answers()));
    }

    /// What `psql` prints of a statement: a line for each row, `|` between columns.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let output = self.run_psql(database, sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Sends a signal (`STOP`, `CONT`) to the server and to the process of each connection.
    pub fn signal(&self, name: &str) {
        let mut processes = self.children();
        processes.insert(0, self.process());
        send(name, &processes);
    }

    /// Ends all its processes at once, as a crash of the machine does.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // A server that is stopped cannot start processes while its others are looked up.
        send("STOP", &[child.id()]);
        let children = children_of(child.id());
        child.kill().unwrap();
        send("KILL", &children);
        child.wait().unwrap();
        until("the end of Postgres' processes", || children.iter().all(|id| !is_running(*id)).then_some(()));
    }

    /// Ends it as `systemctl stop` does: connections are cut, data are written.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            send("INT", &[child.id()]);
            child.wait().unwrap();
        }
    }

    /// A replica that has what this server has and follows it.
    pub fn start_replica(&self, replication: Replication) -> Self {
        let mut replica = Self::in_new_folder(self.options.clone());
        let mut copy = as_server(bin("pg_basebackup"));
        copy.args(["-h", "127.0.0.1", "-p", &self.address.port().to_string(), "-U", USER]).arg("-D").arg(replica.data());
        copy.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
        let output = copy.current_dir(replica.folder.path()).output().unwrap();
        assert!(output.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&output.stderr));
        replica.restart();
        until("the replica", || {
            (self.psql("postgres", "SELECT count(*) > 0 FROM pg_stat_replication WHERE state = 'streaming'") == "t").then_some(())
        });
        if replication == Replication::Synchronous {
            self.psql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
            self.psql("postgres", "SELECT pg_reload_conf()");
            until("synchronous replication", || {
                (self.psql("postgres", "SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync'") == "t")
                    .then_some(())
            });
        }
        replica
    }

    /// Makes a replica a server of its own, which takes writes. Returns when it does.
    pub fn promote(&self) {
        // What it copied from its primary would make it wait for a replica that it does not have.
        self.psql("postgres", "ALTER SYSTEM RESET synchronous_standby_names");
        assert_eq!(self.psql("postgres", "SELECT pg_promote()"), "t");
    }

    fn in_new_folder(options: Vec<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        give_to_server(folder.path());
        Self { address: free_address(), folder, options, child: None }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn process(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    fn children(&self) -> Vec<u32> {
        children_of(self.process())
    }

    fn answers(&self) -> bool {
        self.run_psql("postgres", "SELECT 1").status.success()
    }

    fn run_psql(&self, database: &str, sql: &str) -> std::process::Output {
        let mut psql = Command::new(bin("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "-v", "ON_ERROR_STOP=1"]);
        psql.args(["-d", &self.url(database), "-c", sql]).stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A data folder as `initdb` makes it, made once on this machine: making one takes a second, copying it a tenth.
fn template() -> PathBuf {
    let version = bin("").parent().and_then(Path::file_name).unwrap().to_string_lossy().into_owned();
    let template = std::env::temp_dir().join(format!("gateward-tests-postgres-{version}-{}", own_user()));
    if !template.exists() {
        let draft = tempfile::tempdir().unwrap();
        give_to_server(draft.path());
        let data = draft.path().join("data");
        let mut make = as_server(bin("initdb"));
        make.arg("-D").arg(&data).args(["-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]);
        let output = make.args(["--no-sync", "--wal-segsize=1"]).current_dir(draft.path()).output().unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        // Whole or not at all; another test may have been faster, and its template is as good.
        let renamed = fs::rename(&data, &template);
        assert!(template.exists(), "{renamed:?}");
    }
    template
}

/// A program of the newest Postgres on this machine; Debian keeps them out of the path.
fn bin(program: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let numbered = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let newest = numbered.max().expect("Postgres; it is in Debian's package postgresql");
    Path::new("/usr/lib/postgresql").join(newest.to_string()).join("bin").join(program)
}

/// A command that runs as the user who may run the server.
fn as_server(program: impl AsRef<std::ffi::OsStr>) -> Command {
    if own_user() != ROOT {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

fn give_to_server(path: &Path) {
    if own_user() == ROOT {
        assert!(Command::new("chown").arg("postgres:postgres").arg(path).status().unwrap().success());
    }
}

fn own_user() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

/// Each process of a server leads a group of its own; only their parent tells that they belong together.
fn children_of(process: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    listed.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

/// Not for a zombie, which only waits to be counted.
fn is_running(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

/// One that has ended meanwhile is no error.
fn send(signal: &str, processes: &[u32]) {
    if !processes.is_empty() {
        let ids = processes.iter().map(u32::to_string);
        Command::new("kill").arg(format!("-{signal}")).args(ids).stderr(Stdio::null()).status().unwrap();
    }
}

const USER: &str = "gateward";
const ROOT: u32 = 0;
