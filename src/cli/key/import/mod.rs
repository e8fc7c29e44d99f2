//! `gateward key import`: keys that clients already hold, all of a file or none. The store gets their digests; the texts are
//! shown nowhere.

mod owners;
mod row;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde_json::json;

use crate::app::signing::key_format;
use crate::cli::arguments::Output;
use crate::cli::key::grant;
use crate::cli::key::import::owners::Owners;
use crate::cli::key::import::row::{Row, Text, is_guessable};
use crate::cli::load::Invocation;
use crate::cli::opened::{Opened, with_store};
use crate::cli::output::{self, Form};
use crate::contract::Api;
use crate::identity::{ApiKey, CredentialKind, Digest, KeyId, Secret};
use crate::observe::AuditAction;
use crate::store::{Change, WriteError};

#[derive(Debug, Args)]
pub struct ImportOptions {
    /// A JSON object a line: owner, and value or sha256; if wanted name, scopes, tenants, allow_ips, environment, expires,
    /// created_at, kind
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The realm; needed when the config has several
    #[arg(long)]
    realm: Option<String>,
    /// Which API the keys are for, by its name; needed when a realm has several of one environment
    #[arg(long)]
    api: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// The keys of a file, on their way into the store.
struct Import<'a> {
    opened: &'a Opened,
    realm: &'a str,
    api: Option<&'a str>,
    owners: Owners,
    /// Each with its line.
    keys: Vec<(usize, ApiKey)>,
    seen: HashMap<Digest, usize>,
    guessable: Vec<usize>,
    mistakes: Vec<(usize, String)>,
}

/// What was done, or would be.
struct Summary {
    realm: String,
    keys: usize,
    owners: usize,
    /// Lines.
    guessable: Vec<usize>,
}

pub fn run(invocation: &Invocation, options: &ImportOptions) -> anyhow::Result<()> {
    let text = read(&options.file)?;
    let summary = with_store(invocation, async |opened| {
        let realm = opened.realm(options.realm.as_deref())?;
        let mut import = Import::new(opened, &realm, options.api.as_deref()).await?;
        import.take(text.expose());
        import.without_mistakes(&options.file)?;
        let summary = import.summary();
        if summary.keys == 0 {
            bail!("{} holds no keys", options.file.display());
        }
        if !options.dry_run {
            import.write(&options.file).await?;
        }
        Ok(summary)
    })?;
    summary.show(options)
}

impl<'a> Import<'a> {
    async fn new(opened: &'a Opened, realm: &'a str, api: Option<&'a str>) -> anyhow::Result<Self> {
        let owners = Owners::new(opened.store.accounts(Some(realm)).await?);
        let (keys, guessable, mistakes) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { opened, realm, api, owners, keys, seen: HashMap::new(), guessable, mistakes })
    }

    /// Takes the lines of a file; empty ones are none.
    fn take(&mut self, text: &str) {
        let count = text.lines().count();
        for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
            match Row::parse(text) {
                Ok(row) => match self.key(line, row) {
                    Ok(key) => self.keys.push((line, key)),
                    Err(why) => self.mistakes.push((line, format!("{why:#}"))),
                },
                Err(mistakes) => self.mistakes.extend(mistakes.into_iter().map(|why| (line, why))),
            }
            if line % LINES_BETWEEN_WORDS == 0 {
                tell(&format!("{line} of {count} lines read"));
            }
        }
    }

    fn key(&mut self, line: usize, row: Row) -> anyhow::Result<ApiKey> {
        let now = self.opened.now;
        let owner = self.owners.find(&row.owner).with_context(|| format!("realm {}", self.realm))?;
        if !owner.is_active() {
            bail!("the account {} ({}) is disabled: its keys are refused", owner.username, owner.id);
        }
        let api = grant::target(self.opened, self.realm, self.api, row.environment.as_deref())?;
        if row.expires_at.is_some_and(|at| at <= now) {
            bail!("`expires`: that is over");
        }
        if row.created_at.is_some_and(|at| at > now) {
            bail!("`created_at`: that is still to come");
        }
        let digest = match &row.text {
            Text::Hashed(digest) => *digest,
            Text::Whole(value) => {
                could_be_used(api, value.expose())?;
                Digest::of(value.expose())
            }
        };
        if let Some(key) = self.opened.store.directory().key_by_digest(self.realm, &digest) {
            bail!("the store has this key already: {} of {}", key.id, key.owner);
        }
        let key = ApiKey {
            id: KeyId::new(api.ids.api_key.mint()),
            realm: owner.realm.clone(),
            owner: owner.id.clone(),
            name: row.name,
            scopes: grant::scopes(api, owner, row.scopes.as_deref())?,
            tenants: grant::tenants(api, owner, &row.tenants)?,
            allowed_ips: row.allowed_ips,
            environment: api.facts.environment.clone(),
            digest,
            created_at: row.created_at.unwrap_or(now),
            expires_at: row.expires_at,
            revoked_at: None,
        };
        if let Some(first) = self.seen.insert(digest, line) {
            bail!("line {first} has this key already");
        }
        if let Text::Whole(value) = &row.text
            && is_guessable(value.expose())
        {
            self.guessable.push(line);
        }
        Ok(key)
    }

    /// # Errors
    /// When there are mistakes; they go to stderr.
    fn without_mistakes(&self, file: &Path) -> anyhow::Result<()> {
        for (line, why) in self.mistakes.iter().take(MISTAKES_SHOWN) {
            output::note(&format!("{}:{line}: {why}", file.display()));
        }
        match self.mistakes.len() {
            0 => Ok(()),
            count @ 1..=MISTAKES_SHOWN => bail!("nothing was imported; mistakes: {count}"),
            count => bail!("nothing was imported; mistakes: {count}, of which the first {MISTAKES_SHOWN} are shown"),
        }
    }

    fn summary(&self) -> Summary {
        let owners: BTreeSet<&str> = self.keys.iter().map(|(_, key)| key.owner.as_str()).collect();
        Summary { realm: self.realm.to_owned(), keys: self.keys.len(), owners: owners.len(), guessable: self.guessable.clone() }
    }

    async fn write(&mut self, file: &Path) -> anyhow::Result<()> {
        let mut keys = std::mem::take(&mut self.keys);
        // In the order of the store's indexes: their pages are then written once, and not each time that one is met again.
        keys.sort_unstable_by(|(_, one), (_, other)| one.id.cmp(&other.id));
        let (lines, keys): (Vec<usize>, Vec<ApiKey>) = keys.into_iter().unzip();
        let object = format!("{} keys", keys.len());
        tell(&format!("writing {object}"));
        let written = self.opened.write(Change::AddKeys(keys.into()), self.realm, AuditAction::KeyImport, &object).await;
        let Err(error) = written else { return Ok(()) };
        // Keys that died long ago are in the store and not in the directory that the lines were compared with.
        if let Some(WriteError::Conflicts { what, positions }) = error.downcast_ref() {
            let lines = positions.iter().filter_map(|&position| lines.get(position));
            self.mistakes.extend(lines.map(|&line| (line, format!("there already is one in the store: {what}"))));
            self.without_mistakes(file)?;
        }
        Err(error.context("nothing was imported"))
    }
}

impl Summary {
    fn show(&self, options: &ImportOptions) -> anyhow::Result<()> {
        let Self { realm, keys, owners, guessable } = self;
        if !guessable.is_empty() {
            let first: Vec<String> = guessable.iter().take(LINES_NAMED).map(usize::to_string).collect();
            let more = if guessable.len() > LINES_NAMED { ", …" } else { "" };
            output::note(&format!(
                "{} of the keys could be guessed: they are too short for 128 random bits. Have them replaced. Lines {}{more}",
                guessable.len(),
                first.join(", ")
            ));
        }
        match options.output.form() {
            Form::Json => output::json(&json!({
                "realm": realm,
                "keys": keys,
                "owners": owners,
                "guessable_lines": guessable,
                "imported": !options.dry_run,
            })),
            Form::Text if options.dry_run => {
                output::text(&format!("would import {keys} keys of {owners} owners into realm {realm}; nothing was written\n"))
            }
            Form::Text => output::text(&format!("imported {keys} keys of {owners} owners into realm {realm}\n")),
        }
    }
}

/// Whether a request with this text would get as far as the look-up.
fn could_be_used(api: &Api, text: &str) -> anyhow::Result<()> {
    let name = &api.facts.name;
    if !api.carriers.iter().any(|carrier| api.kind_of(carrier, text) == Some(CredentialKind::ApiKey)) {
        bail!(
            "API {name} takes such a text for no API key: write what its keys begin with into `key_prefixes` of [api.credentials]"
        );
    }
    if let Some(environment) = api.tokens.foreign_environment(text) {
        bail!(
            "it begins like a key of the environment {environment}: \
             write what such keys begin with into `key_prefixes` of [api.credentials], if they are none"
        );
    }
    match key_format(api).name(text) {
        Ok(_) => Ok(()),
        Err(denial) => Err(anyhow!(
            "it begins like the keys that API {name} makes, and is none: {denial}; \
             write what such keys begin with into `key_prefixes` of [api.credentials], if others made them"
        )),
    }
}

/// The whole file. Says so when others than its owner may read the keys in it.
fn read(path: &Path) -> anyhow::Result<Secret> {
    let shown = path.display();
    let mut file = File::open(path).with_context(|| shown.to_string())?;
    let facts = file.metadata().with_context(|| shown.to_string())?;
    if facts.is_file() && facts.permissions().mode() & 0o077 != 0 {
        output::note(&format!("{shown} holds keys, and others than its owner may read it: chmod 600"));
    }
    // With room for all of it: a text that grows leaves copies of the secrets behind.
    let mut text = String::with_capacity(usize::try_from(facts.len().min(MAX_FILE_BYTES)).unwrap_or_default() + 1);
    file.by_ref().take(MAX_FILE_BYTES + 1).read_to_string(&mut text).with_context(|| shown.to_string())?;
    let text = Secret::new(text);
    match text.expose().len() as u64 > MAX_FILE_BYTES {
        true => bail!("{shown} is larger than {} MiB: split it", MAX_FILE_BYTES >> 20),
        false => Ok(text),
    }
}

/// Words for somebody who waits at a terminal.
fn tell(words: &str) {
    if std::io::stderr().is_terminal() {
        output::note(words);
    }
}

const MAX_FILE_BYTES: u64 = 512 << 20;
const MISTAKES_SHOWN: usize = 1000;
const LINES_NAMED: usize = 10;
const LINES_BETWEEN_WORDS: usize = 10_000;
