//! A lock on a file of this machine: the kernel gives it back when the process dies, however it dies.
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use super::{Holder, locked};
use crate::{
    failure::{Failure, FailureKind},
    ids::EnvironmentName,
};

/// A lock on a file of this machine: the kernel gives it back when the process dies, however it dies.
pub struct LocalLease {
    file: File,
}

impl LocalLease {
    /// Takes the environment's lock in `folder`, or says who has it.
    pub fn acquire(folder: &Path, environment: &EnvironmentName, holder: &Holder) -> Result<Self, Failure> {
        let path = folder.join(format!("{environment}.lock"));
        let fail = |error: std::io::Error| {
            Failure::new(FailureKind::Preflight, format!("the lock {} cannot be taken", path.display())).because(error)
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail)?;
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The holder may be writing its name just now; its absence must not hide the refusal.
                let known = file.read_to_string(&mut text).ok().and_then(|_| serde_json::from_str::<Holder>(&text).ok());
                return Err(locked(environment, known.as_ref()));
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let text = serde_json::to_vec(holder).map_err(|error| fail(error.into()))?;
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&text)).and_then(|()| file.sync_data()).map_err(fail)?;
        Ok(Self { file })
    }
    /// Gives it back.
    pub fn release(&self) -> Result<(), Failure> {
        self.file.unlock().map_err(|error| Failure::new(FailureKind::Internal, "the local lock cannot be given back").because(error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let environment = EnvironmentName::parse("staging").unwrap();
        let holder = Holder { owner: "ann@laptop".to_owned(), ..Holder::this_process("apply") };
        let first = LocalLease::acquire(folder.path(), &environment, &holder).unwrap();
        let refused = LocalLease::acquire(folder.path(), &environment, &holder).err().unwrap();
        assert_eq!(refused.kind, FailureKind::Locked);
        assert!(refused.message.contains("ann@laptop"), "{}", refused.message);
        let other = EnvironmentName::parse("production").unwrap();
        LocalLease::acquire(folder.path(), &other, &holder).unwrap();
        first.release().unwrap();
        LocalLease::acquire(folder.path(), &environment, &holder).unwrap();
    }
}
