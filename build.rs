//! Lists the contract files of `deploy/contracts/` for `src/contract/builtin.rs`, so that no contract's name has to
//! stand in the program.

use std::path::Path;
use std::{env, fs, io};

#[expect(clippy::disallowed_methods, reason = "cargo talks to build scripts through the environment")]
fn main() -> io::Result<()> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join("deploy/contracts");
    println!("cargo::rerun-if-changed=deploy/contracts");
    let mut files: Vec<_> = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let entries: String = files
        .iter()
        .map(|path| format!("({:?}, include_str!({path:?})), ", path.file_stem().unwrap_or_default().to_string_lossy()))
        .collect();
    let out = Path::new(&env::var("OUT_DIR").map_err(io::Error::other)?).join("contracts.rs");
    fs::write(out, format!("pub const CONTRACTS: &[(&str, &str)] = &[{entries}];\n"))
}
