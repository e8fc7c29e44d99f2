//! From a path to a config whose APIs are compiled: what every command and the server start from. Prints nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::report::Report;
use crate::config::{self, Around, ClientAuth, Config, Outline, UsedFile};
use crate::contract::{Access, Api, Route, Surroundings, compile};
use crate::identity::CredentialKind;
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
    let loaded = config::load(path, environment, report)?;
    let around = Surroundings { folder: &loaded.folder, environment };
    let apis: Vec<Api> = loaded.config.apis.iter().filter_map(|api| compile(api, &around, report)).collect();
    // Of APIs that do not compile there is an error already, and the two lists do not stand side by side.
    if report.is_clean() {
        loaded.config.apis.iter().zip(&apis).for_each(|(section, api)| check_certificates(&loaded.config, section, api, report));
    }
    if !report.is_clean() {
        return None;
    }
    loaded.config.apis.iter().zip(&apis).for_each(|(section, api)| check_certificates(&loaded.config, section, api, report));
    // The key of the store is made by the first start, and never read again: its coming is no change of the config.
    let key_file = &loaded.config.store.encryption_key_file;
    let files: Vec<UsedFile> = report.files().iter().filter(|file| file.path != *key_file).cloned().collect();
    let around = Around { source: loaded.source, files: &files, folder: &loaded.folder, environment };
    let outline = Outline::of(report.text(loaded.source), &around);
    Some(Ready { config: loaded.config, path: loaded.path, apis, outline, files })
}

/// A route that takes certificates of clients wants a listener that asks for them.
fn check_certificates(config: &Config, section: &config::Api, api: &Api, report: &mut Report) {
    let takes = |route: &&Route| matches!(&route.access, Access::Known { kinds, .. } if kinds.contains(&CredentialKind::ClientCertificate));
    let Some(route) = api.routes.iter().find(takes) else { return };
    let Some(listener) = config.listener_of(section) else { return };
    if listener.tls.as_ref().is_none_or(|tls| tls.client_auth() == ClientAuth::Off) {
        let named = section.routes.iter().find(|own| own.name.value == *route.name).map(|own| report.at(own.place, "accept"));
        let (route, listener) = (&route.name, &listener.name.value);
        let why = format!("the route `{route}` accepts client certificates, and the listener `{listener}` asks for none");
        report.error_with_help(named.unwrap_or(section.place), why, "give its `tls` a `client_ca_file`");
    }
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
