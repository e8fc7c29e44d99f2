//! Encrypts signing keys at rest: AES-256-GCM under the key of a file that only the gateway can read. Who has the
//! database and not the file has no signing key.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::identity::Secret;
use crate::random;
use crate::rejection::Failure;
use crate::store::OpenError;

pub(super) struct Seal {
    key: LessSafeKey,
    path: PathBuf,
}

/// What to do when the key file is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    /// Something is sealed already: a new key would not open it.
    Refuse,
}

impl Seal {
    pub(super) fn load(path: &Path, missing: Missing) -> Result<Self, OpenError> {
        let refuse = |what: String| OpenError::KeyFile { path: path.to_owned(), what };
        let io = |error: std::io::Error| refuse(error.to_string());
        let file = match (File::open(path), missing) {
            (Ok(file), _) => file,
            (Err(error), Missing::Make) if error.kind() == ErrorKind::NotFound => {
                make_key_file(path).map_err(|error| refuse(format!("cannot be made: {error}")))?;
                File::open(path).map_err(io)?
            }
            (Err(error), Missing::Refuse) if error.kind() == ErrorKind::NotFound => {
                return Err(refuse("is missing, and the store holds signing keys that it encrypted; restore it".to_owned()));
            }
            (Err(error), Missing::Make | Missing::Refuse) => return Err(io(error)),
        };
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        // Reading by the group is let pass: that is how orchestrators hand a secret to a process that is not root.
        if mode & 0o037 != 0 {
            return Err(refuse(format!("others may use it (mode {mode:04o}); run `chmod 600` on it")));
        }
        let mut text = Zeroizing::new(String::new());
        let read = file.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text);
        let bytes = read.ok().and_then(|_| STANDARD.decode(text.trim()).ok()).map(Zeroizing::new);
        let key = bytes.and_then(|bytes| UnboundKey::new(&AES_256_GCM, &bytes).ok());
        let key = key.ok_or_else(|| refuse("is malformed: it must hold 32 bytes as base64 and nothing else".to_owned()))?;
        Ok(Self { key: LessSafeKey::new(key), path: path.to_owned() })
    }

    /// Nonce, ciphertext and tag. `name` says what the secret is; it opens under the same name only.
    pub(super) fn seal(&self, name: &str, secret: &Secret) -> Result<Vec<u8>, Failure> {
        // Random nonces are safe for 2^32 messages under one key (NIST SP 800-38D, section 8.3); this seals a handful.
        let nonce = random::bytes::<NONCE_LEN>();
        // With room for the tag: growing the buffer would leave a copy of the secret behind.
        let mut text = Vec::with_capacity(secret.expose().len() + AES_256_GCM.tag_len());
        text.extend_from_slice(secret.expose().as_bytes());
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut text)
            .map_err(|_| Failure::Internal { detail: "AES-256-GCM did not seal".to_owned() })?;
        Ok([nonce.as_slice(), &text].concat())
    }

    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Result<Secret, Failure> {
        let refused = || Failure::StoreUnavailable {
            detail: format!(
                "the encryption key file {} is not the one that encrypted the signing key {name}",
                self.path.display()
            ),
        };
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(refused)?;
        let mut text = Zeroizing::new(text.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(name), &mut text).map_err(|_| refused())?;
        str::from_utf8(opened).map(Secret::new).map_err(|_| refused())
    }
}

/// Makes the file whole or not at all: written beside its place, then linked there, which fails if another process was
/// faster. That one's key is then as good.
fn make_key_file(path: &Path) -> std::io::Result<()> {
    let text = Zeroizing::new(format!("{}\n", STANDARD.encode(Zeroizing::new(random::bytes::<32>()))));
    let draft = path.with_added_extension(random::word(8));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let linked = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => sync_folder(path),
    }
}

/// Makes a new name in the folder of `path` survive power loss.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        Some(_) | None => File::open(".")?.sync_all(),
    }
}

/// 32 bytes are 44 characters; the rest is room for blanks around them.
const MAX_KEY_FILE_BYTES: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateward.key");
        (folder, path)
    }

    fn message(outcome: Result<Seal, OpenError>) -> String {
        outcome.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_key_file_is_made_once_and_only_its_owner_may_read_it() {
        let (folder, path) = place();
        let sealed = Seal::load(&path, Missing::Make).unwrap().seal("main/HS256", &Secret::new("s3cret")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let again = Seal::load(&path, Missing::Refuse).unwrap();
        assert_eq!(again.open("main/HS256", &sealed).unwrap().expose(), "s3cret");
    }

    #[test]
    fn a_sealed_key_opens_under_its_own_name_and_its_own_key_only() {
        let (_folder, path) = place();
        let (_other_folder, other_path) = place();
        let seal = Seal::load(&path, Missing::Make).unwrap();
        let other = Seal::load(&other_path, Missing::Make).unwrap();
        let sealed = seal.seal("main/HS256", &Secret::new("s3cret")).unwrap();
        assert_eq!(seal.open("main/RS256", &sealed).unwrap_err().code(), "store_unavailable");
        assert_eq!(
            other.open("main/HS256", &sealed).unwrap_err().to_string(),
            format!(
                "the store cannot be used: the encryption key file {} is not the one that encrypted the signing key main/HS256",
                other_path.display()
            )
        );
        for cut in 0..sealed.len() {
            assert_eq!(seal.open("main/HS256", &sealed[..cut]).unwrap_err().code(), "store_unavailable", "{cut}");
        }
    }

    #[test]
    fn a_key_file_that_others_may_use_is_refused() {
        let (_folder, path) = place();
        drop(Seal::load(&path, Missing::Make).unwrap());
        for (mode, refused) in [(0o644, true), (0o604, true), (0o620, true), (0o601, true), (0o640, false), (0o400, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let expected =
                format!("the encryption key file {}: others may use it (mode {mode:04o}); run `chmod 600` on it", path.display());
            assert_eq!(message(Seal::load(&path, Missing::Refuse)), if refused { expected } else { String::new() });
        }
    }

    #[test]
    fn a_malformed_key_file_is_refused() {
        let (_folder, path) = place();
        let short = STANDARD.encode([7; 31]);
        let long = STANDARD.encode([7; 33]);
        for text in ["", "no base64!", short.as_str(), long.as_str(), "\u{0}"] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let expected = format!(
                "the encryption key file {}: is malformed: it must hold 32 bytes as base64 and nothing else",
                path.display()
            );
            assert_eq!(message(Seal::load(&path, Missing::Make)), expected, "{text:?}");
        }
    }

    #[test]
    fn a_missing_key_file_is_not_made_where_something_is_sealed() {
        let (_folder, path) = place();
        let expected = format!(
            "the encryption key file {}: is missing, and the store holds signing keys that it encrypted; restore it",
            path.display()
        );
        assert_eq!(message(Seal::load(&path, Missing::Refuse)), expected);
        assert!(!path.exists());
    }
}
