//! Roles that services of AWS assume in their own name: EKS Auth for a pod, EC2 for a node. The emulator judges the role's trust policy.
use anyhow::{Context, Result};

use super::emulator::{Root, element};

const STS: &str = "2011-06-15";

/// A service of AWS, and what STS learns of why it asks.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// As trust policies name it, as in `pods.eks.amazonaws.com`.
    pub principal: &'a str,
    /// The ARN of what it asks for: `aws:SourceArn`. The account, `aws:SourceAccount`, is the sandbox's only one.
    pub source: &'a str,
}

/// Which session is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The role's ARN.
    pub role: &'a str,
    /// The session's name.
    pub session: &'a str,
    /// Its tags: `aws:RequestTag` to the trust policy.
    pub tags: &'a [(&'a str, String)],
    /// How long it is good for.
    pub seconds: u32,
}

/// A session.
#[derive(Clone)]
pub struct Session {
    /// `ASIA…`
    pub access_key_id: String,
    /// Never logged.
    pub secret_access_key: String,
    /// Never logged.
    pub session_token: String,
    /// `arn:aws:sts::…:assumed-role/ROLE/SESSION`.
    pub arn: String,
    /// `ROLEID:SESSION`.
    pub id: String,
    /// Its end.
    pub expiration: jiff::Timestamp,
}

/// STS' answer.
pub enum Answer {
    /// The role trusts the service, for what it asks for.
    Given(Session),
    /// It does not, or is not there.
    Refused(String),
}

impl Root {
    /// AssumeRole as a service of AWS.
    pub async fn assume_role_as(&self, region: &str, service: Service<'_>, wanted: Wanted<'_>) -> Result<Answer> {
        let seconds = wanted.seconds.to_string();
        let mut form = vec![
            ("Action".to_owned(), "AssumeRole".to_owned()),
            ("Version".to_owned(), STS.to_owned()),
            ("RoleArn".to_owned(), wanted.role.to_owned()),
            ("RoleSessionName".to_owned(), wanted.session.to_owned()),
            ("DurationSeconds".to_owned(), seconds),
        ];
        for (number, (key, value)) in (1..).zip(wanted.tags) {
            form.push((format!("Tags.member.{number}.Key"), (*key).to_owned()));
            form.push((format!("Tags.member.{number}.Value"), value.clone()));
        }
        let headers = [("x-sandbox-service-principal", service.principal), ("x-sandbox-source-arn", service.source)];
        let (status, text) = self.post("sts", region, &form, &headers).await?;
        match element(&text, "Code") {
            Some("AccessDenied") => Ok(Answer::Refused(element(&text, "Message").unwrap_or(&text).to_owned())),
            _ if status.is_success() => session(&text).map(Answer::Given),
            _ => anyhow::bail!("STS answered {status}: {text}"),
        }
    }
}

fn session(text: &str) -> Result<Session> {
    let part = |name: &str| element(text, name).map(str::to_owned).with_context(|| format!("STS answered without {name}"));
    Ok(Session {
        access_key_id: part("AccessKeyId")?,
        secret_access_key: part("SecretAccessKey")?,
        session_token: part("SessionToken")?,
        arn: part("Arn")?,
        id: part("AssumedRoleId")?,
        expiration: part("Expiration")?.parse().context("the session's end")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_whole_or_not_at_all() {
        let text = "<AssumeRoleResult><Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
                    <SessionToken>t</SessionToken><Expiration>2026-11-30T12:00:00Z</Expiration></Credentials><AssumedRoleUser>\
                    <AssumedRoleId>AROA:x</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/r/x</Arn></AssumedRoleUser></AssumeRoleResult>";
        let found = session(text).unwrap();
        assert_eq!(
            (found.access_key_id.as_str(), found.id.as_str(), found.arn.as_str()),
            ("ASIA1", "AROA:x", "arn:aws:sts::1:assumed-role/r/x")
        );
        assert!(session(&text.replace("SessionToken", "Other")).is_err());
    }
}
