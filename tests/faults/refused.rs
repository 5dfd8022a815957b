//! The engine's run, killed at every call that writes, and refused every such call by the disk.
use deployctl::failure::exit;

use super::{
    bench::Bench,
    invariants, is_soak,
    strace::{self, Ended, Fault, Tried},
};

/// Exit codes that README promises for failures.
const DOCUMENTED: [u8; 10] = [
    exit::FAILURE,
    exit::USAGE,
    exit::CREDENTIALS,
    exit::PREFLIGHT,
    exit::PLAN_STALE,
    exit::LOCKED,
    exit::STEP_FAILED,
    exit::VERIFICATION,
    exit::TIMEOUT,
    exit::POLICY,
];

/// Every K of each call until the run ends by itself; opening a file is tried in a sample, most are of libraries.
pub fn killed() {
    if !strace::is_there() {
        return;
    }
    let open = if is_soak() { 1 } else { 9 };
    let calls = [
        ("write", 1),
        ("pwrite64", 1),
        ("fsync", 1),
        ("fdatasync", 1),
        ("rename", 1),
        ("renameat", 1),
        ("renameat2", 1),
        ("linkat", 1),
        ("unlink", 1),
        ("unlinkat", 1),
        ("ftruncate", 1),
        ("mkdir", 1),
        ("flock", 1),
        ("openat", open),
    ];
    let mut points = 0;
    for (call, step) in calls {
        let tried = strace::every(step, |at| {
            let what = format!("killed at {call} {at}");
            let bench = Bench::new();
            let ended = bench.run_with(Fault::Kill(call), at);
            invariants::hold(&bench, &ended, &what);
            if !ended.is_killed() {
                ended.expect_success(&what);
                return Tried::NoSuchCall;
            }
            invariants::converge(&bench, &what);
            Tried::Hit
        });
        eprintln!("  killed at {call}: {tried} points");
        points += tried;
    }
    eprintln!("  {points} crash points of the engine, nothing lost");
    assert!(points > 50, "the run must have been met");
}

/// Every call on a file of ours, refused; the same file may be written at the next call.
pub fn errors() {
    if !strace::is_there() {
        return;
    }
    let mut calls =
        vec![("write", "ENOSPC"), ("fdatasync", "EIO"), ("fsync", "EIO"), ("renameat", "EIO"), ("renameat2", "EIO"), ("mkdir", "ENOSPC")];
    if is_soak() {
        calls.extend([("write", "EIO"), ("fdatasync", "ENOSPC"), ("fsync", "ENOSPC"), ("ftruncate", "EIO"), ("renameat", "ENOSPC")]);
    }
    let mut points = 0;
    for (call, error) in calls {
        let tried = strace::every(1, |at| {
            let what = format!("{error} at {call} {at}");
            let bench = Bench::new();
            let ended = bench.run_with(Fault::Error(call, error), at);
            invariants::hold(&bench, &ended, &what);
            let Some(refused) = ended.refused.clone() else {
                ended.expect_success(&what);
                return Tried::NoSuchCall;
            };
            let tried = refused.map_or(Tried::Missed, |file| {
                is_told(&ended, &file, &what);
                Tried::Hit
            });
            invariants::converge(&bench, &what);
            tried
        });
        eprintln!("  {error} at {call}: {tried} points");
        points += tried;
    }
    eprintln!("  {points} refused calls of the engine, nothing lost");
    assert!(points > 50, "the run must have been met");
}

/// The command failed, and said which file it was.
pub fn is_told(ended: &Ended, file: &std::path::Path, what: &str) {
    let code = ended.code.and_then(|code| u8::try_from(code).ok());
    assert!(code.is_some_and(|code| DOCUMENTED.contains(&code)), "{what}: exit {:?}, signal {:?}: {}", ended.code, ended.signal, ended.err);
    // A plan and a new journal come to their files by way of temporary ones.
    let is_temporary = file.file_name().unwrap().to_str().unwrap().starts_with(".tmp");
    let names =
        if is_temporary { vec![file.with_file_name("plan.json"), file.with_file_name("journal.ndjson")] } else { vec![file.to_owned()] };
    assert!(names.iter().any(|name| ended.err.contains(name.to_str().unwrap())), "{what}: {names:?} is not named in: {}", ended.err);
}
