//! Names in the cache that stay while builds come and go: plan files and tests name programs by them.
use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// KIND/PROGRAM, which points to KIND/HASH/PROGRAM; `built` is KIND/HASH.
pub fn name(built: &Path, program: &str) -> Result<PathBuf> {
    let kind = built.parent().context("a folder of the cache is in the cache")?;
    let link = kind.join(program);
    let target = Path::new(built.file_name().context("a folder of the cache has a name")?).join(program);
    point(&link, &target).with_context(|| format!("pointing {} to {}", link.display(), target.display()))?;
    Ok(link)
}

/// Who opens `link` meanwhile gets the old program or the new one.
fn point(link: &Path, target: &Path) -> io::Result<()> {
    if fs::read_link(link).is_ok_and(|now| now == target) {
        return Ok(());
    }
    let folder = link.parent().unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new().prefix(".link-").tempdir_in(folder)?;
    let fresh = temporary.path().join("link");
    symlink(target, &fresh)?;
    fs::rename(&fresh, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_follows_the_newest_build_and_leaves_nothing_else() {
        let kind = tempfile::tempdir().unwrap();
        for build in ["one", "two"] {
            fs::create_dir(kind.path().join(build)).unwrap();
            fs::write(kind.path().join(build).join("program"), build).unwrap();
        }
        for build in ["one", "two", "two", "one"] {
            let name = name(&kind.path().join(build), "program").unwrap();
            assert_eq!(name, kind.path().join("program"));
            assert_eq!(fs::read_to_string(&name).unwrap(), build);
        }
        assert_eq!(fs::read_dir(kind.path()).unwrap().count(), 3);
    }
}
