//! `down`: removes everything that `up` and the parts made, whatever state they are in.
use std::{fs, io, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::{
    cgroup,
    claim::{self, SlotLock},
    control::{self, Request},
    daemon,
    layout::Layout,
    machine, mounts, network,
    process::{ProcessId, RunRecord},
    report,
};

/// Removes a sandbox; one that is not there is fine.
pub async fn down(name: &str) -> Result<()> {
    crate::up::need_root()?;
    let Some(layout) = claim::find(name)? else {
        report::line(format_args!("there is no sandbox named {name}"));
        return Ok(());
    };
    let began = Instant::now();
    let layout = &layout;
    let clusters = [layout.clone(), layout.of_dr_cluster()];
    end_processes(layout, &clusters).await?;
    for cluster in &clusters {
        remove_shim_sockets(cluster)?;
    }
    mounts::remove_below(&layout.state)?;
    for cluster in &clusters {
        cgroup::remove(cluster).await?;
        remove_strays(cluster)?;
    }
    let _lock = SlotLock::take().await?;
    network::remove(layout).await?;
    // The state folder goes almost last: while it is there, `down` can be repeated.
    mounts::remove_folder(&layout.state).await?;
    machine::restore()?;
    report::line(format_args!("sandbox {name} is gone ({:.1} s)", began.elapsed().as_secs_f32()));
    Ok(())
}

async fn end_processes(layout: &Layout, clusters: &[Layout]) -> Result<()> {
    let daemon: Option<RunRecord> = fs::read(daemon::record(layout)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(daemon) = daemon.filter(|d| d.process.alive()) {
        // Asked politely first: databases then remove their shared memory.
        let asked = control::ask(layout, Request::Stop).await;
        if asked.is_err() || !daemon.process.wait_until_gone(Duration::from_secs(25)).await {
            daemon.process.signal(Signal::KILL)?;
        }
    }
    for record in RunRecord::read_all(&layout.file("run"))? {
        record.process.signal(Signal::KILL)?;
    }
    for cluster in clusters {
        cgroup::kill_all(cluster, Duration::from_secs(20)).await?;
    }
    // What a person started with `exec` is in the namespace, but in no group of ours.
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let left = clusters.iter().map(in_namespace).collect::<Result<Vec<_>>>()?.concat();
        if left.is_empty() || Instant::now() > end {
            return Ok(());
        }
        for process in left {
            process.signal(Signal::KILL)?;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Processes whose network is the sandbox's.
fn in_namespace(layout: &Layout) -> Result<Vec<ProcessId>> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(namespace) = fs::metadata(network::namespace_path(layout)) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        // A process that ends in between is not there any more.
        let same = fs::metadata(entry.path().join("ns/net")).is_ok_and(|own| own.ino() == namespace.ino() && own.dev() == namespace.dev());
        if same && let Ok(process) = ProcessId::of(pid) {
            found.push(process);
        }
    }
    Ok(found)
}

/// containerd's shims keep their sockets in one folder for the whole machine; each container's folder says which is its.
fn remove_shim_sockets(layout: &Layout) -> Result<()> {
    let containers = layout.file("containerd/run/io.containerd.runtime.v2.task/k8s.io");
    let Ok(entries) = fs::read_dir(containers) else { return Ok(()) };
    for entry in entries {
        let Ok(address) = fs::read_to_string(entry?.path().join("address")) else { continue };
        if let Some(socket) = address.trim().strip_prefix("unix://") {
            remove_file(Path::new(socket))?;
        }
    }
    Ok(())
}

/// Files of ours in folders that CNI plugins and kubelet share with everybody.
fn remove_strays(layout: &Layout) -> Result<()> {
    let ours = cgroup::root(layout);
    for folder in ["/var/lib/cni/results", "/var/lib/cni/cache/results", "/var/lib/cni"] {
        remove_where(Path::new(folder), |path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{ours}-"))) && path.is_file()
        })?;
    }
    remove_where(Path::new("/var/log/containers"), |path| fs::read_link(path).is_ok_and(|target| target.starts_with(&layout.state)))
}

fn remove_where(folder: &Path, is_ours: impl Fn(&Path) -> bool) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if is_ours(&path) {
            remove_file(&path)?;
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(|| format!("removing {}", path.display())),
        _ => Ok(()),
    }
}
