//! `${env:NAME}` and `${file:PATH}` in strings of a config file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Replaces every `${…}` of `text`, once: what is brought in is not looked at again. Errors name the variable or file,
/// never what it holds.
pub fn interpolate(text: &str, folder: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, tail) = after.split_once('}').ok_or("`${` without its `}`")?;
        out.push_str(before);
        out.push_str(&look_up(name, folder, environment)?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

/// The files that [`interpolate`] reads for `text`.
pub fn named_files(text: &str, folder: &Path) -> Vec<PathBuf> {
    let named = text.split("${file:").skip(1).filter_map(|rest| rest.split_once('}'));
    named.map(|(path, _)| folder.join(path)).collect()
}

fn look_up(name: &str, folder: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let value = match name.split_once(':') {
        Some(("env", variable)) => {
            environment(variable).ok_or_else(|| format!("the environment variable `{variable}` is not set"))?
        }
        Some(("file", path)) => {
            let path = folder.join(path);
            let text = read_value(&path).map_err(|why| format!("cannot read `{}`: {why}", path.display()))?;
            text.trim_end_matches(['\n', '\r']).to_owned()
        }
        Some(_) | None => return Err(format!("`${{{name}}}` is neither `${{env:NAME}}` nor `${{file:PATH}}`")),
    };
    match value.contains(['\n', '\r', '\0']) {
        true => Err(format!("the value of `${{{name}}}` has more than one line")),
        false => Ok(value),
    }
}

fn read_value(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    read.map_err(|error| say(&error))?;
    match text.len() as u64 > MAX_BYTES {
        true => Err(format!("it has more than {} KiB", MAX_BYTES >> 10)),
        false => Ok(text),
    }
}

/// Why a file cannot be read, in words for its owner.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the operating system's errors are an open set: the others are said in its words"
)]
pub fn say(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::IsADirectory => "this is a folder, not a file".to_owned(),
        io::ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8".to_owned(),
        _ => error.to_string(),
    }
}

/// The most that `${file:PATH}` may bring in.
const MAX_BYTES: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, folder: &Path) -> Result<String, String> {
        let environment = |name: &str| match name {
            "HOST" => Some("example.com".to_owned()),
            "TWICE" => Some("${env:HOST}".to_owned()),
            "LINES" => Some("a\nb".to_owned()),
            _ => None,
        };
        interpolate(text, folder, &environment)
    }

    #[test]
    fn variables_and_files_are_put_in_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("port"), "8080\r\n").unwrap();
        for (text, expected) in [
            ("http://${env:HOST}:${file:port}/x", "http://example.com:8080/x"),
            ("${env:TWICE}", "${env:HOST}"),
            ("no $ {stand-in} here }", "no $ {stand-in} here }"),
        ] {
            assert_eq!(run(text, folder.path()), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn what_cannot_be_put_in_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("binary"), [0xff, 0xfe]).unwrap();
        std::fs::write(folder.path().join("large"), "x".repeat(65_537)).unwrap();
        for (text, why) in [
            ("${env:NONE}", "the environment variable `NONE` is not set"),
            ("${env:LINES}", "the value of `${env:LINES}` has more than one line"),
            ("${env:HOST", "`${` without its `}`"),
            ("${HOST}", "`${HOST}` is neither `${env:NAME}` nor `${file:PATH}`"),
            ("${file:none}", "cannot read `FOLDER/none`: there is no such file"),
            ("${file:.}", "cannot read `FOLDER/.`: this is a folder, not a file"),
            ("${file:binary}", "cannot read `FOLDER/binary`: it is not UTF-8"),
            ("${file:large}", "cannot read `FOLDER/large`: it has more than 64 KiB"),
        ] {
            let expected = why.replace("FOLDER", &folder.path().display().to_string());
            assert_eq!(run(text, folder.path()), Err(expected));
        }
    }
}
