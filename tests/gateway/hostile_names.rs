//! Names made to break out of the place where they are written: a header, a list, a line of the log.

use crate::support::{Gateway, Upstream, until};

fn gateway(upstream: &Upstream, rest: &str) -> Gateway {
    Gateway::start(&format!("[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n{rest}", upstream.url()))
}

/// B10 B11: a name that would end its header or its list is never given to anybody.
#[test]
fn names_that_break_out_are_refused_when_they_are_given() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "");
    let long = "x".repeat(65_536);
    let refused = |arguments: &[&str], why: &str| {
        // It is refused before a password is read.
        let output = gateway.cli(&[&["user", "add"], arguments, &["--password-stdin"]].concat(), "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(why), "{arguments:?}: {said}");
    };
    for name in ["u\r\nX-Auth-Roles: admin", "u\nv", "a\u{1b}[31mb", "tab\tbed", "a\u{85}b"] {
        refused(&[name], "it holds characters that do not show");
    }
    refused(&[&long], "it is longer than 256 bytes");
    for role in ["x,admin", "a b", "a\nb", "", "r\u{f6}le"] {
        refused(&["ann", "--role", role], "expected 1 to 256 of");
        refused(&["ann", "--tenant", &format!("prod={role}")], "expected 1 to 256 of");
        refused(&["ann", "--tenant", &format!("{role}=viewer")], "expected 1 to 256 of");
    }
    assert_eq!(gateway.cli_ok(&["user", "list", "--json"], "").trim(), "[]");
}

/// B13: whatever strangers send, a request is one line, in either form of the log, and nothing in it moves a terminal.
#[test]
fn a_request_is_one_line_of_the_log_whatever_is_in_it() {
    for form in ["json", "text"] {
        let upstream = Upstream::start();
        let gateway = gateway(&upstream, &format!("\n[log]\naccess = \"{form}\"\nlevel = \"debug\"\n"));
        gateway.add_user("a\"b\\c{}", "correct horse", &["prod=viewer"]);
        let kid = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFcbntcInN0YXR1c1wiOjIwMH1cdTAwMWJbMkoifQ.e30.AA";
        let agent: &[u8] = b"a\"b\\c\t{\"status\":200}\xe2\x80\xae\xc2\x9b2J\xff";
        let head = |line: &[u8], path: &str| {
            [format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n").as_bytes(), line, b"\r\n\r\n".as_slice()].concat()
        };
        let login = |user: &str| {
            let body = serde_json::json!({ "username": user, "password": "correct horse" }).to_string();
            format!(
                "POST /api/v1/auth/token HTTP/1.1\r\nHost: api.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        };
        let requests = [
            (head(&[b"User-Agent: ".as_slice(), agent].concat(), "/health"), 200),
            (head(b"Accept: */*", "/health%0a%1b[2J%22"), 400),
            (head(b"Accept: */*", "/health\"},{\"status\":200"), 400),
            (head(b"X-Forwarded-For: \"\\\xe2\x80\xae", "/health"), 200),
            (head(format!("Authorization: Bearer {kid}").as_bytes(), "/api/v1/tenants/prod/nodes"), 401),
            (login("eve\n{\"status\":200}\u{1b}[2J\u{202e}\r"), 401),
            (login("a\"b\\c{}"), 200),
        ];
        for (request, status) in &requests {
            assert_eq!(gateway.raw(request).status, *status, "{}", String::from_utf8_lossy(request));
        }
        let read = || std::fs::read_to_string(gateway.folder.path().join("access.log")).unwrap();
        let log = until("a line for each request", || Some(read()).filter(|log| log.matches('\n').count() >= requests.len()));
        assert_eq!(log.lines().count(), requests.len(), "{log}");
        let moves = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
        for line in log.lines().chain(gateway.stderr().lines()) {
            assert!(!line.contains(moves), "{line:?}");
        }
        if form == "json" {
            let statuses = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["status"].clone());
            assert_eq!(statuses.collect::<Vec<_>>(), requests.each_ref().map(|(_, status)| serde_json::json!(status)));
        }
    }
}
