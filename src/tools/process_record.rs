//! Which process on which boot of which machine: enough to prove later that it is dead.
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A process that can be told from any other that gets its number later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
    /// This boot of this machine.
    pub boot_id: String,
    /// The machine's name, for the reader.
    pub host: String,
    /// The namespace that the number counts in: containers on one kernel share the boot, and may share a name.
    pub pid_namespace: String,
}

/// Whether a recorded process still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It runs.
    Alive,
    /// It ran on this machine and has ended.
    Dead,
    /// It ran on another machine: nothing can be said.
    Elsewhere,
}

impl ProcessRecord {
    /// Records a process that runs now; none if it has gone.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, start_ticks: start_ticks(pid)?, boot_id: boot_id()?, host: host(), pid_namespace: pid_namespace()? })
    }
    /// Records this process. Where /proc tells nothing, the record proves nothing to anybody.
    pub fn of_this_process() -> Self {
        let pid = std::process::id();
        let unknown = || "unknown".to_owned();
        Self::of(pid).unwrap_or_else(|| Self { pid, start_ticks: 0, boot_id: unknown(), host: host(), pid_namespace: unknown() })
    }
    /// Whether it still runs.
    pub fn liveness(&self) -> Liveness {
        if self.host != host() || pid_namespace().as_ref() != Some(&self.pid_namespace) {
            return Liveness::Elsewhere;
        }
        match boot_id() {
            Some(boot) if boot == self.boot_id && start_ticks(self.pid) == Some(self.start_ticks) => Liveness::Alive,
            // Same name, other boot: it may be another container of that name, so only the same boot proves death.
            Some(boot) if boot == self.boot_id => Liveness::Dead,
            _ => Liveness::Elsewhere,
        }
    }
    /// Writes it where a later run finds it.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, serde_json::to_vec(self)?)
    }
    /// Reads what [`ProcessRecord::write`] wrote; none if there is nothing.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }
}

fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets and may hold anything; start time is the 20th after it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // A zombie has ended, though nobody has asked for its status yet.
    if fields.first() == Some(&"Z") { None } else { fields.get(19)?.parse().ok() }
}

fn boot_id() -> Option<String> {
    Some(std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

fn pid_namespace() -> Option<String> {
    Some(std::fs::read_link("/proc/self/ns/pid").ok()?.to_string_lossy().into_owned())
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_living_from_the_dead() {
        let me = ProcessRecord::of(std::process::id()).unwrap();
        assert_eq!(me.liveness(), Liveness::Alive);
        assert_eq!(ProcessRecord { start_ticks: me.start_ticks + 1, ..me.clone() }.liveness(), Liveness::Dead);
        assert_eq!(ProcessRecord { host: "another".into(), ..me.clone() }.liveness(), Liveness::Elsewhere);
        assert_eq!(ProcessRecord { pid_namespace: "another".into(), ..me.clone() }.liveness(), Liveness::Elsewhere);
        assert_eq!(ProcessRecord { boot_id: "another".into(), ..me }.liveness(), Liveness::Elsewhere);
    }
}
