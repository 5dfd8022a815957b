//! Hands over to deployctl-sandbox, which is a program of its own so that deployctl holds no emulation.
use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::failure::{Failure, FailureKind};

const PROGRAM: &str = "deployctl-sandbox";

/// The program beside this one, else on PATH.
fn find(beside: Option<&Path>, path: Option<OsString>) -> Option<PathBuf> {
    let beside = beside.and_then(Path::parent).map(Path::to_owned);
    beside
        .into_iter()
        .chain(path.iter().flat_map(std::env::split_paths))
        .map(|folder| folder.join(PROGRAM))
        .find(|program| program.is_file())
}

/// Becomes deployctl-sandbox; comes back only if it cannot.
pub fn become_sandbox(args: &[OsString]) -> Failure {
    let this = std::env::current_exe().ok();
    let Some(program) = find(this.as_deref(), std::env::var_os("PATH")) else {
        return Failure::new(FailureKind::Preflight, format!("there is no {PROGRAM} beside deployctl or on PATH"))
            .next("build it: cargo build -p deployctl-sandbox");
    };
    let error = Command::new(&program).args(args).exec();
    Failure::new(FailureKind::Preflight, format!("{} cannot be started", program.display())).because(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn looks_beside_itself_first_and_on_the_path_then() {
        let (beside, path) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let this = beside.path().join("deployctl");
        let search = || find(Some(&this), Some(path.path().as_os_str().to_owned()));
        assert_eq!(search(), None);
        std::fs::write(path.path().join(PROGRAM), "").unwrap();
        assert_eq!(search(), Some(path.path().join(PROGRAM)));
        std::fs::write(beside.path().join(PROGRAM), "").unwrap();
        assert_eq!(search(), Some(beside.path().join(PROGRAM)));
    }
}
