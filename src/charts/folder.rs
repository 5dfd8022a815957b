//! A chart's folder in the project. Its digest is over its files, as `sha256sum` lists them:
//!
//! ```sh
//! cd CHART && find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum
//! ```
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{emptied, write};
use crate::{failure::Failure, ids::ImageDigest, image::digest_of};

/// Contents by path from the chart's folder, in the byte order of the paths.
type Files = BTreeMap<String, Vec<u8>>;

/// The digest of a chart's folder: over every file's name and content, and nothing else; modes and times are no part of a chart.
pub fn digest_of_folder(folder: &Path) -> Result<ImageDigest, Failure> {
    digest(&read(folder)?)
}

/// Copies a chart's folder and gives the copy's digest: what is rendered afterwards is what was hashed.
pub(super) fn copy(folder: &Path, into: &Path) -> Result<ImageDigest, Failure> {
    let files = read(folder)?;
    emptied(into)?;
    for (name, content) in &files {
        write(&into.join(name), content)?;
    }
    digest(&files)
}

fn digest(files: &Files) -> Result<ImageDigest, Failure> {
    let mut list = String::new();
    for (name, content) in files {
        // Writing into a String cannot fail.
        writeln!(list, "{}  {name}", hex::encode(Sha256::digest(content))).unwrap_or_default();
    }
    digest_of(list.as_bytes())
}

fn read(folder: &Path) -> Result<Files, Failure> {
    let (mut files, mut todo) = (Files::new(), vec![PathBuf::new()]);
    while let Some(below) = todo.pop() {
        let at = folder.join(&below);
        let unreadable = |e: std::io::Error| Failure::usage(format!("the chart's folder {} cannot be read", at.display())).because(e);
        for entry in std::fs::read_dir(&at).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let kind = entry.file_type().map_err(unreadable)?;
            let name = below.join(entry.file_name());
            let text = name.to_str().filter(|text| !text.contains(['\n', '\\']));
            match (text, kind.is_dir(), kind.is_file()) {
                (_, true, _) => todo.push(name),
                (Some(text), _, true) => drop(files.insert(text.to_owned(), std::fs::read(entry.path()).map_err(unreadable)?)),
                // What it leads to may lie outside, and `sha256sum` writes odd names in its own way.
                _ => return Err(Failure::usage(format!("{}: a chart holds plain files under plain names only", entry.path().display()))),
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn chart() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("templates")).unwrap();
        for (name, text) in [("Chart.yaml", "name: a\n"), ("templates/a.yaml", "a: 1\n"), ("Zed", "z")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn every_name_and_every_byte_counts() {
        let (one, two) = (chart(), chart());
        let digest = |folder: &tempfile::TempDir| digest_of_folder(folder.path()).unwrap();
        assert_eq!(digest(&one), digest(&two));
        let into = tempfile::tempdir().unwrap();
        assert_eq!(copy(one.path(), &into.path().join("copy")).unwrap(), digest(&one));
        assert_eq!(digest_of_folder(&into.path().join("copy")).unwrap(), digest(&one));
        std::fs::write(two.path().join("templates/a.yaml"), "a: 2\n").unwrap();
        assert_ne!(digest(&one), digest(&two));
        std::fs::write(two.path().join("templates/a.yaml"), "a: 1\n").unwrap();
        std::fs::rename(two.path().join("Zed"), two.path().join("zed")).unwrap();
        assert_ne!(digest(&one), digest(&two));
    }

    #[test]
    fn a_link_is_no_part_of_a_chart() {
        let folder = chart();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("templates/b.yaml")).unwrap();
        assert!(digest_of_folder(folder.path()).unwrap_err().message.contains("plain files"));
    }
}
