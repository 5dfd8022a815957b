//! `deployctl plan --out FILE`, the real program: killed or refused at every call that writes, FILE is the old plan or the new one, whole.
use deployctl::{ids::PlanDigest, plan::saved};

use super::{
    bench, command, is_soak,
    refused::is_told,
    strace::{self, Fault, Tried},
};

fn old(command: &command::Command) -> PlanDigest {
    saved::write(&command.file("plan.json"), &bench::old_plan()).unwrap()
}

/// The old one or the new one; gives whether it is the old one.
fn is_old(command: &command::Command, old: &PlanDigest, what: &str) -> bool {
    let plan = saved::read(&command.file("plan.json")).unwrap_or_else(|failure| panic!("{what}: torn: {:?}", failure.chain()));
    assert!(plan.digest == *old || plan.plan.steps.len() == command::STEPS, "{what}");
    plan.digest == *old
}

/// Killed at every such call.
pub fn killed() {
    if !strace::is_there() {
        return;
    }
    let mut points = 0;
    for (call, step) in
        [("write", 1), ("fsync", 1), ("rename", 1), ("renameat2", 1), ("unlink", 1), ("openat", if is_soak() { 1 } else { 15 })]
    {
        let tried = strace::every(step, |at| {
            let what = format!("plan --out killed at {call} {at}");
            let command = command::Command::new();
            let old = old(&command);
            let ended = command.run_with(Fault::Kill(call), at);
            let was_old = is_old(&command, &old, &what);
            if !ended.is_killed() {
                ended.expect_success(&what);
                assert!(!was_old, "{what}");
                return Tried::NoSuchCall;
            }
            command.run().expect_success(&what);
            assert!(!is_old(&command, &old, &what), "{what}: the second time it was not saved");
            Tried::Hit
        });
        eprintln!("  plan --out killed at {call}: {tried} points");
        points += tried;
    }
    assert!(points > 3, "the command must have been met");
}

/// Refused every such call on a file of ours.
pub fn errors() {
    if !strace::is_there() {
        return;
    }
    for (call, error) in [("write", "ENOSPC"), ("write", "EIO"), ("fsync", "EIO"), ("rename", "EIO"), ("openat", "ENOSPC")] {
        let tried = strace::every(1, |at| {
            let what = format!("plan --out: {error} at {call} {at}");
            let command = command::Command::new();
            let old = old(&command);
            let ended = command.run_with(Fault::Error(call, error), at);
            let was_old = is_old(&command, &old, &what);
            match &ended.refused {
                None => {
                    ended.expect_success(&what);
                    return Tried::NoSuchCall;
                }
                Some(Some(file)) => is_told(&ended, file, &what),
                Some(None) => return Tried::Missed,
            }
            assert!(was_old, "{what}: it failed and the plan is a new one");
            Tried::Hit
        });
        eprintln!("  plan --out, {error} at {call}: {tried} points");
        assert!(tried > 0, "{call} must have been met");
    }
}
