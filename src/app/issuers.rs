//! The issuers of foreign tokens that an API accepts: their keys from a file, a secret or a URL, and their profiles.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};

use crate::app::signing;
use crate::config::{self, KeysFrom};
use crate::outbound::{Client, Trust};
use crate::pipeline::{ClaimNames, ForeignIssuer};
use crate::token::{Fetching, KeyPlace, KeySet, KeySource, Origin, Profile};

/// The issuers of one API, in the order of the file. Nothing is fetched yet: see [`KeySource::run`].
///
/// # Errors
/// Names the issuer and the file that cannot be used.
pub fn foreign_issuers(api: &config::Api) -> anyhow::Result<Vec<ForeignIssuer>> {
    let named = |issuer: &config::Issuer| format!("API {}: issuer {}", api.label(), issuer.label());
    api.issuers.iter().map(|issuer| foreign_issuer(issuer).with_context(|| named(issuer))).collect()
}

fn foreign_issuer(issuer: &config::Issuer) -> anyhow::Result<ForeignIssuer> {
    let claims = &issuer.claims;
    let name = |claim: &Option<config::report::Located<String>>| claim.as_ref().map(|claim| claim.value.clone());
    Ok(ForeignIssuer {
        label: issuer.label().into(),
        profile: Profile {
            issuer: issuer.issuer.as_ref().map(|issuer| issuer.value.clone()),
            audience: issuer.audience.clone(),
            types: issuer.types(),
            leeway: issuer.leeway,
            required_claims: issuer.required_claims(),
            subject_claim: claims.subject.value.clone(),
            origin: Origin::Foreign,
        },
        keys: key_source(issuer)?,
        claims: ClaimNames {
            roles: name(&claims.roles),
            scopes: name(&claims.scopes),
            tenant: name(&claims.tenant),
            username: name(&claims.username),
            email: name(&claims.email),
        },
        accounts: issuer.accounts,
    })
}

fn key_source(issuer: &config::Issuer) -> anyhow::Result<Arc<KeySource>> {
    let algorithms = issuer.algorithms();
    let place = match issuer.key_source().context("nothing says where its keys are")? {
        KeysFrom::Secret(path) => {
            let secret = signing::read(path).with_context(|| path.display().to_string())?;
            let set = KeySet::secret(&secret, &algorithms).map_err(|why| anyhow!("{}: {why}", path.display()))?;
            return Ok(KeySource::fixed(issuer.label(), set));
        }
        KeysFrom::File(path) => return Ok(KeySource::fixed(issuer.label(), set_of_file(path, &algorithms)?)),
        KeysFrom::Discover { issuer } => KeyPlace::Discover { issuer: issuer.to_owned() },
        KeysFrom::Url(url) => KeyPlace::Url(url.to_owned()),
    };
    let trust = Trust { ca_file: issuer.ca_file.as_ref().map(|file| file.value.clone()), allow_private: issuer.allow_private };
    let client = Client::new(&trust).map_err(anyhow::Error::msg)?;
    let (refresh_interval, max_stale) = (issuer.refresh_interval, issuer.max_stale);
    Ok(KeySource::fetched(issuer.label(), Fetching { place, client, algorithms, refresh_interval, max_stale }))
}

fn set_of_file(path: &Path, algorithms: &[config::JwsAlgorithm]) -> anyhow::Result<KeySet> {
    let shown = || path.display().to_string();
    let mut bytes = Vec::new();
    File::open(path).with_context(shown)?.take(MAX_SET_BYTES + 1).read_to_end(&mut bytes).with_context(shown)?;
    if bytes.len() as u64 > MAX_SET_BYTES {
        return Err(anyhow!("{}: a JWK set has at most 512 KiB", shown()));
    }
    let set = KeySet::parse(&bytes, algorithms).map_err(|why| anyhow!("{}: {why}", shown()))?;
    for skipped in set.skipped() {
        tracing::warn!(file = %path.display(), "a key was left out: {skipped}");
    }
    match set.is_empty() {
        true => Err(anyhow!("{}: no key of the set can be used: {}", shown(), set.skipped().join("; "))),
        false => Ok(set),
    }
}

const MAX_SET_BYTES: u64 = 512 << 10;
