//! Whether this process may change anything just now. Asked before every call that changes something on AWS, in the cluster or in a registry,
//! and before terraform starts; a process that was stopped past its lease makes no call that was not asked for before.
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    engine::lease::Lease,
    failure::{Failure, FailureKind},
};

/// What the process was started for.
#[derive(Clone)]
enum Right {
    /// To look. What planning does in the cluster (dry runs, one agent Job) is allowed by the cluster itself.
    Look,
    /// To do one thing that cannot get in anybody's way, such as setting a secret.
    Unleased,
    /// To change the environment for as long as the lease is held.
    Leased(Arc<dyn Lease>),
}

/// See the module.
pub struct Permit {
    right: Mutex<Right>,
    calls: Arc<Mutex<BTreeMap<u64, String>>>,
    next: AtomicU64,
}

/// A call was not made, because the right to make it was missing or lost.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    kind: FailureKind,
    message: String,
    next: Vec<String>,
}

impl Refused {
    /// The refusal below an error of a client library, if that is what it is about.
    pub fn within<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut below = Some(error);
        while let Some(error) = below {
            if let Some(refused) = error.downcast_ref::<Self>() {
                return Some(refused);
            }
            below = error.source();
        }
        None
    }
    /// As a failure.
    pub fn failure(&self, call: &str) -> Failure {
        let mut failure = Failure::new(self.kind, format!("{call} was not sent: {}", self.message));
        failure.next.clone_from(&self.next);
        failure
    }
}

/// A call that is under way; it ends when this is dropped.
pub struct UnderWay {
    calls: Arc<Mutex<BTreeMap<u64, String>>>,
    number: u64,
}

impl fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnderWay").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.calls).remove(&self.number);
    }
}

impl Permit {
    fn new(right: Right) -> Arc<Self> {
        Arc::new(Self { right: Mutex::new(right), calls: Arc::default(), next: AtomicU64::new(0) })
    }
    /// To look only.
    pub fn to_look() -> Arc<Self> {
        Self::new(Right::Look)
    }
    /// To do one thing that needs no lease.
    pub fn unleased() -> Arc<Self> {
        Self::new(Right::Unleased)
    }
    /// From now on changes are allowed for as long as this lease is held.
    pub fn lease(&self, lease: Arc<dyn Lease>) {
        *lock(&self.right) = Right::Leased(lease);
    }
    /// From now on it may only look.
    pub fn end(&self) {
        *lock(&self.right) = Right::Look;
    }

    /// Asks for the right to make one changing call, and keeps it among those under way until the answer is dropped.
    pub fn begin(&self, call: impl Into<String>) -> Result<UnderWay, Refused> {
        self.held()?;
        if matches!(*lock(&self.right), Right::Look) {
            return Err(Refused {
                kind: FailureKind::Internal,
                message: "planning changes nothing, and nobody holds the environment's lease".to_owned(),
                next: Vec::new(),
            });
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.calls).insert(number, call.into());
        Ok(UnderWay { calls: self.calls.clone(), number })
    }

    /// Refuses once a lease was lost.
    pub fn held(&self) -> Result<(), Refused> {
        let right = lock(&self.right).clone();
        match right {
            Right::Leased(lease) => {
                lease.check().map_err(|failure| Refused { kind: failure.kind, message: failure.message, next: failure.next })
            }
            Right::Look | Right::Unleased => Ok(()),
        }
    }

    /// Calls that are under way just now.
    pub fn under_way(&self) -> Vec<String> {
        lock(&self.calls).values().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
