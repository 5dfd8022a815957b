//! Another attempt, where that may help: after a pause that grows, with jitter, or that the server asks for, and with a deadline over all of it.
use std::{error::Error, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::Instant;

use crate::{failure::Failure, waiting};

/// The longest pause, before jitter, that is not asked for by the server.
const LONGEST: Duration = Duration::from_secs(10);

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Attempts in all.
    pub attempts: usize,
    /// For all attempts and the pauses between them.
    pub deadline: Duration,
}

/// An attempt that did not bring what was wanted.
#[derive(Debug)]
pub struct Missed {
    /// Why; shown if no other attempt is made.
    pub failure: Failure,
    /// Whether another attempt may bring more.
    pub again: Again,
}

/// Whether another attempt may bring more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It would not, or is not safe.
    No,
    /// After a pause.
    Yes,
    /// Not before the time that the server has asked for.
    After(Duration),
}

impl Missed {
    /// An attempt that got no answer, or half of one: another may, unless a certificate was behind it.
    pub fn unanswered(failure: Failure, error: impl Error + Send + Sync + 'static) -> Self {
        let again = if untrusted(&error) { Again::No } else { Again::Yes };
        Self { failure: failure.because(error), again }
    }

    /// An attempt after which another one may be made, at the time that the server has asked for, if it has.
    pub fn passing(failure: Failure, wish: Option<Duration>) -> Self {
        Self { failure, again: wish.map_or(Again::Yes, Again::After) }
    }
}

impl From<Failure> for Missed {
    /// What failed otherwise is not tried again.
    fn from(failure: Failure) -> Self {
        Self { failure, again: Again::No }
    }
}

/// HTTP's `Retry-After` in seconds, its other form, a date, being used by nobody whom we ask.
pub fn asked_for(header: Option<&str>) -> Option<Duration> {
    header?.trim().parse().ok().map(Duration::from_secs)
}

/// Pauses without end: from half a second to ten, each up to twice as long at random, so that many who were turned away together do not come
/// back together.
pub fn pauses() -> impl Iterator<Item = Duration> {
    builder().without_max_times().build()
}

fn builder() -> ExponentialBuilder {
    ExponentialBuilder::default().with_min_delay(Duration::from_millis(500)).with_max_delay(LONGEST).with_jitter()
}

/// Attempts until one succeeds, fails for good, or the limits are reached. `what` is waited for, as in "an answer of the registry".
pub async fn within<T, F>(what: &str, limits: Limits, mut attempt: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Missed>>,
{
    let _waiting = waiting::call(what, limits.deadline);
    let end = Instant::now() + limits.deadline;
    let mut pauses = builder().with_max_times(limits.attempts.saturating_sub(1)).build();
    let mut last = None;
    loop {
        let Missed { failure, again } = match tokio::time::timeout_at(end, attempt()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(missed)) => missed,
            Err(_late) => {
                let late = Failure::timeout(what, limits.deadline);
                return Err(match last {
                    Some(failure) => late.because(failure),
                    None => late,
                });
            }
        };
        let pause = match (again, pauses.next()) {
            (Again::No, _) | (_, None) => return Err(failure),
            (Again::Yes, Some(pause)) => pause,
            (Again::After(wish), Some(pause)) => pause.max(wish),
        };
        // Also where the server asks for more time than there is: nothing would come of waiting for the deadline.
        if Instant::now() + pause >= end {
            return Err(failure);
        }
        tracing::info!("{what}: {}; again in {} ms", failure.message, pause.as_millis());
        last = Some(failure);
        tokio::time::sleep(pause).await;
    }
}

/// Whether a certificate is behind it, which another attempt would find as it is.
pub fn untrusted(error: &(dyn Error + 'static)) -> bool {
    let mut below = Some(error);
    while let Some(cause) = below {
        if cause.is::<rustls::Error>() {
            return true;
        }
        // An I/O error hides from `source` what it was made of, which may be another one.
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        below = inner.map_or_else(|| cause.source(), |inner| Some(inner));
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::cell::RefCell;

    use super::*;
    use crate::failure::FailureKind;

    const LIMITS: Limits = Limits { attempts: 2, deadline: Duration::from_secs(5) };

    /// When attempts were made, and how it ended, if every one ends like this.
    async fn tried(limits: Limits, end: impl Fn() -> Missed) -> (Vec<Duration>, Failure) {
        let (began, at) = (Instant::now(), RefCell::new(Vec::new()));
        let failure = within("an answer", limits, || async {
            at.borrow_mut().push(began.elapsed());
            Err::<(), _>(end())
        });
        let failure = failure.await.unwrap_err();
        (at.into_inner(), failure)
    }

    #[test]
    fn pauses_grow_to_ten_seconds_and_no_two_who_try_pause_alike() {
        let first: Vec<Duration> = pauses().take(8).collect();
        for (pause, least) in first.iter().zip([500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]) {
            assert!((least..=least * 2).contains(&pause.as_millis()), "{first:?}");
        }
        assert_ne!(first, pauses().take(8).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn the_server_is_obeyed_and_what_it_asks_for_beyond_the_deadline_is_not_waited_for() {
        let wish = |seconds| move || Missed::passing(Failure::step("busy"), Some(Duration::from_secs(seconds)));
        let (at, failure) = tried(LIMITS, wish(2)).await;
        assert_eq!((at.len(), failure.message.as_str()), (2, "busy"));
        assert!(at[1] - at[0] >= Duration::from_secs(2), "{at:?}");
        let began = Instant::now();
        let (at, failure) = tried(LIMITS, wish(6)).await;
        assert_eq!((at.len(), failure.message.as_str()), (1, "busy"));
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn what_is_not_safe_is_done_once() {
        let (at, _) = tried(LIMITS, || Failure::step("refused").into()).await;
        assert_eq!(at.len(), 1);
    }

    #[tokio::test]
    async fn an_attempt_that_hangs_ends_with_the_deadline_and_says_what_came_before() {
        let (began, first) = (Instant::now(), RefCell::new(true));
        let limits = Limits { deadline: Duration::from_secs(2), ..LIMITS };
        let failure = within("an answer", limits, || async {
            if first.replace(false) {
                return Err::<(), _>(Missed::passing(Failure::step("busy"), None));
            }
            std::future::pending().await
        });
        let failure = failure.await.unwrap_err();
        assert_eq!((failure.kind, began.elapsed().as_secs()), (FailureKind::Timeout, 2));
        assert_eq!(failure.chain(), ["waited 2 s for an answer", "busy"]);
    }
}
