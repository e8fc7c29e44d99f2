//! From a path to a config: reads the file, decodes it, checks it. The only place that opens `gateway.toml`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::decode::{Decoder, decode_document};
use crate::config::interpolate::say;
use crate::config::report::{Place, Report};
use crate::config::resolve::resolve;
use crate::config::{Config, Listener};

/// A config and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// The file, as it was named.
    pub path: PathBuf,
    /// The file's folder: what paths in it, the store's URL and contract files are relative to. Empty for the working
    /// directory, so that joined paths read as they were written.
    pub folder: PathBuf,
    /// The number of its text in the report.
    pub source: usize,
}

/// Reads the config file at `path`, in which `${env:NAME}` asks `environment`; every mistake goes to `report`.
///
/// `None` when the file cannot be read or parsed. With other mistakes there is a config, for more checks that report to
/// the same `report`; nothing may be started from it before [`Report::is_clean`] says so.
pub fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>, report: &mut Report) -> Option<Loaded> {
    report.uses(None, path.to_owned());
    let (text, why) = match read(path) {
        Ok(bytes) => decode_utf8(bytes),
        Err(why) => (String::new(), Some((0, why))),
    };
    let Some((at, why)) = why else { return parse(&text, path, environment, report) };
    let source = report.add_source(path.display().to_string(), text);
    report.error(Place::new(source, at..at), why);
    None
}

/// What [`load`] does with the text of a file.
pub fn parse(text: &str, path: &Path, environment: &dyn Fn(&str) -> Option<String>, report: &mut Report) -> Option<Loaded> {
    // Windows editors put a byte order mark before UTF-8; TOML allows it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = report.add_source(path.display().to_string(), text);
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut config: Config = decode_document(text, &mut Decoder { report, source, folder, environment })?;
    settle(&mut config, report);
    resolve(&config, report);
    Some(Loaded { config, path: path.to_owned(), folder: folder.to_owned(), source })
}

/// Gives the file what it may leave out.
fn settle(config: &mut Config, report: &mut Report) {
    if report.written(config.place, "listener").is_none() {
        config.listeners.push(Listener::default());
    }
    for listener in &mut config.listeners {
        listener.default_api.take_if(|name| name.value.is_empty());
    }
    if report.written(config.place, "api").is_none() {
        let help = "the shortest has `upstream = \"http://127.0.0.1:9000\"` and `contract = \"native\"`";
        report.error_with_help(config.place.start(), "there is no `[[api]]`: nothing would be let through", help);
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| say(&error))?;
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(format!("the file has more than {} MiB: it is no config", MAX_BYTES >> 20)),
        false => Ok(bytes),
    }
}

/// The text, and where and why it is none.
fn decode_utf8(bytes: Vec<u8>) -> (String, Option<(usize, String)>) {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return (String::new(), Some((0, "the file is UTF-16: save it as UTF-8".to_owned())));
    }
    String::from_utf8(bytes).map_or_else(
        |error| {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            (text, Some((at, "the file is not UTF-8 from here on".to_owned())))
        },
        |text| (text, None),
    )
}

/// A thousand routes are about 200 KiB.
const MAX_BYTES: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a file with these bytes, without the folder's name.
    fn findings(folder: &Path, name: &str) -> (bool, String) {
        let mut report = Report::default();
        let loaded = load(&folder.join(name), &|_| None, &mut report);
        (loaded.is_some(), report.to_string().replace(&format!("{}/", folder.display()), ""))
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::create_dir(path.join("folder.toml")).unwrap();
        std::fs::write(path.join("latin1.toml"), b"[server]\nworkers = \"\xe9\"\n").unwrap();
        std::fs::write(path.join("utf16.toml"), b"\xff\xfe[\0").unwrap();
        std::fs::write(path.join("large.toml"), vec![b'#'; (4 << 20) + 1]).unwrap();
        for (name, shown) in [
            ("none.toml", "none.toml: there is no such file\n1 error"),
            ("folder.toml", "folder.toml: this is a folder, not a file\n1 error"),
            ("utf16.toml", "utf16.toml: the file is UTF-16: save it as UTF-8\n1 error"),
            ("large.toml", "large.toml: the file has more than 4 MiB: it is no config\n1 error"),
            (
                "latin1.toml",
                "latin1.toml:2:12: the file is not UTF-8 from here on\n    | workers = \"\u{fffd}\"\n    |            ^\n1 error",
            ),
        ] {
            assert_eq!(findings(path, name), (false, shown.to_owned()));
        }
    }

    #[test]
    fn a_byte_order_mark_and_windows_line_ends_are_read_over() {
        let folder = tempfile::tempdir().unwrap();
        let text = "\u{feff}[[api]]\r\nupstream = \"http://127.0.0.1:9000\"\r\ncontract = \"native\"\r\nhost = 1\r\n";
        std::fs::write(folder.path().join("windows.toml"), text).unwrap();
        let (loaded, shown) = findings(folder.path(), "windows.toml");
        assert!(loaded);
        assert!(shown.starts_with("windows.toml:4:1: unknown key `host`\n    | host = 1\n    | ^^^^\n"), "{shown}");
    }

    #[test]
    fn an_empty_file_is_told_what_a_config_needs() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty.toml"), "").unwrap();
        let (loaded, shown) = findings(folder.path(), "empty.toml");
        assert!(loaded);
        assert!(shown.starts_with("empty.toml: there is no `[[api]]`: nothing would be let through\n"), "{shown}");
    }
}
