//! The texts of a folder of migrations, subfolders among them: what deployctl sends into the cluster in one piece, and what is read there.
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Deeper folders than this are a loop of links.
const DEEPEST: usize = 16;

/// Every `.sql` and `.sql.conf` file by its path from the folder, with `/` between. Flyway calls the path of a file its script.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scripts(pub BTreeMap<String, String>);

/// A folder or a file that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ScriptsError {
    /// Not readable, or not UTF-8.
    #[error("can't read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// Not what deployctl has sent.
    #[error("{0} is not a bundle of migrations")]
    Bundle(PathBuf, #[source] serde_json::Error),
    /// A folder in a folder in a folder.
    #[error("{0} is deeper than {DEEPEST} folders")]
    Deep(PathBuf),
}

impl Scripts {
    /// Reads a folder and what is below it.
    pub fn read(folder: &Path) -> Result<Self, ScriptsError> {
        let mut scripts = BTreeMap::new();
        descend(folder, "", 0, &mut scripts)?;
        Ok(Self(scripts))
    }
    /// Reads what [`Scripts::bundle`] wrote.
    pub fn from_bundle(file: &Path) -> Result<Self, ScriptsError> {
        let text = std::fs::read_to_string(file).map_err(|error| ScriptsError::Read(file.to_owned(), error))?;
        serde_json::from_str(&text).map_err(|error| ScriptsError::Bundle(file.to_owned(), error))
    }
    /// All of it as one text: a ConfigMap's keys take neither folders nor spaces.
    pub fn bundle(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
    /// Changes when any file does.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for (name, text) in &self.0 {
            hash.update(format!("{name}\0{}\0{text}", text.len()));
        }
        hex::encode(hash.finalize())[..16].to_owned()
    }
}

fn descend(folder: &Path, prefix: &str, depth: usize, into: &mut BTreeMap<String, String>) -> Result<(), ScriptsError> {
    if depth > DEEPEST {
        return Err(ScriptsError::Deep(folder.to_owned()));
    }
    let unreadable = |error| ScriptsError::Read(folder.to_owned(), error);
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some(name) = path.file_name().map(|name| format!("{prefix}{}", name.to_string_lossy())) else { continue };
        if path.is_dir() {
            descend(&path, &format!("{name}/"), depth + 1, into)?;
        } else if name.ends_with(".sql") || name.ends_with(".sql.conf") {
            let text = std::fs::read_to_string(&path).map_err(|error| ScriptsError::Read(path, error))?;
            into.insert(name, text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subfolders_are_read_and_survive_the_way_into_the_cluster() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("2026/q4")).unwrap();
        for (name, text) in [("V1__a.sql", "a"), ("2026/q4/V2__b c.sql", "b"), ("2026/q4/V2__b c.sql.conf", "x"), ("README.md", "no")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let scripts = Scripts::read(folder.path()).unwrap();
        assert_eq!(scripts.0.keys().collect::<Vec<_>>(), ["2026/q4/V2__b c.sql", "2026/q4/V2__b c.sql.conf", "V1__a.sql"]);
        let bundle = folder.path().join("bundle.json");
        std::fs::write(&bundle, scripts.bundle().unwrap()).unwrap();
        assert_eq!(Scripts::from_bundle(&bundle).unwrap(), scripts);
        let mut other = scripts.clone();
        other.0.insert("V1__a.sql".into(), "b".into());
        assert_ne!(scripts.hash(), other.hash());
    }

    #[test]
    fn a_loop_of_folders_ends() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        assert!(matches!(Scripts::read(folder.path()), Err(ScriptsError::Deep(_))));
    }
}
