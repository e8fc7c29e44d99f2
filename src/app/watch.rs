//! Notices that a file of the config holds something else than it did.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::{Content, UsedFile, content};

/// The files of the config, with what they held when it was read last.
pub struct Watch {
    known: BTreeMap<PathBuf, Content>,
    /// What they held at the last look, where that was something else.
    unsettled: Option<BTreeMap<PathBuf, Content>>,
}

impl Watch {
    pub fn new(files: &[UsedFile]) -> Self {
        Self { known: contents(files), unsettled: None }
    }

    /// The config was read, and was made of `files`, whatever became of it. Those of the config in effect, `also`, stay
    /// watched: a file that a broken config no longer names may be what mends it.
    pub fn read(&mut self, files: &[UsedFile], also: &[UsedFile]) {
        self.known = contents(files);
        for file in also {
            self.known.entry(file.path.clone()).or_insert_with(|| content(&file.path));
        }
        self.unsettled = None;
    }

    /// Whether there is a change that is complete: a file that is being written is left alone until two looks find the same.
    pub fn look(&mut self) -> bool {
        let now: BTreeMap<PathBuf, Content> = self.known.keys().map(|path| (path.clone(), content(path))).collect();
        if now == self.known {
            self.unsettled = None;
            return false;
        }
        let is_settled = self.unsettled.as_ref() == Some(&now);
        self.unsettled = Some(now);
        is_settled
    }
}

/// Of a file that is named twice, what it held first: what was read from it later may be newer than that, never older.
fn contents(files: &[UsedFile]) -> BTreeMap<PathBuf, Content> {
    let mut contents = BTreeMap::new();
    for file in files {
        contents.entry(file.path.clone()).or_insert(file.content);
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.toml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let used = || vec![UsedFile { place: None, path: path.clone(), content: content(&path) }];
        write("a = 1\nb = 2\n");
        let mut watch = Watch::new(&used());
        assert!(!watch.look());
        write("a = 1\n");
        assert!(!watch.look(), "it may go on");
        write("a = 1\nb = 3\n");
        assert!(!watch.look(), "it did");
        assert!(watch.look());
        assert!(watch.look(), "until it is read");
        watch.read(&used(), &[]);
        assert!(!watch.look());
        write("a = 2\n");
        assert!(!watch.look());
        write("a = 1\nb = 3\n");
        assert!(!watch.look(), "as it was");
    }

    #[test]
    fn a_file_that_was_missing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("contract.toml");
        let missing = vec![UsedFile { place: None, path: path.clone(), content: content(&path) }];
        let mut watch = Watch::new(&[]);
        watch.read(&[], &missing);
        std::fs::write(&path, "x").unwrap();
        assert!(!watch.look());
        assert!(watch.look());
    }
}
