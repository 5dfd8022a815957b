//! What must be so whenever the subject stopped, wherever it stopped.
use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt as _,
};

use deployctl::{
    engine::{
        history::History,
        journal,
        lease::{Holder, LocalLease},
    },
    ids::EnvironmentName,
    plan::saved,
};
use serde_json::Value;

use super::{bench::Bench, strace::Ended, subject::THINGS, world::effects};

/// Whose runs these are.
pub fn environment() -> EnvironmentName {
    EnvironmentName::parse("sandbox").unwrap()
}

fn history(bench: &Bench, what: &str) -> History {
    let history = History::read(&bench.places().state, &environment()).unwrap();
    assert!(history.unreadable.is_empty(), "{what}: {:?}", history.unreadable);
    history
}

/// Every whole line of every journal, in order.
fn lines(bench: &Bench) -> Vec<Value> {
    let mut lines = Vec::new();
    let Ok(runs) = std::fs::read_dir(bench.places().state.runs(&environment())) else { return lines };
    let mut runs: Vec<_> = runs.map(|run| run.unwrap().path()).collect();
    runs.sort();
    for run in runs {
        let text = std::fs::read_to_string(journal::path_in(&run)).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        lines.extend(whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    lines
}

/// Journals, plan, lock and effects after the subject stopped, held against what it had acknowledged.
pub fn hold(bench: &Bench, ended: &Ended, what: &str) {
    let lines = lines(bench);
    let says =
        |step: &str, events: &[&str]| lines.iter().any(|line| line["step"] == step && events.iter().any(|event| line["event"] == *event));
    let history = history(bench, what);
    let plan = saved::read(&bench.places().plan).unwrap_or_else(|failure| panic!("{what}: the saved plan is torn: {:?}", failure.chain()));
    assert!(plan.digest == bench.old || plan.plan.steps.len() == THINGS.len(), "{what}: neither the old plan nor the new one");
    for line in ended.out.lines() {
        let kept = match line.split(' ').collect::<Vec<_>>()[..] {
            ["saved", digest] => plan.digest.as_str() == digest,
            ["attempt", run] => history.runs.iter().any(|record| record.header.run.as_str() == run && !record.attempts.is_empty()),
            ["started", step] => says(step, &["started"]),
            ["intent", step, token] => lines.iter().any(|line| line["step"] == step && line["event"] == "intent" && line["value"] == token),
            ["applied", step] => says(step, &["applied"]),
            ["succeeded", step] => says(step, &["succeeded", "unchanged"]),
            ["finished"] => history.runs.last().and_then(|run| run.finished) == Some(true),
            _ => panic!("{what}: the subject said {line}"),
        };
        assert!(kept, "{what}: acknowledged and lost: {line}\n{lines:#?}");
    }
    for (thing, token) in effects(&bench.places().things) {
        let told = lines.iter().any(|line| line["event"] == "intent" && line["value"] == *token);
        assert!(told, "{what}: {thing} was made before the journal said so");
    }
    nothing_is_mistaken_for_a_plan(bench, what);
    // Taken and, at the end of this line, given back.
    drop(LocalLease::acquire(&bench.places().state.locks(), &environment(), &Holder::this_process("look")).unwrap_or_else(|failure| {
        panic!("{what}: the lock is not free: {}", failure.message);
    }));
}

fn nothing_is_mistaken_for_a_plan(bench: &Bench, what: &str) {
    for entry in std::fs::read_dir(bench.work()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !["state", "things"].contains(&name.as_str()) {
            assert!(name == "plan.json" || name.starts_with('.'), "{what}: {name} looks like a plan");
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{what}: others can read {name}");
        }
    }
}

/// The same command again ends well, goes on with the run, and makes nothing twice.
pub fn converge(bench: &Bench, what: &str) {
    let before = history(bench, what);
    let again = bench.run().expect_success(what);
    hold(bench, &again, what);
    let after = history(bench, what);
    let goes_on = before.unfinished().map(|run| run.header.run.clone());
    let last = after.runs.last().unwrap();
    assert!(goes_on.is_none_or(|run| run == last.header.run), "{what}: the unfinished run was left");
    assert_eq!(last.finished, Some(true), "{what}");
    let made: Vec<String> =
        effects(&bench.places().things).into_iter().map(|(thing, _)| thing).collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(made, THINGS, "{what}");
    assert_eq!(effects(&bench.places().things).len(), THINGS.len(), "{what}: something was made twice");
    let mut tokens: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in lines(bench).iter().filter(|line| line["event"] == "intent") {
        tokens.entry(line["step"].to_string()).or_default().insert(line["value"].to_string());
    }
    assert!(tokens.values().all(|tokens| tokens.len() == 1), "{what}: a second client token was made: {tokens:?}");
}
