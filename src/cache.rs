//! Where this machine keeps what it built or downloaded, for every checkout on it. All of it may be deleted at any time.
use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    failure::{Failure, FailureKind},
    waiting,
};

/// `$XDG_CACHE_HOME/deployctl`, by default `~/.cache/deployctl`.
pub fn folder() -> Result<PathBuf, Failure> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    root.map(|root| root.join("deployctl")).ok_or_else(|| Failure::usage("neither XDG_CACHE_HOME nor HOME is set"))
}

/// Where staged sources are compiled.
pub fn sources() -> Result<PathBuf, Failure> {
    Ok(folder()?.join("image-source"))
}

/// Waits for an exclusive lock on a file, which is released when the file is closed, by death too. `what` others hold it for.
pub async fn turn(path: &Path, what: &str, deadline: Duration, cancel: &CancellationToken) -> Result<File, Failure> {
    let unusable = |e: std::io::Error| Failure::new(FailureKind::Preflight, format!("could not lock {}", path.display())).because(e);
    let file = File::create(path).map_err(unusable)?;
    let _waiting = waiting::call(format!("{what} of another process"), deadline);
    let started = tokio::time::Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(unusable(e)),
        }
        if started.elapsed() >= deadline {
            return Err(Failure::timeout(format!("{what} of another process, which holds {}", path.display()), deadline));
        }
        tokio::select! {
            () = cancel.cancelled() => {
                return Err(Failure::new(FailureKind::Interrupted, format!("interrupted while waiting for {what} of another process")));
            }
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }
}
