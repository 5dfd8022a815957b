//! Nothing is lost: the real engine and the real deployctl are killed, or refused by the disk, at every call that writes; then it is looked
//! at what is left, and the same command must converge. `make test` tries every write and sync; `make soak` tries everything.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and says what it saw")]
mod bench;
#[path = "../infra/emulator.rs"]
mod emulator;
#[path = "../installed/mod.rs"]
mod installed;
mod invariants;
mod project;
mod real;
mod refused;
mod strace;
mod subject;
mod synced;
mod torn;
mod world;

use std::process::ExitCode;

/// A program of its own and not cargo's harness: that would start threads and write lines of its own in the process that is killed.
const TESTS: [(&str, fn()); 5] = [
    ("killed_at_every_call", refused::killed),
    ("an_error_at_every_call", refused::errors),
    ("torn_at_every_byte", torn::everywhere),
    ("synced_in_order", synced::in_order),
    ("the_real_deployctl", real::everything),
];

fn main() -> ExitCode {
    if let Some(code) = subject::run_if_asked() {
        return code.into();
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let chosen = TESTS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())));
    for (name, test) in chosen {
        let started = std::time::Instant::now();
        test();
        eprintln!("{name}: ok in {:.1} s", started.elapsed().as_secs_f32());
    }
    ExitCode::SUCCESS
}

/// Whether everything is tried, and not only a sample of what is many.
fn is_soak() -> bool {
    std::env::var_os("DEPLOYCTL_SOAK").is_some()
}
