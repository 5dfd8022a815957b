//! Says what is waited for, every 10 s: calls that may take long name themselves while they are under way, and whoever runs the work tells.
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::broadcast::{Receiver, error::TryRecvError},
    time::Instant,
};

use crate::{
    engine::event::{Event, EventKind, Events},
    ids::StepId,
};

/// Nobody looks at something silent for longer without wondering.
pub const SILENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it is time to speak.
const LOOK: Duration = Duration::from_millis(500);

tokio::task_local! {
    static CALLS: Arc<Calls>;
}

#[derive(Default)]
struct Calls(Mutex<BTreeMap<u64, Call>>);

/// What is waited for, since when and until when at the latest.
#[derive(Clone)]
struct Call {
    what: String,
    since: Instant,
    deadline: Duration,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Call>> {
        // Nothing under this lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The one that began first: the others mostly belong to it.
    fn longest(&self) -> Option<Call> {
        self.lock().values().min_by_key(|call| call.since).cloned()
    }
}

/// A call that is under way; it has ended when this is dropped.
pub struct UnderWay(Option<(Arc<Calls>, u64)>);

impl fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnderWay").field(&self.0.as_ref().map(|(_, number)| number)).finish()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some((calls, number)) = &self.0 {
            calls.lock().remove(number);
        }
    }
}

/// Names a call, and how long it may take in all. In a task that nobody listens to, such as a heartbeat, it is told to nobody.
pub fn call(what: impl Into<String>, deadline: Duration) -> UnderWay {
    UnderWay(
        CALLS
            .try_with(|calls| {
                let mut all = calls.lock();
                let number = all.last_key_value().map_or(0, |(last, _)| last + 1);
                all.insert(number, Call { what: what.into(), since: Instant::now(), deadline });
                (calls.clone(), number)
            })
            .ok(),
    )
}

/// Does a step's work. Whenever the step has said nothing for 10 s, an event says which call it waits for.
pub async fn by_step<T>(step: &StepId, events: &Events, work: impl Future<Output = T>) -> T {
    let mut heard = events.subscribe();
    let tell = |call: &Call, seconds: u64| {
        events.emit(EventKind::Waiting { step: step.clone(), what: call.what.clone(), seconds, deadline_seconds: call.deadline.as_secs() });
    };
    told(|| spoke(&mut heard, step), tell, work).await
}

/// Does work that belongs to no step; `note` is given a sentence every 10 s.
pub async fn noted<T>(note: impl Fn(&str), work: impl Future<Output = T>) -> T {
    let tell =
        |call: &Call, seconds: u64| note(&format!("waiting for {} ({seconds} s of at most {} s)", call.what, call.deadline.as_secs()));
    told(|| false, tell, work).await
}

/// Whether the step was heard of since the last look.
fn spoke(heard: &mut Receiver<Event>, step: &StepId) -> bool {
    let mut spoke = false;
    loop {
        match heard.try_recv() {
            Ok(event) => spoke |= event.kind.step() == Some(step),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return spoke,
        }
    }
}

async fn told<T>(mut spoke: impl FnMut() -> bool, tell: impl Fn(&Call, u64), work: impl Future<Output = T>) -> T {
    let calls = Arc::<Calls>::default();
    let mut work = std::pin::pin!(CALLS.scope(calls.clone(), work));
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = Instant::now();
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = look.tick() => {}
        }
        if spoke() {
            last = Instant::now();
        }
        let Some(call) = calls.longest() else {
            // Whoever computes does not wait.
            last = Instant::now();
            continue;
        };
        if last.max(call.since).elapsed() >= SILENCE {
            tell(&call, call.since.elapsed().as_secs());
            last = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::cell::RefCell;

    use super::*;

    fn told_of(heard: &mut Receiver<Event>) -> Vec<(String, u64, u64)> {
        std::iter::from_fn(|| heard.try_recv().ok())
            .filter_map(|event| match event.kind {
                EventKind::Waiting { what, seconds, deadline_seconds, .. } => Some((what, seconds, deadline_seconds)),
                _ => None,
            })
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_call_is_named_every_ten_seconds_and_a_quick_one_never() {
        let (events, step) = (Events::default(), StepId::parse("network").unwrap());
        let mut heard = events.subscribe();
        by_step(&step, &events, async {
            for _ in 0..30 {
                let _quick = call("a quick one", Duration::from_secs(5));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let _slow = call("s3:GetObject", Duration::from_secs(150));
            tokio::time::sleep(Duration::from_secs(36)).await;
        })
        .await;
        let told = told_of(&mut heard);
        assert_eq!(told.len(), 3, "{told:?}");
        for (index, (what, seconds, deadline)) in told.iter().enumerate() {
            let due = 10 * (u64::try_from(index).unwrap() + 1);
            assert!(what == "s3:GetObject" && *deadline == 150 && (due..due + 2).contains(seconds), "{told:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_speaks_is_not_spoken_for() {
        let (events, step) = (Events::default(), StepId::parse("network").unwrap());
        let mut heard = events.subscribe();
        by_step(&step, &events, async {
            let _call = call("terraform apply", Duration::from_secs(100));
            for _ in 0..6 {
                tokio::time::sleep(Duration::from_secs(6)).await;
                events.emit(EventKind::Progress { step: step.clone(), message: "a resource".to_owned(), of: None });
            }
        })
        .await;
        assert!(told_of(&mut heard).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_belongs_to_no_step_is_noted_and_a_step_inside_tells_of_its_own_calls() {
        let (events, step, notes) = (Events::default(), StepId::parse("network").unwrap(), RefCell::new(Vec::new()));
        let note = |text: &str| notes.borrow_mut().push(text.to_owned());
        let work = async {
            by_step(&step, &events, async {
                let _inside = call("inside", Duration::from_secs(60));
                tokio::time::sleep(Duration::from_secs(25)).await;
            })
            .await;
            let _outside = call("the lease", Duration::from_secs(60));
            tokio::time::sleep(Duration::from_secs(15)).await;
        };
        noted(note, work).await;
        let notes = notes.into_inner();
        assert!(notes.len() == 1 && notes[0].starts_with("waiting for the lease (10 s of at most 60 s"), "{notes:?}");
    }
}
