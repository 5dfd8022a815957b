//! The only place that asks what time it is, so that tests can say.
use std::sync::OnceLock;

/// Now, or the fixed time that `DEPLOYCTL_NOW` (RFC 3339) names: for golden outputs in tests.
pub fn now() -> jiff::Timestamp {
    static FIXED: OnceLock<Option<jiff::Timestamp>> = OnceLock::new();
    FIXED.get_or_init(|| std::env::var("DEPLOYCTL_NOW").ok().and_then(|t| t.parse().ok())).unwrap_or_else(jiff::Timestamp::now)
}
