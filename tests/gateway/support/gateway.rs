//! The gateway as a child process in a folder of its own.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::servers::free_address;
use crate::support::{Answer, Client, until};

/// One line of the access log.
pub type LogLine = Value;

pub struct Gateway {
    pub folder: TempDir,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    child: Option<Child>,
    /// Put before the command, e.g. `ulimit -n 64`.
    limits: String,
}

impl Gateway {
    /// Starts the gateway with the given `[[api]]` sections and everything below them.
    pub fn start(apis: &str) -> Self {
        Self::start_with("", apis)
    }

    /// The same with members for `[[listener]]`.
    pub fn start_with(listener: &str, apis: &str) -> Self {
        let mut gateway = Self::prepare(listener, apis);
        gateway.restart();
        gateway
    }

    /// In front of `upstream`, with the contract that the clients' documents describe.
    pub fn infracast(upstream: &str) -> Self {
        Self::start(&format!("[[api]]\nupstream = \"{upstream}\"\ncontract = \"infracast\"\n"))
    }

    /// Writes the config and starts nothing.
    pub fn prepare(listener: &str, apis: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (address, admin) = (free_address(), free_address());
        let config = format!(
            "[server]\nworkers = 1\ndrain_timeout = \"5s\"\n\n[[listener]]\nname = \"public\"\naddress = \"{address}\"\n{listener}\n\n\
             [admin]\naddress = \"{admin}\"\n\n{apis}"
        );
        fs::write(folder.path().join("gateway.toml"), config).unwrap();
        Self { folder, address, admin, child: None, limits: String::new() }
    }

    pub fn limited(mut self, limits: &str) -> Self {
        self.limits = format!("{limits}; ");
        self
    }

    /// Starts the process on the same folder and waits until it is ready.
    pub fn restart(&mut self) {
        self.spawn();
        self.wait_until_ready();
    }

    pub fn wait_until_ready(&mut self) {
        until("the gateway to be ready", || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the gateway ended: {}", self.stderr());
            let ready = std::net::TcpStream::connect(self.admin).ok().and_then(|_| self.try_admin("GET /readyz"));
            ready.filter(|answer| answer.status == 200)
        });
    }

    pub fn config(&self) -> String {
        fs::read_to_string(self.folder.path().join("gateway.toml")).unwrap()
    }

    /// Writes the config anew, in one step as editors and tools do.
    pub fn write_config(&self, text: &str) {
        fs::write(self.folder.path().join("next.toml"), text).unwrap();
        fs::rename(self.folder.path().join("next.toml"), self.folder.path().join("gateway.toml")).unwrap();
    }

    /// Changes the config and has it taken over.
    pub fn reload_with(&self, change: impl FnOnce(String) -> String) -> Answer {
        self.write_config(&change(self.config()));
        self.admin("POST /reload")
    }

    /// Has a new process take the place of the one that runs, and waits until it is ready. The old one.
    pub fn succeed(&mut self) -> Child {
        let old = self.child.take().unwrap();
        self.spawn_with(&["--takeover"]);
        self.wait_until_ready();
        old
    }

    /// Starts the process and waits for nothing.
    pub fn spawn(&mut self) {
        self.spawn_with(&[]);
    }

    /// The same with more arguments.
    pub fn spawn_with(&mut self, arguments: &[&str]) {
        let file = |name: &str| fs::File::options().create(true).append(true).open(self.folder.path().join(name)).unwrap();
        let mut command = Command::new("bash");
        command.arg("-c").arg(format!("{}exec \"$0\" \"$@\"", self.limits)).arg(env!("CARGO_BIN_EXE_gateward"));
        command.args(["serve", "--config", "gateway.toml"]).args(arguments).current_dir(self.folder.path()).process_group(0);
        self.child = Some(command.stdin(Stdio::null()).stdout(file("access.log")).stderr(file("stderr.log")).spawn().unwrap());
    }

    /// Runs it to its end, for starts that must fail. Exit code and stderr.
    pub fn run_to_end(&mut self) -> (Option<i32>, String) {
        self.spawn();
        let code = until("the end of a start that must fail", || self.ended());
        (code, self.stderr())
    }

    /// Runs a command of the command line on this gateway's config.
    pub fn cli(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gateward"))
            .args(arguments)
            .args(["--config", "gateway.toml"])
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// The same, of a command that must work: what it prints.
    pub fn cli_ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.cli(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Adds an account and waits until the running server knows it.
    pub fn add_user(&self, name: &str, password: &str, roles: &[&str]) -> String {
        let mut arguments = vec!["user", "add", name, "--password-stdin", "--json"];
        for role in roles {
            arguments.extend([if role.contains('=') { "--tenant" } else { "--role" }, role]);
        }
        let added: Value = serde_json::from_str(&self.cli_ok(&arguments, password)).unwrap();
        added["id"].as_str().unwrap().to_owned()
    }

    /// Sends whole bytes on a connection of their own.
    pub fn raw(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut client = Client::connect(self.address);
        client.send(bytes);
        client.receive()
    }

    /// Sends a request without a body. `headers` are whole lines without their ends.
    pub fn get(&self, path: &str, headers: &[&str]) -> Answer {
        self.request("GET", path, headers, "")
    }

    pub fn request(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: api.test\r\n");
        headers.iter().for_each(|line| text.push_str(&format!("{line}\r\n")));
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.raw(format!("{text}\r\n{body}"))
    }

    pub fn post(&self, path: &str, headers: &[&str], body: &str) -> Answer {
        self.request("POST", path, &[headers, &["Content-Type: application/json"]].concat(), body)
    }

    /// Logs in by the infracast contract: access token and refresh token.
    pub fn login(&self, user: &str, password: &str) -> (String, String) {
        let body = format!(r#"{{"username":"{user}","password":"{password}"}}"#);
        let answer = self.post("/api/v1/auth/token", &[], &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
        (text("token"), text("refresh_token"))
    }

    pub fn try_admin(&self, request: &str) -> Option<Answer> {
        let mut client = Client::connect(self.admin);
        client.send(format!("{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin));
        client.try_receive()
    }

    pub fn admin(&self, request: &str) -> Answer {
        self.try_admin(request).expect("an answer of the admin listener")
    }

    /// The value of a metric, by its name with its labels as it is written.
    pub fn metric(&self, name: &str) -> f64 {
        let metrics = self.admin("GET /metrics").body;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no metric {name} in {metrics}")).parse().unwrap()
    }

    /// The log line of an answer.
    pub fn logged(&self, answer: &Answer) -> LogLine {
        let id = answer.request_id();
        until("the log line", || self.log().into_iter().find(|line| line["request_id"] == id))
    }

    /// Verdict, stage and reason of an answer's log line.
    pub fn why(&self, answer: &Answer) -> String {
        let line = self.logged(answer);
        let word = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
        format!("{} {} {}", word("verdict"), word("stage"), word("reason"))
    }

    pub fn log(&self) -> Vec<LogLine> {
        let text = fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Everything that the process has written.
    pub fn everything_written(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        read("access.log") + &read("stderr.log")
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr.log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Memory that the process has now.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Sockets and files that the process has open now.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn kill_nine(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Its exit code, once it has ended.
    pub fn ended(&mut self) -> Option<Option<i32>> {
        self.child.as_mut().unwrap().try_wait().unwrap().map(|status| status.code())
    }

    /// Waits for the end of the process: its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.take().unwrap().wait().unwrap().code()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
