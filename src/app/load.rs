//! From a path to a config whose APIs are compiled: what every command and the server start from. Prints nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::report::Report;
use crate::config::{Around, Config, Outline, UsedFile};
use crate::contract::{Api, Surroundings, compile};
use crate::store::StoreOptions;

/// A config file without mistakes.
#[derive(Debug)]
pub struct Ready {
    pub config: Config,
    /// The file, as it was named.
    pub path: PathBuf,
    /// One for each `[[api]]`, in the order of the file.
    pub apis: Vec<Api>,
    /// What the file says, key by key.
    pub outline: Outline,
    /// Every file that it is made of.
    pub files: Vec<UsedFile>,
}

/// Reads the config file at `path` and the contracts of its APIs; `${env:NAME}` asks `environment`. `None` when there
/// is a mistake in any of the files; `report` then holds all of them.
pub fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>, report: &mut Report) -> Option<Ready> {
    let loaded = crate::config::load(path, environment, report)?;
    let around = Surroundings { folder: &loaded.folder, environment };
    let apis = loaded.config.apis.iter().filter_map(|api| compile(api, &around, report)).collect();
    if !report.is_clean() {
        return None;
    }
    // The key of the store is made by the first start, and never read again: its coming is no change of the config.
    let key_file = &loaded.config.store.encryption_key_file;
    let files: Vec<UsedFile> = report.files().iter().filter(|file| file.path != *key_file).cloned().collect();
    let around = Around { source: loaded.source, files: &files, folder: &loaded.folder, environment };
    let outline = Outline::of(report.text(loaded.source), &around);
    Some(Ready { config: loaded.config, path: loaded.path, apis, outline, files })
}

impl Ready {
    /// Where the store is.
    pub fn store_options(&self) -> StoreOptions {
        let section = &self.config.store;
        StoreOptions { url: section.url.clone(), encryption_key_file: section.encryption_key_file.clone() }
    }

    /// The names of the realms, each once.
    pub fn realms(&self) -> BTreeSet<&str> {
        self.apis.iter().map(|api| &*api.facts.realm).collect()
    }

    /// The APIs whose accounts live in `realm`.
    pub fn apis_of<'a>(&'a self, realm: &'a str) -> impl Iterator<Item = &'a Api> {
        self.apis.iter().filter(move |api| &*api.facts.realm == realm)
    }
}
