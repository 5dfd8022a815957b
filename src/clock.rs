//! The only place that asks what time it is, so that tests can say.
use std::{sync::OnceLock, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Now, or the fixed time that `DEPLOYCTL_NOW` (RFC 3339) names: for golden outputs in tests.
pub fn now() -> jiff::Timestamp {
    static FIXED: OnceLock<Option<jiff::Timestamp>> = OnceLock::new();
    FIXED.get_or_init(|| std::env::var("DEPLOYCTL_NOW").ok().and_then(|t| t.parse().ok())).unwrap_or_else(jiff::Timestamp::now)
}

/// Since the machine started, with the time that it slept or this process was stopped: what a lease is measured by.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}
