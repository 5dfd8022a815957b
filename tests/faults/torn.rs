//! The journal's line that did not fit: cut at a byte because the disk was full, with the process dead, going on, or finding room again.
use std::sync::atomic::{AtomicUsize, Ordering};

use deployctl::engine::{history::History, journal};

use super::{
    bench::Bench,
    invariants, is_soak,
    refused::is_told,
    strace::{self, Tried},
    subject,
};

type Variables = &'static [(&'static str, &'static str)];

/// What the shell does before, what becomes of the limit, and how it is called.
const WAYS: [(&str, Variables, &str); 3] =
    [("", &[], "killed in a line"), ("trap '' XFSZ;", &[], "full"), ("trap '' XFSZ;", &[(subject::LIFTED, "1")], "full for a while")];

/// In bytes: times are written without zeros at their ends, so that not every journal is as long as the one that was measured.
const SHORTER: usize = 64;

/// A journal's length at every byte, or at a sample of them.
pub fn everywhere() {
    let length = length_of_a_whole_one();
    let step = if is_soak() { 3 } else { 211 };
    for (script, more, name) in WAYS {
        let (killed, told) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let points = strace::every(step, |at| {
            if at >= length - SHORTER {
                return Tried::NoSuchCall;
            }
            let what = format!("{name} at byte {at}");
            let bench = Bench::new();
            let ended = bench.run_limited(u64::try_from(at).unwrap(), script, more);
            invariants::hold(&bench, &ended, &what);
            if ended.is_killed() {
                killed.fetch_add(1, Ordering::Relaxed);
            } else if ended.code != Some(0) {
                told.fetch_add(1, Ordering::Relaxed);
                is_told(&ended, &bench.places().state.runs(&invariants::environment()), &what);
            }
            invariants::converge(&bench, &what);
            Tried::Hit
        });
        let (killed, told) = (killed.into_inner(), told.into_inner());
        eprintln!("  {name}: {points} points of a journal of {length} bytes; killed {killed} times, told {told} times");
        // Room that comes back in time is not missed.
        let expected = if more.is_empty() { points } else { 1 };
        assert!(if script.is_empty() { killed } else { told } >= expected, "{name}");
    }
}

fn length_of_a_whole_one() -> usize {
    let bench = Bench::new();
    invariants::converge(&bench, "undisturbed");
    let state = bench.places().state;
    let history = History::read(&state, &invariants::environment()).unwrap();
    let journal = journal::path_in(&state.run(&invariants::environment(), &history.runs[0].header.run));
    usize::try_from(std::fs::metadata(journal).unwrap().len()).unwrap()
}
