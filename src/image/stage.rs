//! One place where every checkout's sources are compiled. Compiler flags and paths are then the same for all of them, so that what one
//! has compiled is warm for the next, and the same sources give the same bytes wherever they were checked out.
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    cache,
    failure::{Failure, FailureKind},
};

/// Never compiled, and sometimes large.
const SKIPPED: [&str; 4] = ["target", ".git", ".terraform", "node_modules"];

/// A build from nothing takes a quarter of an hour on a small machine.
const DEADLINE: Duration = Duration::from_secs(60 * 60);

/// The staged sources; while it lives nobody else changes them.
pub struct Stage {
    /// Where they are.
    pub folder: PathBuf,
    /// Released with it.
    _lock: File,
}

/// Makes the stage called `name` equal to the project. A file whose content is there already is not touched: cargo goes by its time.
/// Waits for another process that compiles, and says so.
pub async fn stage(project: &Path, name: &str, cancel: &CancellationToken, progress: &(dyn Fn(&str) + Sync)) -> Result<Stage, Failure> {
    let base = cache::sources()?;
    let failed = |e: io::Error| Failure::new(FailureKind::Preflight, format!("{} cannot be written", base.display())).because(e);
    fs::create_dir_all(&base).map_err(failed)?;
    let path = base.join("lock");
    let lock = tokio::select! {
        lock = cache::turn(&path, "a build of images", DEADLINE, cancel) => lock?,
        never = tell(progress) => match never {},
    };
    let folder = base.join(name);
    let (from, to) = (project.to_owned(), folder.clone());
    let copied = tokio::task::spawn_blocking(move || mirror(&from, &to)).await;
    copied.map_err(|e| Failure::step("copying the sources").because(e))?.map_err(failed)?;
    Ok(Stage { folder, _lock: lock })
}

async fn tell(progress: &(dyn Fn(&str) + Sync)) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        progress("waiting for another process that builds images");
    }
}

fn mirror(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut kept = BTreeSet::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if SKIPPED.iter().any(|skipped| name == *skipped) {
            continue;
        }
        let (source, target, kind) = (entry.path(), to.join(&name), entry.file_type()?);
        if kind.is_dir() {
            mirror(&source, &target)?;
        } else if kind.is_file() {
            let content = fs::read(&source)?;
            if fs::read(&target).ok().as_deref() != Some(&content[..]) {
                fs::write(&target, content)?;
            }
        } else {
            // A link may lead out of the project; nothing that is compiled is one.
            continue;
        }
        kept.insert(name);
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !kept.contains(&entry.file_name()) {
            if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_keeps_its_time_and_what_is_gone_goes() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("src")).unwrap();
        fs::create_dir_all(from.path().join("target")).unwrap();
        for (name, content) in [("src/a.rs", "a"), ("src/b.rs", "b"), ("target/x", "x")] {
            fs::write(from.path().join(name), content).unwrap();
        }
        mirror(from.path(), to.path()).unwrap();
        assert!(!to.path().join("target").exists());
        let time = |name: &str| fs::metadata(to.path().join(name)).unwrap().modified().unwrap();
        let before = time("src/a.rs");
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(from.path().join("src/a.rs"), "a").unwrap();
        fs::remove_file(from.path().join("src/b.rs")).unwrap();
        mirror(from.path(), to.path()).unwrap();
        assert_eq!(time("src/a.rs"), before);
        assert!(!to.path().join("src/b.rs").exists());
    }
}
