//! Gives the crate a word for the sources that it was built from: `nacred` and `nacre-shim` must be of the same.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{fs, io};

fn read_into(files: &mut BTreeMap<PathBuf, Vec<u8>>, dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            read_into(files, &path)?;
        } else {
            files.insert(path.clone(), fs::read(path)?);
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let mut files = BTreeMap::new();
    read_into(&mut files, Path::new("."))?;
    let mut hash = DefaultHasher::new();
    files.hash(&mut hash);
    let words = format!(
        "cargo::rerun-if-changed=.\ncargo::rustc-env=NACRE_RUNTIME_BUILD={:016x}\n",
        hash.finish()
    );
    io::Write::write_all(&mut io::stdout(), words.as_bytes())
}
