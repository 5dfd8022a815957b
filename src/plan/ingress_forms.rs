//! Forms of what an environment file says of a service's Ingress: what AWS' load balancers, certificates and identity providers are called.
use super::{
    environment::{Authentication, Environment, Ingress, Scheme},
    environment_forms::is_label,
};

/// What of an Ingress no load balancer would take: the field, what is wrong, how it is right.
pub(super) fn check(environment: &Environment, ingress: &Ingress) -> Vec<(&'static str, String, &'static str)> {
    let aws = &environment.aws;
    let mut wrong = Vec::new();
    match &ingress.certificate_arn {
        Some(arn) if !is_arn(arn, "acm", aws.region.as_str(), aws.account_id.as_str(), "certificate/") => {
            wrong.push((
                "certificate_arn",
                format!("`{arn}` is no certificate of this account in {}", aws.region),
                "a load balancer takes one of its own region",
            ));
        }
        Some(_) if ingress.host.is_none() => {
            wrong.push((
                "certificate_arn",
                "it is a certificate for a name, and `host` is missing".to_owned(),
                "as in host: files.example.com",
            ));
        }
        Some(_) => {}
        // Of what faces the internet the missing certificate is spoken of elsewhere.
        None if ingress.scheme == Scheme::InternetFacing => {}
        None => {
            let needs = [
                (ingress.tls_policy.is_some(), "tls_policy"),
                (ingress.authorities.is_some(), "authorities"),
                (ingress.authentication.as_ref().is_some_and(by_load_balancer), "authentication"),
            ];
            wrong.extend(
                needs
                    .into_iter()
                    .filter(|(said, _)| *said)
                    .map(|(_, field)| (field, format!("`{field}` is for HTTPS, and `certificate_arn` is missing"), "a certificate in ACM")),
            );
        }
    }
    if let Some(policy) = ingress.tls_policy.as_deref().filter(|policy| !is_modern_tls(policy)) {
        wrong.push(("tls_policy", format!("`{policy}` is no policy of TLS 1.2 or newer"), "as in ELBSecurityPolicy-TLS13-1-2-2021-06"));
    }
    if let Some(host) = ingress.host.as_deref().filter(|host| !is_host(host)) {
        wrong.push(("host", format!("`{host}` is no host name"), "as in files.example.com"));
    }
    let mut refuse = |message: String, hint: &'static str| wrong.push(("authentication", message, hint));
    match &ingress.authentication {
        None | Some(Authentication::Service) => {}
        Some(Authentication::MutualTls { trust_store_arn: arn }) => {
            if !is_arn(arn, "elasticloadbalancing", aws.region.as_str(), aws.account_id.as_str(), "truststore/") {
                refuse(format!("`{arn}` is no trust store of this account in {}", aws.region), "aws elbv2 create-trust-store");
            }
        }
        Some(Authentication::Oidc { issuer, authorization_endpoint, token_endpoint, user_info_endpoint, secret_name }) => {
            for url in [issuer, authorization_endpoint, token_endpoint, user_info_endpoint] {
                let good = url::Url::parse(url).is_ok_and(|parsed| parsed.scheme() == "https") && !url.contains(['"', '\\', ' ']);
                if !good {
                    refuse(format!("`{url}` is no https:// address"), "a load balancer speaks to its provider by HTTPS only");
                }
            }
            if !is_label(secret_name) {
                refuse(format!("`{secret_name}` is no name of a Secret"), "lower-case letters, digits and dashes");
            }
        }
        Some(Authentication::Cognito { user_pool_arn, client_id, domain }) => {
            if !is_arn(user_pool_arn, "cognito-idp", aws.region.as_str(), aws.account_id.as_str(), "userpool/") {
                refuse(format!("`{user_pool_arn}` is no user pool of this account in {}", aws.region), "aws cognito-idp list-user-pools");
            }
            let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
            if !plain(client_id) || !plain(domain) {
                refuse(format!("`{client_id}` or `{domain}` is not Cognito's"), "the app client's id and the user pool's domain");
            }
        }
    }
    wrong
}

fn by_load_balancer(authentication: &Authentication) -> bool {
    *authentication != Authentication::Service
}

fn is_arn(text: &str, service: &str, region: &str, account: &str, resource: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [arn, partition, found_service, found_region, found_account, rest] = parts.as_slice() else { return false };
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'/'));
    *arn == "arn"
        && partition.starts_with("aws")
        && (*found_service, *found_region, *found_account) == (service, region, account)
        && rest.strip_prefix(resource).is_some_and(|name| !name.is_empty() && plain(name))
}

/// Elastic Load Balancing's policies carry the oldest version that they speak: `TLS13-1-2-…`, `FS-1-2-…`, `TLS-1-2-…`, or none at all.
fn is_modern_tls(policy: &str) -> bool {
    let rest = policy.strip_prefix("ELBSecurityPolicy-").unwrap_or_default();
    let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    word(rest) && ["-1-2-", "-1-3-"].iter().any(|version| rest.contains(version)) && !rest.contains("-1-0-") && !rest.contains("-1-1-")
}

fn is_host(text: &str) -> bool {
    text.len() <= 253 && text.contains('.') && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::path::Path;

    use crate::plan::read::environment_from;

    const STAGING: &str = include_str!("../../plans/environments/staging.yaml");
    const CERTIFICATE: &str = "certificate_arn: arn:aws:acm:us-east-1:444455556666:certificate/0, host: files.example.com";

    fn said(fields: &str) -> String {
        let text = STAGING.replacen("  uploader:\n", &format!("  uploader:\n    ingress: {{ {fields} }}\n"), 1);
        environment_from(Path::new("plans/environments/staging.yaml"), &text)
            .map_or_else(|failure| failure.evidence.join("\n"), |_| String::new())
    }

    #[test]
    fn what_no_load_balancer_would_take_is_found() {
        assert_eq!(said(CERTIFICATE), "");
        let policy = |name: &str| format!("{CERTIFICATE}, tls_policy: {name}");
        let by = |what: &str| format!("{CERTIFICATE}, authentication: {{ {what} }}");
        let mistakes = [
            (
                "certificate_arn: arn:aws:acm:eu-west-1:444455556666:certificate/0, host: a.example".to_owned(),
                "is no certificate of this account in us-east-1",
            ),
            (
                "certificate_arn: arn:aws:acm:us-east-1:111122223333:certificate/0, host: a.example".to_owned(),
                "is no certificate of this account",
            ),
            ("certificate_arn: arn:aws:acm:us-east-1:444455556666:certificate/0".to_owned(), "`host` is missing"),
            ("tls_policy: ELBSecurityPolicy-TLS13-1-2-2021-06".to_owned(), "`certificate_arn` is missing"),
            ("authorities: plans/private-ca.pem".to_owned(), "`authorities` is for HTTPS, and `certificate_arn` is missing"),
            ("authentication: { by: cognito, user_pool_arn: a, client_id: b, domain: c }".to_owned(), "`certificate_arn` is missing"),
            (policy("ELBSecurityPolicy-2016-08"), "is no policy of TLS 1.2"),
            (policy("ELBSecurityPolicy-TLS-1-1-2017-01"), "is no policy of TLS 1.2"),
            (policy("ELBSecurityPolicy-TLS13-1-0-2021-06"), "is no policy of TLS 1.2"),
            ("host: files".to_owned(), "is no host name"),
            (by("by: mutual-tls, trust_store_arn: \"arn:x\""), "is no trust store"),
            (
                by(
                    "by: oidc, issuer: http://a, authorization_endpoint: https://a/a, token_endpoint: https://a/t, user_info_endpoint: https://a/u, secret_name: a",
                ),
                "is no https:// address",
            ),
            (by("by: cognito, user_pool_arn: a, client_id: b, domain: c"), "is no user pool"),
            (by("by: cognit, domain: c"), "did you mean `cognito`?"),
        ];
        for (fields, expected) in mistakes {
            assert!(said(&fields).contains(expected), "{fields}: {}", said(&fields));
        }
        for good in ["ELBSecurityPolicy-TLS13-1-2-2021-06", "ELBSecurityPolicy-TLS13-1-3-2021-06", "ELBSecurityPolicy-FS-1-2-Res-2020-10"] {
            assert_eq!(said(&policy(good)), "", "{good}");
        }
    }
}
