//! Ctrl-C, Ctrl-C twice and SIGTERM while a step is having its effect: the first lets it come to an end that is written down, terraform to
//! save its state; the second leaves at once and says what it leaves.
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::{Cell, Run, World, apply::Apply, kinds::Taken};
use crate::killed;

/// Which signals come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signals {
    /// Ctrl-C.
    Once,
    /// Ctrl-C, and again.
    Twice,
    /// As CI does, before it gives up waiting.
    Terminate,
}

impl Signals {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Once, Self::Twice, Self::Terminate];
}

/// "At once" for a machine that others use.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Sends them to an apply that stands still, and looks at what it leaves.
pub fn meet(world: &mut World<'_>, cell: &Cell, signals: Signals, apply: Apply<'_>, taken: &Taken) -> Run {
    let before: Vec<u64> = taken.stacks.iter().map(|stack| serial(world, stack)).collect();
    let journal = super::apply::newest_run(world.target).unwrap().join("journal.ndjson");
    match signals {
        Signals::Once => apply.interrupt(Signal::INT),
        Signals::Terminate => apply.interrupt(Signal::TERM),
        Signals::Twice => {
            apply.interrupt(Signal::INT);
            apply.blink();
            apply.interrupt(Signal::INT);
        }
    }
    let told = Instant::now();
    let ended = apply.end();
    let took = told.elapsed();
    let said = &ended.said;
    let id = cell.step.id.as_str();
    let word = if signals == Signals::Terminate { "SIGTERM" } else { "Ctrl-C" };
    let left = said.contains("left at once");
    assert!(said.contains(word) || left, "{cell}: nothing was said of {word}: {said}");
    let text = std::fs::read_to_string(&journal).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.last().unwrap();
    let event = lines.iter().rfind(|line| line["step"] == id).and_then(|line| line["event"].as_str());
    let step_ended = event.is_some_and(|event| ["succeeded", "failed"].contains(&event));
    match ended.code {
        Some(130) => {}
        // It was the last step of all, and came to its good end before it could stop.
        Some(0) => assert_eq!((&last["type"], &last["succeeded"]), (&"finished".into(), &true.into()), "{cell}: {said}"),
        other => panic!("{cell}: exit {other:?}: {said}"),
    }
    if left {
        assert_eq!(signals, Signals::Twice, "{cell}: {said}");
        assert!(took < AT_ONCE, "{cell}: left after {took:?}");
        // The first may have ended the step just before the second came.
        let said_so = said.contains(&format!("left at once: {id} (")) || step_ended && said.contains("left at once: nothing in flight");
        assert!(said_so, "{cell}: not said what was in flight: {said}");
        world.counts.at_once += 1;
    } else {
        assert_eq!(last["type"], "finished", "{cell}: it is not written down where things stand: {text}");
        assert!(step_ended, "{cell}: the journal ends with {event:?}: {text}");
    }
    if ended.code == Some(130) && !left {
        assert!(said.contains("next: ") && said.contains("deployctl apply"), "{cell}: {said}");
    }
    for (stack, before) in taken.stacks.iter().zip(before) {
        // Once left at once, the watchdog tells terraform to stop and it ends by itself.
        if let Some(record) = killed::record(world.target, stack) {
            if !left {
                assert!(record.ended.is_some(), "{cell}: deployctl did not wait for its terraform");
            }
            killed::wait_until_dead(&record);
        }
        assert!(serial(world, stack) > before, "{cell}: what terraform had made is in no state");
        assert!(world.terraforms_locks().is_empty(), "{cell}: {:?}", world.terraforms_locks());
    }
    if ended.code == Some(0) { Run::Finished } else { Run::Unfinished }
}

/// Grows with every state that is written.
fn serial(world: &World<'_>, stack: &str) -> u64 {
    world.state(stack)["serial"].as_u64().unwrap()
}
