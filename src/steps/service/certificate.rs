//! Whether the certificate of a service's load balancer is there, issued and for its name: its controller would say so only in an event, and never end.
use crate::{
    aws::certificates::Certificate,
    clock,
    failure::{Failure, FailureKind},
    ids::ServiceName,
    plan::environment::ServiceSettings,
    steps::StepContext,
};

/// Refuses one that no load balancer takes. Who may not ask ACM leaves it to the controller.
pub(super) async fn is_taken(cx: &StepContext, service: &ServiceName, settings: &ServiceSettings) -> Result<(), Failure> {
    let (Some(arn), Some(host)) = (&settings.ingress.certificate_arn, &settings.ingress.host) else { return Ok(()) };
    let found = match cx.aws.certificate(arn).await {
        Err(failure) if failure.kind == FailureKind::Credentials => return Ok(()),
        found => found?,
    };
    match Certificate::objection(found.as_ref(), host, clock::now()) {
        Some(objection) => {
            let message = format!("services.{service}.ingress.certificate_arn: {arn}: {}", objection.why);
            Err(Failure::new(FailureKind::Preflight, message).next(objection.fix))
        }
        None => Ok(()),
    }
}
