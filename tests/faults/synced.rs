//! A kill does not lose what the kernel holds; a power cut does. So one undisturbed run is traced, and each call must come in an order in
//! which a power cut between any two would lose nothing either.
use std::collections::BTreeSet;

use super::{bench::Bench, strace};

/// One run, call by call.
pub fn in_order() {
    if !strace::is_there() {
        return;
    }
    let bench = Bench::new();
    let log = bench.trace("write,fsync,fdatasync,openat,rename,renameat,renameat2");
    let work = bench.work().display().to_string();
    // Written and not synced; renamed and the folder not synced.
    let (mut unsynced, mut unnamed) = (BTreeSet::new(), BTreeSet::new());
    let (mut lines, mut effects, mut names, mut told) = (0, 0, 0, 0);
    for line in log.lines() {
        let call = line.split_whitespace().nth(1).unwrap_or_default().split('(').next().unwrap_or_default();
        let paths: Vec<&str> = line.match_indices(&work).map(|(at, _)| line[at..].split(['>', '"']).next().unwrap()).collect();
        let nothing_is_open = || assert!(unsynced.is_empty() && unnamed.is_empty(), "{line}\nand not yet safe: {unsynced:?} {unnamed:?}");
        match (call, &paths[..]) {
            ("write", []) if line.contains("pipe:") => {
                nothing_is_open();
                told += 1;
            }
            ("write", [file]) if file.ends_with("journal.ndjson") => {
                nothing_is_open();
                unsynced.insert((*file).to_owned());
                lines += 1;
            }
            ("write", [file]) if !file.contains("/things/") => drop(unsynced.insert((*file).to_owned())),
            ("openat", [.., file]) if file.contains("/things/") => {
                nothing_is_open();
                effects += 1;
            }
            ("fsync" | "fdatasync", [path]) => {
                unsynced.remove(*path);
                unnamed.remove(*path);
            }
            ("rename" | "renameat" | "renameat2", [.., from, to]) => {
                assert!(!unsynced.contains(*from), "{line}: what gets its name is not synced");
                unnamed.insert(std::path::Path::new(to).parent().unwrap().display().to_string());
                names += 1;
            }
            _ => {}
        }
    }
    eprintln!("  {lines} lines, {names} names, {effects} effects and {told} acknowledgements, each after what came before it was synced");
    assert!(lines > 15 && names == 2 && effects == 4 && told > 15, "the run must have been met: {log}");
}
