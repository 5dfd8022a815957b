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
    told(SILENCE, || spoke(&mut heard, step), tell, work).await
}

/// Does work that belongs to no step; `note` is given a sentence every 10 s.
pub async fn noted<T>(note: impl Fn(&str), work: impl Future<Output = T>) -> T {
    let tell =
        |call: &Call, seconds: u64| note(&format!("waiting for {} ({seconds} s of at most {} s)", call.what, call.deadline.as_secs()));
    told(SILENCE, || false, tell, work).await
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

async fn told<T>(silence: Duration, mut spoke: impl FnMut() -> bool, tell: impl Fn(&Call, u64), work: impl Future<Output = T>) -> T {
    let calls = Arc::<Calls>::default();
    let mut work = std::pin::pin!(CALLS.scope(calls.clone(), work));
    let mut look = tokio::time::interval(silence / 20);
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
        if last.max(call.since).elapsed() >= silence {
            tell(&call, call.since.elapsed().as_secs());
            last = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::cell::{Cell, RefCell};

    use super::*;

    /// A tenth of a second here is what ten are outside.
    const SHORT: Duration = Duration::from_millis(100);

    async fn pass(tenths: u32) {
        tokio::time::sleep(SHORT * tenths / 10).await;
    }

    /// What is told while this is done.
    async fn heard(spoke: impl FnMut() -> bool, work: impl Future<Output = ()>) -> Vec<String> {
        let told_of = RefCell::new(Vec::new());
        told(SHORT, spoke, |call, _| told_of.borrow_mut().push(call.what.clone()), work).await;
        told_of.into_inner()
    }

    #[tokio::test]
    async fn a_silent_call_is_named_again_and_again_and_a_quick_one_never() {
        // A busy machine sleeps longer than it was told to: then even a quick one was slow.
        let late = Cell::new(0);
        let work = async {
            for _ in 0..10 {
                let began = Instant::now();
                let _quick = call("a quick one", SHORT);
                pass(3).await;
                late.set(late.get() + usize::from(began.elapsed() >= SHORT));
            }
            let _slow = call("s3:GetObject", SHORT);
            pass(36).await;
        };
        let told = heard(|| false, work).await;
        let named = |name: &str| told.iter().filter(|what| *what == name).count();
        assert!(named("s3:GetObject") >= 2 && named("a quick one") <= late.get(), "{told:?}, {} were late", late.get());
    }

    #[tokio::test]
    async fn who_speaks_is_not_spoken_for() {
        let (spoken, late) = (Cell::new(false), Cell::new(0));
        let work = async {
            let _call = call("terraform apply", SHORT);
            for _ in 0..10 {
                let began = Instant::now();
                pass(3).await;
                late.set(late.get() + usize::from(began.elapsed() >= SHORT));
                spoken.set(true);
            }
        };
        let told = heard(|| spoken.take(), work).await;
        assert!(told.len() <= late.get(), "{told:?}, {} were late", late.get());
    }

    #[tokio::test]
    async fn what_is_inside_tells_of_its_own_calls_only() {
        let inside = RefCell::new(Vec::new());
        let work = async {
            let step = async {
                let _inside = call("inside", SHORT);
                pass(25).await;
            };
            inside.replace(heard(|| false, step).await);
            let _outside = call("outside", SHORT);
            pass(15).await;
        };
        let told = heard(|| false, work).await;
        assert!(!told.is_empty() && told.iter().all(|what| what == "outside"), "{told:?}");
        assert!(inside.into_inner().iter().all(|what| what == "inside"));
    }

    #[tokio::test]
    async fn where_nobody_listens_nothing_is_kept() {
        assert!(call("a heartbeat", SHORT).0.is_none());
    }
}
