//! A copy of the project that may be spoiled, or changed as a person would change it.
use std::{path::PathBuf, process::Command};

use super::target::{Ended, Target, project};

/// See the module.
pub struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    /// Everything that a plan reads.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let members = ["Cargo.toml", "Cargo.lock", "src", "services", "templates", "terraform", "plans", "tests"];
        let copied = Command::new("cp").arg("-a").args(members).arg(folder.path()).current_dir(project()).status().unwrap();
        assert!(copied.success());
        Self { folder }
    }

    /// What `--project` takes.
    pub fn folder(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    /// A file of it.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Changes a text that must be there.
    pub fn replace(&self, file: &str, from: &str, to: &str) -> &Self {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        std::fs::write(self.path(file), text.replacen(from, to, 1)).unwrap();
        self
    }

    /// `deployctl apply --yes --only STEP` on it.
    pub fn apply(&self, target: &Target, step: &str) -> Ended {
        target.deployctl(&["apply", "--yes", "--project", self.folder(), "--only", step])
    }
}
