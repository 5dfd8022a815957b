//! What programs change outside the sandbox's own folders: the first sandbox notes how the machine was, the last puts it back.
use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Kernel parameters that kubelet sets.
const PARAMETERS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];
/// Folders that programs make by themselves wherever their state is told to be; inner ones first.
const FOLDERS: [&str; 11] = [
    "/run/containerd/s",
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni/results",
    "/var/lib/cni/cache/results",
    "/var/lib/cni/cache",
    "/var/lib/cni",
    "/var/log/containers",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet",
    "/opt/containerd",
];
/// Gone after a reboot, as the changes are.
const NOTE: &str = "/run/deployctl-sandbox.json";

/// How the machine was.
#[derive(Serialize, Deserialize)]
struct Before {
    parameters: BTreeMap<String, String>,
    absent: Vec<String>,
}

/// Notes it unless another sandbox did. The slot lock must be held.
pub fn remember() -> Result<()> {
    if Path::new(NOTE).exists() {
        return Ok(());
    }
    let mut parameters = BTreeMap::new();
    for parameter in PARAMETERS {
        // A kernel without it has nothing to put back.
        if let Ok(value) = fs::read_to_string(file(parameter)) {
            parameters.insert(parameter.to_owned(), value.trim().to_owned());
        }
    }
    let absent = FOLDERS.iter().filter(|folder| !Path::new(folder).exists()).map(|folder| (*folder).to_owned()).collect();
    fs::write(NOTE, serde_json::to_vec(&Before { parameters, absent })?).with_context(|| format!("writing {NOTE}"))
}

/// Puts it back when no other sandbox is left. The slot lock must be held, and the own namespace gone.
pub fn restore() -> Result<()> {
    let others =
        fs::read_dir("/run/netns").map(|all| all.filter_map(Result::ok).any(|e| e.file_name().to_string_lossy().starts_with("deployctl-")));
    if others.unwrap_or(false) {
        return Ok(());
    }
    let Ok(bytes) = fs::read(NOTE) else { return Ok(()) };
    let before: Before = serde_json::from_slice(&bytes).with_context(|| format!("reading {NOTE}"))?;
    for (parameter, value) in before.parameters {
        let path = file(&parameter);
        if fs::read_to_string(&path).is_ok_and(|now| now.trim() != value) {
            fs::write(&path, &value).with_context(|| format!("writing {path}"))?;
        }
    }
    for folder in before.absent {
        // Only empty ones go: a containerd of the machine's own may use them by now.
        if let Err(error) = fs::remove_dir(&folder) {
            tracing::debug!(folder, %error, "stays");
        }
    }
    fs::remove_file(NOTE).with_context(|| format!("removing {NOTE}"))
}

fn file(parameter: &str) -> String {
    format!("/proc/sys/{parameter}")
}
