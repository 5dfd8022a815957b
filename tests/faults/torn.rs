//! The journal's line that did not fit: cut at a byte because the disk was full, with the process dead, going on, or finding room again.
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

/// A journal's length at every byte, or at a sample of them.
pub fn everywhere() {
    let whole = Bench::new();
    invariants::converge(&whole, "undisturbed");
    let history =
        deployctl::engine::history::History::read(&whole.places().state, &deployctl::ids::EnvironmentName::parse("sandbox").unwrap())
            .unwrap();
    let run = &history.runs[0].header;
    let journal = deployctl::engine::journal::path_in(&whole.places().state.run(&run.environment, &run.run));
    let length = usize::try_from(std::fs::metadata(journal).unwrap().len()).unwrap();
    let step = if is_soak() { 3 } else { 211 };
    for (script, more, name) in WAYS {
        let (mut points, hits) = (0, std::sync::atomic::AtomicUsize::new(0));
        points += strace::every(step, |at| {
            if at >= length {
                return Tried::NoSuchCall;
            }
            let what = format!("{name} at byte {at}");
            let bench = Bench::new();
            let ended = bench.run_limited(u64::try_from(at).unwrap(), script, more);
            invariants::hold(&bench, &ended, &what);
            if !ended.is_killed() && ended.code != Some(0) {
                hits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                is_told(&ended, &bench.places().state.runs(&run.environment), &what);
            }
            invariants::converge(&bench, &what);
            Tried::Hit
        });
        let told = hits.into_inner();
        eprintln!("  {name}: {points} points of a journal of {length} bytes; {told} times it was told");
        assert_eq!(told > 0, !script.is_empty(), "{name}");
    }
}
