//! `gateward check` on files with mistakes: what it prints is what stands beside them, and the exit code says so.

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn check_prints_every_mistake_of_a_file_with_its_place() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 12, "{files:?}");
    for file in files {
        let output = Command::new(env!("CARGO_BIN_EXE_gateward"))
            .args([Path::new("check"), Path::new(file.file_name().unwrap())])
            .current_dir(&folder)
            .env("NO_COLOR", "1")
            .env("GATEWARD_TEST_PORT", "http")
            .env("GATEWARD_TEST_SECRET", "hunter2")
            .env_remove("GATEWARD_TEST_UNSET")
            .output()
            .unwrap();
        let expected = std::fs::read_to_string(file.with_extension("expected")).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr).trim_end(), expected.trim_end(), "{}", file.display());
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(78), b"".as_slice()), "{}", file.display());
    }
}

#[test]
fn check_finds_nothing_wrong_with_the_example() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.toml.example");
    let output = Command::new(env!("CARGO_BIN_EXE_gateward")).arg("check").arg(example).output().unwrap();
    assert_eq!((String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code()), (String::new(), Some(0)));
}

/// The configs that are shipped, with what their surroundings give them.
#[test]
fn check_finds_nothing_wrong_with_what_is_shipped() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    for file in ["docker.toml", "compose.toml", "examples/infracast.toml", "examples/decisions.toml"] {
        let output = Command::new(env!("CARGO_BIN_EXE_gateward"))
            .arg("check")
            .arg(folder.join(file))
            .envs([("GATEWARD_UPSTREAM", "http://api:9000"), ("GATEWARD_CONTRACT", "native")])
            .env("GATEWARD_STORE", "postgres://gateward:secret@postgres/gateward")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((said, output.status.code()), (String::new(), Some(0)), "{file}");
    }
}
