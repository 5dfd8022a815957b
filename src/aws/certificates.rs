//! Certificates of ACM, as load balancers take them.
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Aws, signed::Answer};
use crate::failure::Failure;

/// What ACM says of a certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// `ISSUED` when a load balancer takes it.
    pub status: String,
    /// The names that it is for; the first part of one may be `*`.
    pub names: Vec<String>,
    /// When it ends, once it is issued.
    pub not_after: Option<Timestamp>,
}

/// Why no load balancer serves a name with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// What is wrong.
    pub why: String,
    /// What to do about it.
    pub fix: String,
}

impl Certificate {
    /// Whether a load balancer would serve `host` with it at this moment; none if there is no such certificate.
    pub fn objection(found: Option<&Self>, host: &str, now: Timestamp) -> Option<Objection> {
        let object = |why: String, fix: &str| Some(Objection { why, fix: fix.to_owned() });
        let Some(Self { status, names, not_after }) = found else {
            let fix = format!("aws acm request-certificate --validation-method DNS --domain-name {host}, and its ARN as certificate_arn");
            return object("ACM has no such certificate".to_owned(), &fix);
        };
        if !names.iter().any(|name| covers(name, host)) {
            return object(format!("it is for {}, and not for {host}", names.join(", ")), "another certificate_arn, or another host");
        }
        match (status.as_str(), not_after) {
            ("ISSUED", Some(end)) if *end <= now => {
                object(format!("it has ended on {}", end.strftime("%F")), "import or request another one")
            }
            ("ISSUED", _) => None,
            ("PENDING_VALIDATION", _) => object(
                "ACM waits for proof that the name is yours".to_owned(),
                "make the record that `aws acm describe-certificate` shows under DomainValidationOptions",
            ),
            (other, _) => object(format!("it is {other}"), "request or import another one"),
        }
    }
}

/// `*` stands for the first part of a name, and for one only (RFC 6125, 6.4.3).
fn covers(name: &str, host: &str) -> bool {
    let wild = name.strip_prefix("*.").is_some_and(|rest| host.split_once('.').is_some_and(|(_, of)| of.eq_ignore_ascii_case(rest)));
    wild || name.eq_ignore_ascii_case(host)
}

impl Aws {
    /// A certificate of this region; none if ACM has no such one.
    pub async fn certificate(&self, arn: &str) -> Result<Option<Certificate>, Failure> {
        let action = "acm:DescribeCertificate";
        match self.ask_json("acm", "CertificateManager.DescribeCertificate", &json!({ "CertificateArn": arn })).await? {
            Answer::Done(text) => {
                let answer: Value = serde_json::from_str(&text).unwrap_or_default();
                described(&answer["Certificate"]).map(Some).ok_or_else(|| Failure::step(format!("{action}: the answer has no certificate")))
            }
            Answer::Refused { code, .. } if code == "ResourceNotFoundException" => Ok(None),
            Answer::Refused { status, code, message } => Err(self.refused(action, status, &code, &message)),
        }
    }
}

fn described(certificate: &Value) -> Option<Certificate> {
    let names = certificate["SubjectAlternativeNames"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Some(Certificate {
        status: certificate["Status"].as_str()?.to_owned(),
        names: names.map(str::to_owned).collect(),
        // Seconds since 1970, with a fraction.
        #[allow(clippy::cast_possible_truncation, reason = "seconds of a date")]
        not_after: certificate["NotAfter"].as_f64().and_then(|seconds| Timestamp::from_second(seconds as i64).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_read() {
        let answer = json!({
            "CertificateArn": "arn", "DomainName": "a.example", "Status": "ISSUED", "NotAfter": 1_798_761_599.5,
            "SubjectAlternativeNames": ["a.example", "*.b.example"],
        });
        let read = described(&answer).unwrap();
        assert_eq!((read.status.as_str(), read.names), ("ISSUED", vec!["a.example".to_owned(), "*.b.example".to_owned()]));
        assert_eq!(read.not_after.unwrap().to_string(), "2026-12-31T23:59:59Z");
        let pending = described(&json!({ "Status": "PENDING_VALIDATION", "SubjectAlternativeNames": ["a.example"] })).unwrap();
        assert_eq!(pending.not_after, None);
        assert_eq!(described(&Value::Null), None);
    }

    #[test]
    fn a_load_balancer_takes_what_is_issued_for_its_name() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let objection = |status: &str, names: &[&str], end: Option<&str>| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let found = Certificate { status: status.to_owned(), names, not_after: end.map(|end| end.parse().unwrap()) };
            Certificate::objection(Some(&found), "files.example.com", now).map(|objection| objection.why)
        };
        let late = Some("2027-06-01T00:00:00Z");
        for names in [&["files.example.com"][..], &["other.example.com", "Files.example.com"], &["*.example.com"]] {
            assert_eq!(objection("ISSUED", names, late), None, "{names:?}");
        }
        for names in [&["example.com"][..], &["*.com"], &["*.files.example.com"], &[]] {
            assert!(objection("ISSUED", names, late).unwrap().ends_with("and not for files.example.com"), "{names:?}");
        }
        let names = &["files.example.com"][..];
        assert_eq!(objection("ISSUED", names, Some("2026-05-31T00:00:00Z")).unwrap(), "it has ended on 2026-05-31");
        assert!(objection("PENDING_VALIDATION", names, None).unwrap().contains("waits for proof"));
        assert_eq!(objection("REVOKED", names, late).unwrap(), "it is REVOKED");
        assert!(Certificate::objection(None, "files.example.com", now).unwrap().fix.contains("--domain-name files.example.com"));
    }
}
