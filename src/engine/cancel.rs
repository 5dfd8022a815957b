//! Ctrl-C and SIGTERM: the first lets what runs come to an end, the second leaves at once and says what it leaves.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::event::{EventKind, Events, Phase};
use crate::{
    failure::{Failure, FailureKind},
    ids::StepId,
};

/// Which steps are in which phase just now: what a second Ctrl-C leaves.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<Mutex<BTreeMap<StepId, Phase>>>);

impl InFlight {
    /// A step enters a phase; it leaves it when the guard is dropped, however its future ends.
    #[must_use]
    pub fn enter(&self, step: &StepId, phase: Phase) -> InPhase {
        self.go_on(step, phase);
        self.until_ended(step)
    }
    /// A step is in this phase now.
    pub fn go_on(&self, step: &StepId, phase: Phase) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(step.clone(), phase);
    }
    /// Takes a step out when the guard is dropped, whichever phases it goes on to until then.
    #[must_use]
    pub fn until_ended(&self, step: &StepId) -> InPhase {
        InPhase { in_flight: self.clone(), step: step.clone() }
    }
    /// Steps and their phases.
    pub fn now(&self) -> BTreeMap<StepId, Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// See [`InFlight::enter`].
pub struct InPhase {
    in_flight: InFlight,
    step: StepId,
}

impl Drop for InPhase {
    fn drop(&mut self) {
        self.in_flight.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.step);
    }
}

fn listen() -> std::io::Result<(Signal, Signal)> {
    Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
}

/// Starts listening. `leave` is called on the second signal and does not come back.
pub fn on_signals(
    cancel: CancellationToken,
    events: Events,
    in_flight: InFlight,
    leave: impl Fn(&BTreeMap<StepId, Phase>) + Send + 'static,
) -> Result<(), Failure> {
    let (mut interrupt, mut terminate) =
        listen().map_err(|error| Failure::new(FailureKind::Internal, "cannot listen for Ctrl-C").because(error))?;
    tokio::spawn(async move {
        loop {
            let signal = tokio::select! {
                _ = interrupt.recv() => "Ctrl-C",
                _ = terminate.recv() => "SIGTERM",
            };
            if cancel.is_cancelled() {
                leave(&in_flight.now());
                return;
            }
            events.emit(EventKind::Interrupted { signal: signal.to_owned(), running: in_flight.now().into_keys().collect() });
            cancel.cancel();
        }
    });
    Ok(())
}
