//! How long AWS is waited for, when it is asked again, and that a server which says when is obeyed.
use std::time::Duration;

use aws_config::{retry::RetryConfig, timeout::TimeoutConfig};
use aws_smithy_runtime_api::client::{
    interceptors::context::InterceptorContext,
    retries::classifiers::{ClassifyRetry, RetryAction, RetryClassifierPriority, RetryReason},
};
use aws_smithy_types::retry::ErrorKind;

use crate::retry::{Limits, asked_for};

/// For a connection.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// For the first byte of an answer, and for the next one.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
/// For one attempt.
pub(super) const ATTEMPT: Duration = Duration::from_secs(45);
/// For a call with all its attempts.
pub(super) const CALL: Duration = Duration::from_secs(150);
/// Attempts of a call; three are few for IAM and STS.
const ATTEMPTS: u32 = 6;
/// The longest pause, also if the server asks for a longer one.
const PAUSE: Duration = Duration::from_secs(30);

/// Every client's.
pub(super) fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .read_timeout(ANSWER)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(CALL)
        .build()
}

/// Standard mode: pauses that grow, with jitter, and a token bucket that ends them when everything fails.
pub(super) fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS).with_max_backoff(PAUSE)
}

/// The same for what is not sent by an SDK client.
pub(super) const LIMITS: Limits = Limits { attempts: ATTEMPTS as usize, deadline: CALL };

/// SDK clients obey AWS' own header, `x-amz-retry-after`. This adds HTTP's, which proxies and some services send instead, and takes every 429 for
/// throttling, whatever stands in its body: it was not done, so it may be asked again.
#[derive(Debug)]
pub(super) struct RetryAfter;

impl ClassifyRetry for RetryAfter {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        self.classify_retry_v2(context, &RetryAction::NoActionIndicated)
    }

    fn classify_retry_v2(&self, context: &InterceptorContext, previous: &RetryAction) -> RetryAction {
        let Some(response) = context.response() else { return RetryAction::NoActionIndicated };
        let kind = match previous {
            RetryAction::RetryIndicated(RetryReason::RetryableError { retry_after: Some(_), .. }) => return RetryAction::NoActionIndicated,
            RetryAction::RetryIndicated(RetryReason::RetryableError { kind, .. }) => *kind,
            _ if response.status().as_u16() == 429 => ErrorKind::ThrottlingError,
            _ => return RetryAction::NoActionIndicated,
        };
        match asked_for(response.headers().get("retry-after")) {
            Some(pause) => RetryAction::retryable_error_with_explicit_delay(kind, pause),
            None => RetryAction::retryable_error(kind),
        }
    }

    fn name(&self) -> &'static str {
        "HTTP Retry-After"
    }

    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}
