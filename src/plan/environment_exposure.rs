//! A service that faces the internet: what the environment file must say for it, or the plan is refused by policy. What templates make of it is
//! held against the same demands once more, in `manifests/exposure.rs`.
use super::{
    environment::{Environment, Scheme},
    locate::{Key, Located},
    problem::Problem,
};

/// Every field that is missing.
pub fn check(environment: &Environment, located: &Located) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, service) in &environment.services {
        let ingress = &service.ingress;
        if ingress.scheme == Scheme::Internal {
            continue;
        }
        let demands = [
            (ingress.certificate_arn.is_some(), "certificate_arn", "the ARN of a certificate in ACM, in aws.region"),
            (ingress.tls_policy.is_some(), "tls_policy", "as in ELBSecurityPolicy-TLS13-1-2-2021-06"),
            (
                ingress.authentication.is_some(),
                "authentication",
                "as in { by: service }, { by: mutual-tls, … }, { by: oidc, … } or { by: cognito, … }",
            ),
        ];
        let at: [Key; 4] = ["services".into(), name.as_str().into(), "ingress".into(), "scheme".into()];
        problems.extend(demands.into_iter().filter(|(said, ..)| !said).map(|(_, field, form)| {
            let message = format!("services.{name} faces the internet, and services.{name}.ingress.{field} is missing");
            Problem::new(located.value(&at), message).hint(format!("{field}: {form}"))
        }));
    }
    problems
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::path::Path;

    use crate::{failure::FailureKind, plan::read::environment_from};

    const STAGING: &str = include_str!("../../plans/environments/staging.yaml");
    const FIELDS: [(&str, &str); 4] = [
        ("certificate_arn", "arn:aws:acm:us-east-1:444455556666:certificate/0000"),
        ("tls_policy", "ELBSecurityPolicy-TLS13-1-2-2021-06"),
        ("authentication", "{ by: service }"),
        ("host", "files.example.com"),
    ];

    fn read(fields: &[(&str, &str)]) -> Result<(), crate::failure::Failure> {
        let said: String = fields.iter().map(|(field, value)| format!("      {field}: {value}\n")).collect();
        let text = STAGING.replacen("  uploader:\n", &format!("  uploader:\n    ingress:\n      scheme: internet-facing\n{said}"), 1);
        environment_from(Path::new("plans/environments/staging.yaml"), &text).map(drop)
    }

    #[test]
    fn what_faces_the_internet_says_certificate_policy_and_authentication() {
        read(&FIELDS).unwrap();
        for missing in &FIELDS[..3] {
            let said: Vec<_> = FIELDS.into_iter().filter(|field| field != missing).collect();
            let refused = read(&said).unwrap_err();
            assert_eq!((refused.kind, refused.evidence.len()), (FailureKind::Policy, 1), "{refused:?}");
            assert!(refused.evidence[0].contains(&format!("services.uploader.ingress.{} is missing", missing.0)), "{refused:?}");
            assert!(refused.evidence[0].starts_with("plans/environments/staging.yaml:"), "{refused:?}");
        }
        assert_eq!(read(&[]).unwrap_err().evidence.len(), 3, "all of it at once");
    }
}
