//! Which process on which boot of which machine: enough to prove later that it is dead.
use std::{fs, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::whole_file;

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
}

/// What a watchdog writes before it lets its program go: enough to prove later that neither can do anything any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardedRecord {
    /// The program.
    #[serde(flatten)]
    pub program: ProcessRecord,
    /// Its watchdog.
    pub watchdog: ProcessRecord,
    /// Before this moment the program had done nothing.
    pub started: Timestamp,
    /// The exit code that it ended with by itself; none while it runs, and for one that was killed.
    #[serde(default)]
    pub ended: Option<i32>,
}

/// A record that was found, and until when its watchdog lived for certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// As it was written.
    pub record: GuardedRecord,
    /// The watchdog's last sign of life: the file's time, renewed every second.
    pub seen: Timestamp,
}

impl GuardedRecord {
    /// Writes it where a later run finds it; on return it is on disk, name and all.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        whole_file::write(path, &serde_json::to_vec(self)?)
    }
    /// Whether anything of it still runs. Dead only if both are.
    pub fn liveness(&self) -> Liveness {
        match (self.program.liveness(), self.watchdog.liveness()) {
            (Liveness::Alive, _) | (_, Liveness::Alive) => Liveness::Alive,
            (Liveness::Dead, Liveness::Dead) => Liveness::Dead,
            _ => Liveness::Elsewhere,
        }
    }
}

impl Guarded {
    /// Reads what [`GuardedRecord::write`] wrote; none if there is nothing that can be read.
    pub fn read(path: &Path) -> Option<Self> {
        let record = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let seen = Timestamp::try_from(path.metadata().ok()?.modified().ok()?).ok()?;
        Some(Self { record, seen })
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

    #[test]
    fn a_guarded_program_is_dead_only_with_its_watchdog() {
        let me = ProcessRecord::of(std::process::id()).unwrap();
        let gone = ProcessRecord { start_ticks: me.start_ticks + 1, ..me.clone() };
        let elsewhere = ProcessRecord { host: "another".into(), ..me.clone() };
        let both = |program: &ProcessRecord, watchdog: &ProcessRecord| GuardedRecord {
            program: program.clone(),
            watchdog: watchdog.clone(),
            started: Timestamp::UNIX_EPOCH,
            ended: None,
        };
        assert_eq!(both(&gone, &gone).liveness(), Liveness::Dead);
        assert_eq!(both(&gone, &me).liveness(), Liveness::Alive);
        assert_eq!(both(&me, &gone).liveness(), Liveness::Alive);
        assert_eq!(both(&gone, &elsewhere).liveness(), Liveness::Elsewhere);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        assert_eq!(Guarded::read(&path), None);
        both(&gone, &me).write(&path).unwrap();
        let found = Guarded::read(&path).unwrap();
        assert_eq!(found.record, both(&gone, &me));
        assert!(found.seen > Timestamp::UNIX_EPOCH);
    }
}
