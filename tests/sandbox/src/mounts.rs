//! Removes mounts and folders that containers left below the state folder.
use std::{fs, io, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use rustix::mount::{UnmountFlags, unmount};

/// Unmounts everything below a folder, the innermost first.
pub fn remove_below(folder: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    for mount in below(&table, folder).iter().rev() {
        match unmount(mount.as_str(), UnmountFlags::DETACH) {
            // Gone with what it was mounted on.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error).with_context(|| format!("unmounting {mount}")),
        }
    }
    Ok(())
}

/// Removes a folder; a process that dies just now may still write into it, so it is tried for a while.
pub async fn remove_folder(folder: &Path) -> Result<()> {
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        match fs::remove_dir_all(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => return Ok(()),
            Err(error) if tokio::time::Instant::now() > end => return Err(error).with_context(|| format!("removing {}", folder.display())),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn below(mountinfo: &str, folder: &Path) -> Vec<String> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    points.filter(|point| Path::new(point).starts_with(folder)).collect()
}

/// The kernel writes blanks and backslashes in octal.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_is_found() {
        let table = "1 0 0:1 / /state/demo/a\\040b rw - x x rw\n2 0 0:1 / /state/demo2/c rw - x x rw\n3 1 0:1 / /state/demo/a\\040b/c rw - x x rw\n";
        assert_eq!(below(table, Path::new("/state/demo")), ["/state/demo/a b", "/state/demo/a b/c"]);
    }
}
