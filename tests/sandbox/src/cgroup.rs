//! The sandbox's control groups: every process it starts is in one, so that `down` finds them all.
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::{layout::Layout, process::ProcessId};

/// The folder below each hierarchy, named as the namespace is; also kubelet's root.
pub fn root(layout: &Layout) -> String {
    layout.namespace()
}

/// Makes the groups: kubelet wants its root in every hierarchy.
pub fn ensure(layout: &Layout) -> Result<()> {
    for hierarchy in in_use(hierarchies()?) {
        let folder = hierarchy.mount.join(root(layout));
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        if hierarchy.kind == Kind::Cpuset {
            // A new cpuset is empty, and nothing can run in it until it says where.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let inherited = fs::read_to_string(hierarchy.mount.join(file))?;
                fs::write(folder.join(file), inherited.trim()).with_context(|| format!("writing {}", folder.join(file).display()))?;
            }
        }
    }
    Ok(())
}

/// Puts the calling process, and so all its children, into the sandbox's group.
pub fn join(layout: &Layout) -> Result<()> {
    for hierarchy in in_use(hierarchies()?).into_iter().filter(|h| matches!(h.kind, Kind::Processes | Kind::Unified)) {
        // A leaf of its own: in the unified hierarchy a group with processes cannot have children.
        let folder = hierarchy.mount.join(root(layout)).join("processes");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("cgroup.procs"), std::process::id().to_string()).with_context(|| format!("joining {}", folder.display()))?;
    }
    Ok(())
}

/// Kills everything that the sandbox started.
pub async fn kill_all(layout: &Layout, deadline: Duration) -> Result<()> {
    kill(&root(layout), deadline).await
}

/// Kills the processes of all pods.
pub async fn kill_pods(layout: &Layout, deadline: Duration) -> Result<()> {
    kill(&format!("{}/kubepods", root(layout)), deadline).await
}

/// Stops the processes of all pods, or lets them go on; one that has gone meanwhile is none of them.
pub fn signal_pods(layout: &Layout, signal: Signal) -> Result<()> {
    for pid in members(&format!("{}/kubepods", root(layout)))? {
        if let Ok(process) = ProcessId::of(pid) {
            process.signal(signal)?;
        }
    }
    Ok(())
}

/// Kills again and again until nothing is left: what is killed may just have forked.
async fn kill(group: &str, deadline: Duration) -> Result<()> {
    let end = tokio::time::Instant::now() + deadline;
    loop {
        let left = members(group)?;
        if left.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() > end {
            bail!("processes {left:?} did not go within {deadline:?}");
        }
        for pid in left {
            if let Ok(process) = ProcessId::of(pid) {
                process.signal(Signal::KILL)?;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Removes the groups, leaves first.
pub async fn remove(layout: &Layout) -> Result<()> {
    for hierarchy in hierarchies()? {
        let mut folders = Vec::new();
        walk(&hierarchy.mount.join(root(layout)), &mut |folder| folders.push(folder.to_owned()))?;
        for folder in folders.iter().rev() {
            remove_folder(folder).await?;
        }
    }
    Ok(())
}

/// A group whose last process has just died stays busy for a moment.
async fn remove_folder(folder: &Path) -> Result<()> {
    let end = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if tokio::time::Instant::now() > end => {
                return Err(error).with_context(|| format!("removing the cgroup {}", folder.display()));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

fn members(group: &str) -> Result<Vec<u32>> {
    let mut pids = Vec::new();
    for hierarchy in hierarchies()? {
        walk(&hierarchy.mount.join(group), &mut |folder| {
            // A group that went away in between has no members.
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        })?;
    }
    pids.sort_unstable();
    pids.dedup();
    // A zombie is listed until its parent reaps it; it needs no killing.
    pids.retain(|pid| ProcessId::of(*pid).is_ok_and(ProcessId::alive));
    Ok(pids)
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
    };
    visit(folder);
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), visit)?;
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Unified,
    Cpuset,
    /// The one of the old hierarchies by which processes are found.
    Processes,
    Other,
}

#[derive(Debug)]
struct Hierarchy {
    mount: PathBuf,
    kind: Kind,
}

fn hierarchies() -> Result<Vec<Hierarchy>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    Ok(parse(&text))
}

/// Those that matter: beside the old hierarchies the unified one has no controllers.
fn in_use(mut all: Vec<Hierarchy>) -> Vec<Hierarchy> {
    if all.iter().any(|h| h.kind != Kind::Unified) {
        all.retain(|h| h.kind != Kind::Unified);
    }
    all
}

fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let Some(mount) = before.split(' ').nth(4) else { continue };
        let mut after = after.split(' ');
        let kind = match (after.next(), after.nth(1)) {
            (Some("cgroup2"), _) => Kind::Unified,
            (Some("cgroup"), Some(options)) if options.split(',').any(|o| o == "cpuset") => Kind::Cpuset,
            (Some("cgroup"), Some(options)) if options.split(',').any(|o| o == "pids") => Kind::Processes,
            (Some("cgroup"), _) => Kind::Other,
            _ => continue,
        };
        found.push(Hierarchy { mount: mount.into(), kind });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_hierarchies_win_over_the_unified_one() {
        let text = "30 29 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n31 29 0:27 / /sys/fs/cgroup/cpuset rw shared:1 - cgroup cgroup rw,cpuset\n32 29 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let kinds: Vec<Kind> = in_use(parse(text)).into_iter().map(|h| h.kind).collect();
        assert_eq!(kinds, [Kind::Processes, Kind::Cpuset]);
        assert_eq!(parse("32 29 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")[0].kind, Kind::Unified);
    }
}
