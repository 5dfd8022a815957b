//! kubelet sets a few of the machine's kernel parameters; the first sandbox notes what they were, the last puts them back.
use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};

use crate::layout::Layout;

const PARAMETERS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];
/// Gone after a reboot, as the changes are.
const NOTE: &str = "/run/deployctl-sandbox-sysctl.json";

/// Notes them unless another sandbox did. The slot lock must be held.
pub fn remember(_layout: &Layout) -> Result<()> {
    if Path::new(NOTE).exists() {
        return Ok(());
    }
    let mut values = BTreeMap::new();
    for parameter in PARAMETERS {
        // A kernel without it has nothing to put back.
        if let Ok(value) = fs::read_to_string(file(parameter)) {
            values.insert(parameter, value.trim().to_owned());
        }
    }
    fs::write(NOTE, serde_json::to_vec(&values)?).with_context(|| format!("writing {NOTE}"))
}

/// Puts them back when no other sandbox is left. The slot lock must be held, and the own namespace gone.
pub fn restore() -> Result<()> {
    let others =
        fs::read_dir("/run/netns").map(|all| all.filter_map(Result::ok).any(|e| e.file_name().to_string_lossy().starts_with("deployctl-")));
    if others.unwrap_or(false) {
        return Ok(());
    }
    let Ok(bytes) = fs::read(NOTE) else { return Ok(()) };
    let values: BTreeMap<String, String> = serde_json::from_slice(&bytes).with_context(|| format!("reading {NOTE}"))?;
    for (parameter, value) in values {
        let path = file(&parameter);
        if fs::read_to_string(&path).is_ok_and(|now| now.trim() != value) {
            fs::write(&path, &value).with_context(|| format!("writing {path}"))?;
        }
    }
    fs::remove_file(NOTE).with_context(|| format!("removing {NOTE}"))
}

fn file(parameter: &str) -> String {
    format!("/proc/sys/{parameter}")
}
