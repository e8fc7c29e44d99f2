//! The files that a config is made of: the file itself, contracts, `${file:…}`, certificates, keys. Whoever waits for a
//! change looks at what they hold, not at their times: a symbolic link that leads elsewhere now is a change, and a file that
//! was written again with the same bytes is none.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use crate::config::report::Place;

/// What a file held when it was read, by its SHA-256. `None` where there was no file that could be read.
pub type Content = Option<[u8; 32]>;

/// A file that a config names.
#[derive(Clone, Debug)]
pub struct UsedFile {
    /// Where it is named; nowhere for the config file itself.
    pub place: Option<Place>,
    pub path: PathBuf,
    pub content: Content,
}

/// What a file holds now. Of one that is larger than any file of a config, the beginning counts.
pub fn content(path: &Path) -> Content {
    // Opening a pipe would wait for whoever writes to it.
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut file = File::open(path).ok()?.take(MAX_BYTES);
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => break,
            count => hash.update(buffer.get(..count)?),
        }
    }
    hash.finish().as_ref().first_chunk().copied()
}

const MAX_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_a_file_holds_tells_it_from_what_it_held() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("one"), "a").unwrap();
        fs::write(at("two"), "b").unwrap();
        symlink(at("one"), at("link")).unwrap();
        assert_eq!(content(&at("link")), content(&at("one")));
        assert_ne!(content(&at("one")), content(&at("two")));
        assert_eq!((content(&at("none")), content(folder.path())), (None, None));
        fs::remove_file(at("link")).unwrap();
        symlink(at("two"), at("link")).unwrap();
        assert_eq!(content(&at("link")), content(&at("two")));
    }
}
