//! Who a process is: its id together with its start time, so that a reused id is never taken for it.
use std::{fs, io, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};

/// A process id that cannot be mistaken for a later process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The number.
    pub pid: u32,
    /// Clock ticks between boot and its start (field 22 of /proc/PID/stat).
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this number now.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat_fields(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has another form")))?;
        let start_time = fields.get(19).and_then(|f| f.parse().ok()).ok_or_else(|| io::Error::other("no start time in /proc/PID/stat"))?;
        Ok(Self { pid, start_time })
    }

    /// Whether it still runs; one that ended and only waits to be reaped does not.
    pub fn alive(self) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", self.pid)) else { return false };
        stat_fields(&stat)
            .is_some_and(|(state, fields)| state != "Z" && fields.get(19).and_then(|f| f.parse().ok()) == Some(self.start_time))
    }

    /// Sends a signal, if it still runs.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        match self.target() {
            Some(pid) => gone_is_fine(kill_process(pid, signal)),
            None => Ok(()),
        }
    }

    /// Sends a signal to it and its process group, if it still runs.
    pub fn signal_group(self, signal: Signal) -> io::Result<()> {
        match self.target() {
            Some(pid) => {
                gone_is_fine(kill_process_group(pid, signal))?;
                gone_is_fine(kill_process(pid, signal))
            }
            None => Ok(()),
        }
    }

    /// Waits until it is gone, at most until the deadline; says whether it went.
    pub async fn wait_until_gone(self, deadline: Duration) -> bool {
        let end = tokio::time::Instant::now() + deadline;
        while self.alive() {
            if tokio::time::Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }

    fn target(self) -> Option<Pid> {
        if !self.alive() {
            return None;
        }
        i32::try_from(self.pid).ok().and_then(Pid::from_raw)
    }
}

/// The state and all fields from it on; the name before it may hold spaces and brackets.
fn stat_fields(stat: &str) -> Option<(&str, Vec<&str>)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    fields.first().copied().map(|state| (state, fields))
}

fn gone_is_fine(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What is on disk about a started process, for the daemon that comes after a crash and for `down`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRecord {
    /// The spec's name.
    pub name: String,
    /// Who it is.
    #[serde(flatten)]
    pub process: ProcessId,
}

impl RunRecord {
    /// Every record in a folder; a half-written one (power loss) is skipped, the cgroup still knows its process.
    pub fn read_all(folder: &Path) -> Result<Vec<Self>> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "json")
                && let Ok(record) = serde_json::from_slice(&fs::read(&path)?)
            {
                records.push(record);
            }
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_alive_and_another_start_time_is_not() {
        let own = ProcessId::of(std::process::id()).unwrap();
        assert!(own.alive());
        assert!(!ProcessId { start_time: own.start_time + 1, ..own }.alive());
    }

    #[test]
    fn names_with_brackets_do_not_shift_the_fields() {
        let (state, fields) = stat_fields("7 (a) b) S 1 2 3").unwrap();
        assert_eq!(state, "S");
        assert_eq!(fields, ["S", "1", "2", "3"]);
    }
}
