//! Which processes the machine runs while something is done, with their arguments and environments.
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A process as it was last seen under one program.
pub struct Seen {
    /// The program's file name.
    pub program: String,
    /// Ended by NULs.
    pub arguments: Vec<u8>,
    /// `NAME=VALUE`, ended by NULs.
    pub environment: Vec<u8>,
}

impl Seen {
    /// A variable's value.
    pub fn variable(&self, name: &str) -> Option<String> {
        let entries = self.environment.split(|byte| *byte == 0);
        let mut texts = entries.filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='));
        texts.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
    }
}

type All = BTreeMap<(String, String), Seen>;

/// Looks until it is told to stop.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<All>,
}

impl Watch {
    /// Begins to look, every few milliseconds: many of them do not live long.
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut all = All::new();
            while !told.load(Ordering::Relaxed) {
                look(&mut all);
                std::thread::sleep(Duration::from_millis(20));
            }
            all
        });
        Self { stop, thread }
    }

    /// Everything that was seen.
    pub fn stop(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().into_values().collect()
    }
}

fn look(all: &mut All) {
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        else {
            continue;
        };
        // It may end while it is looked at.
        let Some(program) = program(&path) else { continue };
        let key = (pid.to_owned(), program.clone());
        if all.contains_key(&key) {
            continue;
        }
        if let (Ok(arguments), Ok(environment)) = (std::fs::read(path.join("cmdline")), std::fs::read(path.join("environ"))) {
            all.insert(key, Seen { program, arguments, environment });
        }
    }
}

fn program(process: &Path) -> Option<String> {
    let exe = std::fs::read_link(process.join("exe")).ok()?;
    Some(exe.file_name()?.to_str()?.trim_end_matches(" (deleted)").to_owned())
}
