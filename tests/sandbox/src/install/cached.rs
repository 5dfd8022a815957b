//! A cache of downloads and builds: made once, whole or not at all, by one process at a time.
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use tokio::{
    process::Command,
    time::{Instant, sleep, timeout},
};

use crate::{report, tool::last_lines};

/// What is being made, beside what is made.
const MAKING: &str = ".making";

/// `$XDG_CACHE_HOME/deployctl`.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Opens it, making it if it is missing.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The folder KIND/KEY, made by `make` in a temporary folder beside it if it is not there.
    pub async fn get<F>(&self, kind: &str, key: String, make: impl FnOnce(PathBuf) -> F) -> Result<PathBuf>
    where
        F: Future<Output = Result<()>>,
    {
        let target = self.folder.join(kind).join(&key);
        if target.exists() {
            return Ok(target);
        }
        let parent = self.folder.join(kind);
        fs::create_dir_all(&parent).with_context(|| format!("making {}", parent.display()))?;
        let _lock = self.lock(kind).await?;
        if target.exists() {
            return Ok(target);
        }
        let began = Instant::now();
        report::line(format_args!("installing {kind} {key}"));
        // One name for all, because of the lock: what an installation that was killed has left is in the way of the next, which takes it away.
        let left = parent.join(MAKING);
        if left.exists() {
            fs::remove_dir_all(&left).with_context(|| format!("removing {}", left.display()))?;
        }
        let temporary = tempfile::Builder::new().prefix(MAKING).rand_bytes(0).tempdir_in(&parent)?;
        make(temporary.path().to_owned()).await.with_context(|| format!("installing {kind}"))?;
        fs::rename(temporary.keep(), &target).with_context(|| format!("moving {} into place", target.display()))?;
        report::line(format_args!("installed {kind} in {} s", began.elapsed().as_secs()));
        Ok(target)
    }

    /// Two `up` at once must not build the same thing twice; the lock goes with its process, so no crash leaves one.
    async fn lock(&self, kind: &str) -> Result<File> {
        let path = self.folder.join(kind).join(".lock");
        let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
        let (began, mut told) = (Instant::now(), Instant::now());
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::Error(error)) => return Err(error).with_context(|| format!("locking {}", path.display())),
                Err(fs::TryLockError::WouldBlock) if began.elapsed() > super::BUILD => {
                    bail!(
                        "another process has been installing {kind} for {} minutes; its lock is {}",
                        began.elapsed().as_secs() / 60,
                        path.display()
                    )
                }
                Err(fs::TryLockError::WouldBlock) => {
                    if told.elapsed() > Duration::from_secs(10) {
                        told = Instant::now();
                        report::line(format_args!("waiting for another process that installs {kind} ({} s)", began.elapsed().as_secs()));
                    }
                    sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

/// Runs one command of an installation, with a line every ten seconds, and its last words in the error.
pub async fn step(what: &str, mut command: Command) -> Result<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let began = Instant::now();
    let work = timeout(super::BUILD, command.output());
    tokio::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            () = sleep(Duration::from_secs(10)) => report::line(format_args!("{what}: {} s so far", began.elapsed().as_secs())),
        }
    };
    let done = done
        .with_context(|| format!("{what} took longer than {} minutes", super::BUILD.as_secs() / 60))?
        .with_context(|| what.to_owned())?;
    if !done.status.success() {
        let said = format!("{}\n{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        bail!("{what} failed ({}):\n{}", done.status, last_lines(&said, 15));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// A short name for these contents: what was built from the same ones need not be built again.
pub fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_knows_where_its_parts_end() {
        assert_ne!(key([b"ab".as_slice(), b"c"]), key([b"a".as_slice(), b"bc"]));
    }

    #[tokio::test]
    async fn a_failed_installation_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let failed = cache.get("thing", "1".into(), async |at: PathBuf| {
            fs::write(at.join("half"), "x")?;
            bail!("no")
        });
        assert!(failed.await.is_err());
        let left: Vec<_> = fs::read_dir(folder.path().join("thing")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [".lock"]);
        // And one that was killed leaves what the next one takes away.
        fs::create_dir_all(folder.path().join("thing").join(MAKING).join("half")).unwrap();
        let made = cache.get("thing", "1".into(), async |at: PathBuf| Ok(fs::write(at.join("whole"), "x")?)).await.unwrap();
        assert!(made.join("whole").exists() && !made.join("half").exists());
        assert!(!folder.path().join("thing").join(MAKING).exists());
    }
}
