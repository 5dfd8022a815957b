//! SDK errors to failures: what was tried, as whom, why not, and what to do.
use aws_sdk_sts::{config::http::HttpResponse, error::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::Aws;
use crate::{
    failure::{Failure, FailureKind, LeftBehind},
    permit::Refused,
};

const NOT_CREDENTIALS: [&str; 8] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
];
const DENIED: [&str; 6] = [
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "AuthorizationError",
    "AuthorizationErrorException",
    "NotAuthorized",
];
/// Codes that mean: it was not done, ask again later.
pub(super) const THROTTLED: [&str; 5] =
    ["Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown"];

/// No credentials were found, or none could be had.
pub(super) fn no_credentials() -> Failure {
    Failure::new(FailureKind::Credentials, "no AWS credentials could be had")
        .next("set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; try: aws sts get-caller-identity")
}

/// The error's code, as in `NoSuchBucket`; none when no answer came.
pub(super) fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

/// The answer's HTTP status.
pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// Whom and where a call was made, for its message.
pub(super) struct Call<'a> {
    /// As in `s3:PutObject`: what a policy must allow.
    pub action: &'static str,
    /// What it was about.
    pub on: &'a str,
    /// The ARN that made it.
    pub principal: &'a str,
    /// The endpoint, when not AWS' own.
    pub endpoint: Option<&'a str>,
    /// The region.
    pub region: &'a str,
}

impl Aws {
    /// A failed call as a failure; `action` as a policy would name it, `on` what it was about.
    pub(super) fn failed<E>(&self, action: &'static str, on: &str, error: SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let call = Call { action, on, principal: &self.principal, endpoint: self.endpoint_url(), region: self.region.as_str() };
        failure(&call, error)
    }
}

/// The rules, apart from [`Aws`] because the first calls come before there is one.
pub(super) fn failure<E>(call: &Call<'_>, error: SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let Call { action, on, principal, region, .. } = call;
    if let Some(refused) = Refused::within(&error) {
        return refused.failure(&format!("{action} on {on}"));
    }
    match &error {
        SdkError::TimeoutError(_) => {
            return Failure::new(FailureKind::Timeout, format!("{action} on {on}: no answer in time from {}", whereto(call)))
                .left(LeftBehind::Unknown(format!("{action} on {on}")))
                .because(error);
        }
        SdkError::ConstructionFailure(_) => return no_credentials().because(error),
        SdkError::DispatchFailure(dispatch) => {
            let timeout = dispatch.as_connector_error().is_some_and(|e| e.is_timeout());
            let unreachable = dispatch.as_connector_error().is_some_and(|e| e.is_io() || e.is_timeout());
            if !unreachable {
                return no_credentials().because(error);
            }
            let how = if timeout { "does not answer" } else { "cannot be reached" };
            return Failure::new(FailureKind::Preflight, format!("{action}: {} {how}", whereto(call)))
                .next("check the network, HTTPS_PROXY and AWS_ENDPOINT_URL")
                .because(error);
        }
        _ => {}
    }
    let Some(service) = error.as_service_error() else {
        return Failure::step(format!("{action} on {on} failed")).left(LeftBehind::Unknown(format!("{action} on {on}"))).because(error);
    };
    let code = service.code().unwrap_or("unknown error").to_owned();
    let said = service.message().unwrap_or("no message").to_owned();
    let denied = DENIED.contains(&code.as_str()) || (code == "unknown error" && status(&error) == Some(403));
    let message = format!("{action} on {on}: {code}: {said}");
    if NOT_CREDENTIALS.contains(&code.as_str()) {
        return Failure::new(FailureKind::Credentials, message).next("get fresh credentials, then run the same command again");
    }
    if denied {
        let resource = if on.starts_with("arn:") { on } else { "*" };
        return Failure::step(format!("{principal} may not do {action} on {on} in {region}: {said}"))
            .next(format!("add to its policy: {{\"Effect\":\"Allow\",\"Action\":\"{action}\",\"Resource\":\"{resource}\"}}"))
            .next("deployctl doctor names every action that is missing");
    }
    if THROTTLED.contains(&code.as_str()) {
        return Failure::step(message).next("AWS throttles this account: wait a minute, then run the same command again");
    }
    Failure::step(message)
}

fn whereto(call: &Call<'_>) -> String {
    match call.endpoint {
        Some(endpoint) => endpoint.to_owned(),
        None => format!("{} in {}", call.action.split(':').next().unwrap_or("aws"), call.region),
    }
}
