//! Part of `doctor`: whether the certificates that load balancers are to have are there, issued, and for their names.
use jiff::{SignedDuration, Timestamp};

use super::doctor::{Check, Status};
use crate::{
    aws::{Aws, certificates::Certificate},
    clock,
    plan::environment::Environment,
};

/// ACM renews what it has issued itself 60 days before its end; what is imported, nobody does.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A line for each service with a certificate.
pub(super) async fn checks(aws: &Aws, environment: &Environment) -> Vec<Check> {
    let mut checks = Vec::new();
    for (service, settings) in &environment.services {
        let (Some(arn), Some(host)) = (&settings.ingress.certificate_arn, &settings.ingress.host) else { continue };
        let name = format!("certificate of {service}");
        checks.push(match aws.certificate(arn).await {
            Ok(found) => judged(&name, host, found.as_ref(), clock::now()),
            Err(failure) => Check::unknown(&name, &failure),
        });
    }
    checks
}

fn judged(name: &str, host: &str, found: Option<&Certificate>, now: Timestamp) -> Check {
    if let Some(objection) = Certificate::objection(found, host, now) {
        return Check::new(name, Status::Failed, objection.why).fix(objection.fix);
    }
    let Some(end) = found.and_then(|found| found.not_after) else {
        return Check::new(name, Status::Ok, format!("issued for {host}"));
    };
    let until = format!("issued for {host}, until {}", end.strftime("%F"));
    if end - SOON <= now {
        return Check::new(name, Status::Warning, until).fix("ACM renews what it has issued itself; import the next one in time");
    }
    Check::new(name, Status::Ok, until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_near_is_told() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let judged = |status: &str, end: &str| {
            let names = vec!["files.example.com".to_owned()];
            let found = Certificate { status: status.to_owned(), names, not_after: Some(end.parse().unwrap()) };
            let check = super::judged("certificate", "files.example.com", Some(&found), now);
            (check.status, check.detail)
        };
        let told = |end: &str| format!("issued for files.example.com, until {end}");
        assert_eq!(judged("ISSUED", "2027-06-01T00:00:00Z"), (Status::Ok, told("2027-06-01")));
        assert_eq!(judged("ISSUED", "2026-06-20T00:00:00Z"), (Status::Warning, told("2026-06-20")));
        assert_eq!(judged("REVOKED", "2027-06-01T00:00:00Z"), (Status::Failed, "it is REVOKED".to_owned()));
        assert_eq!(super::judged("certificate", "files.example.com", None, now).status, Status::Failed);
    }
}
