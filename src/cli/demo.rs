//! `gateward demo`: a sample API, a gateway in front of it, an admin, and lines to paste. The lines are made from the
//! contract, so that they are right for any.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::runtime::Builder;

use crate::app::build;
use crate::app::load::{self, Ready};
use crate::app::sample::Sample;
use crate::app::serve::Beginning;
use crate::app::signals::StopSignals;
use crate::cli::arguments::DemoOptions;
use crate::cli::load::Invocation;
use crate::cli::output;
use crate::cli::serve;
use crate::clock;
use crate::config::report::Report;
use crate::contract::{self, Access, Api, Carrier, Input, Operation, Placeholder, Route, Target};
use crate::identity::{Account, AccountId, Membership, Secret, Status};
use crate::observe::{AuditAction, AuditEvent};
use crate::password::Passwords;
use crate::random;
use crate::store::Change;

const TENANT: &str = "demo";

pub fn run(_: &Invocation, options: &DemoOptions) -> anyhow::Result<()> {
    if let Some(address) = options.api_only {
        return run_the_api(address);
    }
    let contract = contract_name(options.contract.as_deref())?;
    let folder = folder(options.dir.as_deref())?;
    let sample = Sample::start()?;
    let (address, admin) = (free_or(8080)?, free_or(9901)?);
    let path = folder.join("gateway.toml");
    std::fs::write(&path, config(&contract, sample.address, address, admin))
        .with_context(|| format!("{} cannot be written", path.display()))?;
    let mut report = Report::default();
    let Some(ready) = load::load(&path, &|_| None, &mut report) else { bail!("{report}") };
    let password = make_admin(&ready)?;
    let words = lesson(&ready, address, &password, &path)?;
    let start = serve::Start { ready, environment: |_| None, sockets: Vec::new(), beginning: Beginning::Afresh };
    serve::start(start, move |_| output::note(&words))
}

/// The sample API alone, until SIGTERM or Ctrl-C: as the first process of a container it would get neither by itself.
fn run_the_api(address: SocketAddr) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let mut stop = runtime.block_on(async { StopSignals::listen() })?;
    let sample = Sample::start_on(address)?;
    output::note(&format!("the sample API answers on http://{}", sample.address));
    runtime.block_on(stop.any());
    Ok(())
}

fn contract_name(asked: Option<&str>) -> anyhow::Result<String> {
    let names = contract::demo_contracts();
    match asked {
        None => names.first().map(|&name| name.to_owned()).context("no built-in contract is made for the demo"),
        Some(name) if names.contains(&name) => Ok(name.to_owned()),
        Some(name) => bail!("`{name}` is no contract for the demo; there are: {}", names.join(", ")),
    }
}

fn folder(asked: Option<&Path>) -> anyhow::Result<PathBuf> {
    let folder = asked.map_or_else(|| std::env::temp_dir().join(format!("gateward-demo-{}", random::word(8))), Path::to_path_buf);
    std::fs::create_dir_all(&folder).with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    Ok(folder)
}

/// The usual port, or another one where it is taken.
fn free_or(port: u16) -> anyhow::Result<SocketAddr> {
    let usual = SocketAddr::from(([127, 0, 0, 1], port));
    if TcpListener::bind(usual).is_ok() {
        return Ok(usual);
    }
    let other = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).and_then(|free| free.local_addr());
    let other = other.context("there is no free port on 127.0.0.1")?;
    output::note(&format!("port {port} is taken: {} is used", other.port()));
    Ok(other)
}

fn config(contract: &str, upstream: SocketAddr, address: SocketAddr, admin: SocketAddr) -> String {
    format!(
        "# Written anew by every `gateward demo` in this folder.\n\n\
         [[listener]]\nname = \"public\"\naddress = \"{address}\"\n\n\
         [admin]\naddress = \"{admin}\"\n\n\
         [[api]]\nupstream = \"http://{upstream}\"\ncontract = \"{contract}\"\n\n\
         [log]\nlevel = \"warn\"\naccess = \"text\"\n"
    )
}

/// Makes the account `admin`, or gives an earlier run's a new password.
fn make_admin(ready: &Ready) -> anyhow::Result<Secret> {
    let api = ready.apis.first().context("the demo's config has no API")?;
    let password = Secret::new(random::word(24));
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let store = build::open_store(ready, runtime.handle().clone()).await?;
        let hash = Passwords::start(1, 1).hash(password.clone()).await?;
        let known = store.login_record(&api.facts.realm, "admin").await?;
        let now = clock::now().wall;
        let (change, action, id) = match known {
            Some(record) => {
                let (realm, account) = (api.facts.realm.clone(), record.account.id.clone());
                let id = account.to_string();
                (
                    Change::SetPassword { realm, account, password: hash, sessions_valid_from: now },
                    AuditAction::PasswordChange,
                    id,
                )
            }
            None => {
                let account = admin(api, now);
                let id = account.id.to_string();
                (Change::AddAccount { account, password: Some(hash) }, AuditAction::AccountCreate, id)
            }
        };
        let event = AuditEvent {
            at: now,
            realm: api.facts.realm.to_string(),
            action,
            done: true,
            actor: "operator".to_owned(),
            object: id,
            client_ip: None,
            request_id: None,
            reason: None,
        };
        store.write(change, Some(event)).await?;
        store.close().await;
        Ok(password)
    })
}

fn admin(api: &Api, now: clock::Timestamp) -> Account {
    let highest = api.vocabulary.roles.iter().max_by_key(|(_, rule)| rule.rank).map(|(name, _)| name.clone());
    Account {
        id: AccountId::new(api.ids.account.mint()),
        realm: api.facts.realm.clone(),
        username: "admin".to_owned(),
        email: Some("admin@example.com".to_owned()),
        display_name: None,
        status: Status::Active,
        roles: highest.iter().cloned().collect(),
        tenants: highest.map(|role| Membership { tenant: TENANT.into(), role }).into_iter().collect(),
        attributes: Default::default(),
        created_at: now,
        sessions_valid_from: now,
    }
}

/// The lines to paste.
fn lesson(ready: &Ready, address: SocketAddr, password: &Secret, config: &Path) -> anyhow::Result<String> {
    let api = ready.apis.first().context("the demo's config has no API")?;
    let base = format!("http://{address}");
    let (login_route, login) = api.endpoint(Operation::Login).context("the contract has no login")?;
    let field = |input| login.fields.name_of(input).unwrap_or_default();
    let credentials =
        format!(r#"{{"{}":"admin","{}":"{}"}}"#, field(Input::LoginName), field(Input::LoginPassword), password.expose());
    let token = login.answer.as_ref().and_then(|answer| answer.member_of(&Placeholder::Access)).unwrap_or("token");
    let login_url = format!("{base}{}", path(login_route));
    let reading = forwarded(api, |route| route.methods.contains(&http::Method::GET)).context("the contract forwards nothing")?;
    let read = format!("{base}{}", path(reading));
    let mut out = format!("\ngateward is in front of a sample API. Its files are in {}\n", folder_of(config).display());
    let _ = writeln!(
        out,
        "admin's password: {}   Ctrl-C stops the demo. Paste these lines into another terminal.\n",
        password.expose()
    );
    step(&mut out, "log in: the gateway answers itself", &[&capture("TOKEN", &login_url, "", &credentials, token)]);
    let session = header(api, "TOKEN");
    step(&mut out, "call the API: it sees who you are (x-auth-…), and no credential", &[&format!("curl -s {read} {session}")]);
    if let Some((route, create)) = api.endpoint(Operation::KeysCreate) {
        let body = format!(r#"{{"{}":"demo"}}"#, create.fields.name_of(Input::KeyName).unwrap_or_default());
        let member = create.answer.as_ref().and_then(|answer| answer.member_of(&Placeholder::KeySecret)).unwrap_or("key");
        let url = format!("{base}{}", path(route));
        step(&mut out, "make an API key: shown once, good for reading", &[&capture("KEY", &url, &session, &body, member)]);
        step(&mut out, "call the API with the key", &[&format!("curl -s {read} {}", header(api, "KEY"))]);
        refusal(api, &base, config, &mut out);
    }
    let tries = format!(
        "for i in $(seq 12); do curl -s -o /dev/null -w '%{{http_code}} ' {login_url} -H 'Content-Type: application/json' -d '{}'; done; echo",
        credentials.replace(password.expose(), "wrong")
    );
    step(&mut out, "be limited: wrong passwords, until the limit of the login answers 429", &[&tries]);
    Ok(out)
}

/// A call that the key may not make, and the question why.
fn refusal(api: &Api, base: &str, config: &Path, out: &mut String) {
    let beyond = |route: &Route| match &route.access {
        Access::Known { demand, .. } => {
            demand.scopes.iter().any(|scope| !api.vocabulary.grants(&api.vocabulary.default, scope)) && route.tenant.is_some()
        }
        Access::Public => false,
    };
    let Some(route) = forwarded(api, beyond) else { return };
    let Some(method) = route.methods.first() else { return };
    let (url, key) = (format!("{base}{}", path(route)), header(api, "KEY"));
    step(out, "be refused: the key may not write", &[&format!("curl -si -X {method} {url} {key}")]);
    let program = std::env::current_exe().map_or_else(|_| "gateward".to_owned(), |path| path.display().to_string());
    step(out, "ask why", &[&format!("{program} explain {method} {url} {key} --config {}", config.display())]);
}

fn step(out: &mut String, what: &str, lines: &[&str]) {
    let _ = writeln!(out, "# {what}");
    lines.iter().for_each(|line| {
        let _ = writeln!(out, "{line}\n");
    });
}

/// A line that posts JSON and keeps one member of the answer in a variable.
fn capture(variable: &str, url: &str, header: &str, body: &str, member: &str) -> String {
    let header = if header.is_empty() { String::new() } else { format!(" {header}") };
    format!(
        "{variable}=$(curl -s {url}{header} -H 'Content-Type: application/json' -d '{body}' | sed -E 's/.*\"{member}\":\"([^\"]+)\".*/\\1/'); echo ${variable}"
    )
}

fn header(api: &Api, variable: &str) -> String {
    match api.carriers.first() {
        Some(Carrier::Header(name)) => format!("-H \"{name}: ${variable}\""),
        Some(Carrier::Bearer) | None => format!("-H \"Authorization: Bearer ${variable}\""),
    }
}

fn forwarded(api: &Api, wanted: impl Fn(&Route) -> bool) -> Option<&Route> {
    let is_known = |route: &&Route| matches!(route.access, Access::Known { .. }) && matches!(route.target, Target::Upstream);
    api.routes.iter().filter(is_known).find(|route| wanted(route))
}

/// A path that the route matches.
fn path(route: &Route) -> String {
    let text = route.pattern.as_str().trim_end_matches("/**");
    let mut out = String::new();
    for part in text.split('/').skip(1) {
        let capture = part.starts_with('{');
        out.push('/');
        out.push_str(if capture { TENANT } else { part });
    }
    out
}

fn folder_of(config: &Path) -> &Path {
    config.parent().unwrap_or(config)
}
