//! What servers behind the gateway read: nginx, HAProxy and Apache as proxies before the strict upstream, Node and gunicorn
//! as servers that tell what they have read. Each reads the request that the gateway has judged, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::servers::free_address;
use crate::support::{Message, Program, Talk, Upstream, client_of, in_parallel, index_of, vectors};
use crate::wire::{llhttp, open_to_all};

/// A request as it can be compared: method and target, fields by name, body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    client: usize,
    start: String,
    fields: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// How a server names fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    AsTheyCame,
    /// As CGI does; those with `_` are left out, because they could be taken for others.
    Cgi,
}

impl Seen {
    /// Without what belongs to one connection, and without the values that each forwarding makes anew.
    fn new(start: String, fields: impl IntoIterator<Item = (String, String)>, body: Vec<u8>, names: Names) -> Self {
        const OF_THE_CONNECTION: &[&str] = &["connection", "content-length", "transfer-encoding"];
        const MADE_ANEW: &[&str] = &["x-request-id", "traceparent"];
        let mut client = None;
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in fields {
            let name = name.to_lowercase();
            if name == "x-real-ip" || name == "x_real_ip" {
                client = Some(index_of(&value));
                continue;
            }
            let name = if names == Names::Cgi { name.replace('_', "-") } else { name };
            if OF_THE_CONNECTION.contains(&name.as_str()) {
                continue;
            }
            let value = if MADE_ANEW.contains(&name.as_str()) { String::new() } else { value.replace(", ", ",") };
            // Two lines are one list (RFC 9110, section 5.2).
            all.entry(name).and_modify(|list| *list = format!("{list},{value}")).or_insert(value);
        }
        let client = client.unwrap_or_else(|| panic!("{start} has no X-Real-IP: {all:?}"));
        Self { client, start, fields: all, body }
    }

    fn of(message: &Message, names: Names) -> Self {
        let start = message.start.strip_suffix(" HTTP/1.1").unwrap().to_owned();
        let is_dropped = |name: &str| names == Names::Cgi && name.contains('_');
        let fields = message.fields.iter().filter(|(name, _)| !is_dropped(name)).cloned();
        Self::new(start, fields, message.body.clone(), names)
    }
}

/// A server and what it has read since the start.
enum Server {
    /// It hands on to a strict upstream.
    Proxy(Program, Upstream),
    /// It writes a line of JSON for each request.
    Telling(Program, Names),
}

impl Server {
    fn proxy(file: &str, config: &str, command: &[&str], package: &str) -> Self {
        let (upstream, address) = (Upstream::start(), free_address());
        let config = config.replace("FRONT", &address.to_string()).replace("BEHIND", &upstream.address.to_string());
        Self::Proxy(Program::start(address, &[(file, &config)], command, package), upstream)
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Proxy(program, _) | Self::Telling(program, _) => program.address,
        }
    }

    fn names(&self) -> Names {
        match self {
            Self::Proxy(..) => Names::AsTheyCame,
            Self::Telling(_, names) => *names,
        }
    }

    fn seen(&self) -> Vec<Seen> {
        match self {
            Self::Proxy(_, upstream) => upstream.messages().iter().map(|message| Seen::of(message, Names::AsTheyCame)).collect(),
            Self::Telling(program, names) => {
                let told = program.said();
                let lines = told.lines().filter(|line| line.starts_with("{\"start\":"));
                lines.map(|line| told_by(&serde_json::from_str(line).unwrap(), *names)).collect()
            }
        }
    }
}

fn told_by(line: &Value, names: Names) -> Seen {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let fields = line["fields"].as_array().unwrap().iter().map(|pair| (text(&pair[0]), text(&pair[1])));
    Seen::new(text(&line["start"]), fields.collect::<Vec<_>>(), STANDARD.decode(text(&line["body"])).unwrap(), names)
}

fn nginx() -> Server {
    let config = "events {}\nhttp { access_log off; client_body_temp_path body; proxy_temp_path proxy;\n\
        underscores_in_headers on; ignore_invalid_headers off; client_max_body_size 0; large_client_header_buffers 4 64k;\n\
        server { listen FRONT; location / { proxy_pass http://BEHIND; proxy_http_version 1.1; proxy_set_header Host $http_host;\n\
        proxy_set_header Connection \"\"; } } }\n";
    let command =
        ["nginx", "-p", ".", "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off; master_process off; pid nginx.pid;"];
    Server::proxy("nginx.conf", config, &command, "Debian's package nginx-light")
}

fn haproxy() -> Server {
    let config = "global\n  tune.bufsize 65536\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n\
        frontend here\n  bind FRONT\n  default_backend there\nbackend there\n  server there BEHIND\n";
    Server::proxy("haproxy.cfg", config, &["haproxy", "-db", "-f", "haproxy.cfg"], "Debian's package haproxy")
}

fn apache() -> Server {
    let modules = "/usr/lib/apache2/modules";
    let load: String = ["mpm_event", "authz_core", "proxy", "proxy_http"]
        .iter()
        .map(|module| format!("LoadModule {module}_module {modules}/mod_{module}.so\n"))
        .collect();
    let config = format!(
        "{load}ServerName a\nListen FRONT\nPidFile apache.pid\nDefaultRuntimeDir .\nErrorLog /dev/stderr\nUser nobody\nGroup nogroup\n\
         ProxyPass / http://BEHIND/ nocanon\nProxyPreserveHost On\nProxyAddHeaders Off\nAllowEncodedSlashes NoDecode\n\
         LimitRequestFields 1000\nLimitRequestFieldSize 65536\nLimitRequestLine 65536\n"
    );
    let command = ["apache2", "-d", ".", "-f", "httpd.conf", "-D", "FOREGROUND"];
    Server::proxy("httpd.conf", &config, &command, "Debian's package apache2-bin")
}

fn node() -> Server {
    const PROGRAM: &str = r#"
const [host, port] = process.argv[2].split(':');
require('http').createServer({ maxHeaderSize: 65536 }, (request, answer) => {
  const body = [];
  request.on('data', part => body.push(part));
  request.on('end', () => {
    const fields = [];
    for (let i = 0; i < request.rawHeaders.length; i += 2) fields.push(request.rawHeaders.slice(i, i + 2));
    const start = `${request.method} ${request.url}`;
    process.stdout.write(JSON.stringify({ start, fields, body: Buffer.concat(body).toString('base64') }) + '\n');
    answer.end('ok');
  });
}).listen(port, host);
"#;
    let address = free_address();
    let command = ["node", "server.js", &address.to_string()];
    Server::Telling(Program::start(address, &[("server.js", PROGRAM)], &command, "Debian's package nodejs"), Names::AsTheyCame)
}

fn gunicorn() -> Server {
    const PROGRAM: &str = r#"
import base64, json, sys
def app(environ, start_response):
    fields = [[k[5:], v] for k, v in environ.items() if k.startswith('HTTP_')]
    fields += [[k, environ[k]] for k in ('CONTENT_TYPE',) if environ.get(k)]
    body = environ['wsgi.input'].read()
    start = environ['REQUEST_METHOD'] + ' ' + environ['RAW_URI']
    line = json.dumps({'start': start, 'fields': fields, 'body': base64.b64encode(body).decode()}, separators=(',', ':'))
    sys.stdout.write(line + '\n')
    sys.stdout.flush()
    start_response('200 OK', [('Content-Length', '2')])
    return [b'ok']
"#;
    let address = free_address();
    let bind = address.to_string();
    let command = [
        "gunicorn",
        "--bind",
        &bind,
        "--threads",
        "16",
        "--keep-alive",
        "5",
        "--limit-request-line",
        "0",
        "--limit-request-field_size",
        "0",
        "--limit-request-fields",
        "1000",
        "server:app",
    ];
    Server::Telling(Program::start(address, &[("server.py", PROGRAM)], &command, "Python's package gunicorn"), Names::Cgi)
}

/// What clients send: inputs of llhttp, spellings of a Transfer-Encoding that is the only framing, paths and headers.
fn inputs() -> Option<Vec<(String, Vec<u8>)>> {
    let mut all = llhttp::named_inputs(&vectors("llhttp/llhttp_tests.json")?);
    let end = "X-End: 1\r\nConnection: close\r\n\r\n";
    for row in vectors("smuggler-te/te_mutations.json")?["mutations"].as_array()? {
        let line = STANDARD.decode(row["te_header_b64"].as_str()?).unwrap();
        let head = [b"POST /in HTTP/1.1\r\nHost: a\r\n", line.as_slice(), b"\r\n", end.as_bytes()].concat();
        all.push((format!("smuggler {}", row["name"].as_str()?), [&head[..], b"5\r\nhello\r\n0\r\n\r\n"].concat()));
    }
    for row in vectors("own/paths.json")?["tests"].as_array()? {
        if let Some(target) = row["target"].as_str() {
            all.push((format!("path {target}"), format!("GET {target} HTTP/1.1\r\nHost: a\r\n{end}").into_bytes()));
        }
    }
    for row in vectors("own/headers.json")?["tests"].as_array()? {
        let pairs = row["headers"].as_array()?.iter().map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
        let lines: String = pairs.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let host = if lines.to_lowercase().contains("host:") { "" } else { "Host: a\r\n" };
        all.push((format!("header {}", row["name"].as_str()?), format!("GET /in HTTP/1.1\r\n{host}{lines}{end}").into_bytes()));
    }
    for (name, request) in [
        ("length", "POST /in?a=b&c=%20d HTTP/1.1\r\nHost: a:8080\r\nContent-Length: 5\r\n\r\nhello"),
        (
            "chunks",
            "PUT /in HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\nh\r\n4\r\nello\r\n0\r\nX-Trailer: 1\r\n\r\n",
        ),
        ("a GET with a body", "GET /in HTTP/1.1\r\nHost: a\r\nContent-Length: 24\r\n\r\nGET /other HTTP/1.1\r\nA: b"),
        ("an empty body", "POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
        ("two requests", "POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET /two HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an absolute target", "GET http://a/in?x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("names with other signs", "GET /in HTTP/1.1\r\nHost: a\r\nX_a: 1\r\nX.b: 2\r\nX~c!#$%&'*+^`|: 3\r\nX-a: 4\r\n\r\n"),
        ("bytes above ASCII", "GET /in HTTP/1.1\r\nHost: a\r\nX-A: J\u{fc}rgen\r\n\r\n"),
    ] {
        all.push((name.to_owned(), request.as_bytes().to_vec()));
    }
    Some(all)
}

/// What each accepted input is to a server: the requests that it has read, by input.
fn read_by(server: SocketAddr, inputs: &[(String, Vec<u8>)], seen: impl Fn() -> Vec<Seen>) -> Vec<Vec<Seen>> {
    let gateway = open_to_all(&format!("http://{server}"));
    in_parallel(inputs, |index, (_, bytes)| drop(Talk::to(gateway.address).from(client_of(index)).answers(bytes)));
    let mut by_input = vec![Vec::new(); inputs.len()];
    seen().into_iter().for_each(|request| by_input[request.client].push(request));
    by_input
}

/// C9 C10 C13: each server reads of each accepted input the requests that the gateway has judged: as many, with the same
/// method, target, fields and body; or it refuses them, where it is listed.
#[test]
fn every_server_behind_reads_what_was_judged() {
    let Some(inputs) = inputs() else { return };
    let upstream = Upstream::start();
    let judged = |names: Names, inputs: &[(String, Vec<u8>)]| {
        upstream.forget();
        read_by(upstream.address, inputs, || upstream.messages().iter().map(|message| Seen::of(message, names)).collect())
    };
    let first = judged(Names::AsTheyCame, &inputs);
    let accepted: Vec<(String, Vec<u8>)> =
        inputs.iter().zip(&first).filter(|(_, requests)| !requests.is_empty()).map(|(input, _)| input.clone()).collect();
    let mut wrong = Vec::new();
    for (name, start, refusing) in SERVERS {
        let server = start();
        let expected = judged(server.names(), &accepted);
        let read = read_by(server.address(), &accepted, || server.seen());
        let mut refused = BTreeSet::new();
        for ((input, _), (expected, read)) in accepted.iter().zip(expected.iter().zip(&read)) {
            if read.is_empty() {
                refused.insert(input.as_str());
            } else if read != expected {
                wrong.push(format!("{name}, {input}:\n  read   {read:?}\n  judged {expected:?}"));
            }
        }
        if refused != refusing.iter().map(|(input, _)| *input).collect() {
            wrong.push(format!("{name} refused {refused:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} inputs accepted\n{}", accepted.len(), inputs.len(), wrong.join("\n"));
    assert!(accepted.len() > 150, "{} of {} inputs accepted", accepted.len(), inputs.len());
}

/// Its name, how it is started, and the inputs that it refuses, each with the reason.
type Behind = (&'static str, fn() -> Server, &'static [(&'static str, &'static str)]);

const SERVERS: &[Behind] = &[
    ("nginx", nginx, &[]),
    ("HAProxy", haproxy, &[]),
    ("Apache", apache, &[]),
    (
        "Node",
        node,
        &[
            ("ICE protocol and GET method / HTTP protocol and ANNOUNCE method", "it knows a list of methods"),
            ("ICE protocol and GET method / Invalid method", "it knows a list of methods"),
        ],
    ),
    ("gunicorn", gunicorn, &[]),
];
