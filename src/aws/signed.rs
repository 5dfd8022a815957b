//! Calls that are signed here. A service of which one or two reading actions are used would cost minutes of build for its SDK crate.
use std::time::SystemTime;

use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use serde_json::Value;

use super::{Aws, error, patience};
use crate::{
    failure::{Failure, FailureKind},
    ids::Region,
    retry::{self, Missed},
};

/// A reading call: it is safe to repeat.
pub(super) struct Question<'a> {
    /// As in `ec2`.
    pub service: &'static str,
    /// Without the first slash; empty for most.
    pub path: &'a str,
    /// As a policy names it: `ec2:DescribeSubnets`.
    pub action: String,
    /// Beside what every request has.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: &'a str,
}

/// What came back.
pub(super) enum Answer {
    /// The body of a success.
    Done(String),
    /// The service refused.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its code, as in `UnauthorizedOperation`.
        code: String,
        /// Its sentence.
        message: String,
    },
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

impl Aws {
    /// Asks; throttling, passing faults and broken connections get more attempts.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Answer, Failure> {
        let (service, action) = (question.service, &question.action);
        let url = self.endpoint_url_of(service).unwrap_or_else(|| public_endpoint(service, self.region()));
        let url = format!("{}/{}", url.trim_end_matches('/'), question.path);
        let client = reqwest::Client::builder().connect_timeout(patience::CONNECT).read_timeout(patience::ANSWER);
        let client = client.timeout(patience::ATTEMPT).build().map_err(|e| broken(action, e))?;
        retry::within(&format!("{action} at {url}"), patience::LIMITS, || self.ask_once(&client, &url, question)).await
    }

    /// Asks a service of AWS' JSON 1.1 protocol; `target` is as in `TrentService.ListKeys`.
    pub(super) async fn ask_json(&self, service: &'static str, target: &str, body: &Value) -> Result<Answer, Failure> {
        let operation = target.rsplit_once('.').map_or(target, |(_, operation)| operation);
        let headers = vec![("content-type", "application/x-amz-json-1.1".to_owned()), ("x-amz-target", target.to_owned())];
        self.ask(&Question { service, path: "", action: format!("{service}:{operation}"), headers, body: &body.to_string() }).await
    }

    async fn ask_once(&self, client: &reqwest::Client, url: &str, question: &Question<'_>) -> Result<Answer, Missed> {
        let action = &question.action;
        let headers = self.signed_headers(url, question).await.map_err(|e| broken(action, e))?;
        let request = headers.into_iter().fold(client.post(url), |request, (name, value)| request.header(name, value));
        let answer = request
            .body(question.body.to_owned())
            .send()
            .await
            .map_err(|e| Missed::unanswered(Failure::new(FailureKind::Preflight, format!("{action}: {url} cannot be reached")), e))?;
        let status = answer.status();
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (wish, typed) = (retry::asked_for(header("retry-after").as_deref()), header("x-amzn-errortype"));
        let text = answer.text().await.map_err(|e| Missed::passing(broken(action, e), None))?;
        if status.is_success() {
            return Ok(Answer::Done(text));
        }
        let (code, message) = said(&text);
        // REST services name it in a header.
        let code = typed.and_then(|typed| typed.split(':').next().map(str::to_owned)).unwrap_or(code);
        if status.is_server_error() || status == 429 || error::THROTTLED.contains(&code.as_str()) {
            return Err(Missed::passing(self.refused(action, status.as_u16(), &code, &message), wish));
        }
        Ok(Answer::Refused { status: status.as_u16(), code, message })
    }

    /// The failure that a refusal is to most callers.
    pub(super) fn refused(&self, action: &str, status: u16, code: &str, message: &str) -> Failure {
        let failure =
            Failure::step(format!("{} may not do {action}, or it failed in {}: {code}: {message}", self.principal(), self.region()));
        if status == 403 || code == "UnauthorizedOperation" || code.starts_with("AccessDenied") {
            failure.next(format!("add to its policy: {{\"Effect\":\"Allow\",\"Action\":\"{action}\",\"Resource\":\"*\"}}"))
        } else {
            failure
        }
    }

    async fn signed_headers(&self, url: &str, question: &Question<'_>) -> Result<Vec<(String, String)>, AnyError> {
        let provider = self.config.credentials_provider().ok_or_else(error::no_credentials)?;
        let identity = provider.provide_credentials().await?.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region().as_str())
            .name(question.service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let own = question.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let request = SignableRequest::new("POST", url, own, SignableBody::Bytes(question.body.as_bytes()))?;
        let (instructions, _signature) = sign(request, &params)?.into_parts();
        let mut headers: Vec<(String, String)> = instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        headers.extend(question.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        Ok(headers)
    }
}

fn public_endpoint(service: &str, region: &Region) -> String {
    match service {
        // It has never had another name: AWS General Reference, "Amazon EKS endpoints and quotas".
        "eks-auth" => format!("https://eks-auth.{region}.api.aws"),
        _ => format!("https://{service}.{region}.amazonaws.com"),
    }
}

fn broken(action: &str, error: impl Into<AnyError>) -> Failure {
    Failure::step(format!("{action} could not be asked")).because(error)
}

/// Code and sentence of an error, in XML or in JSON.
fn said(text: &str) -> (String, String) {
    let found = match serde_json::from_str::<Value>(text) {
        Ok(json) => {
            let word = |names: [&str; 2]| names.iter().find_map(|name| json[name].as_str()).map(str::to_owned);
            (word(["__type", "code"]).map(|code| code.rsplit('#').next().unwrap_or_default().to_owned()), word(["message", "Message"]))
        }
        Err(_) => (between(text, "<Code>", "</Code>"), between(text, "<Message>", "</Message>")),
    };
    (found.0.unwrap_or_else(|| "unknown error".to_owned()), found.1.unwrap_or_else(|| "no message".to_owned()))
}

fn between(text: &str, start: &str, end: &str) -> Option<String> {
    text.split_once(start)?.1.split_once(end).map(|(inner, _)| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn errors_of_both_protocols_are_read() {
        let xml = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>";
        assert_eq!(said(xml), ("UnauthorizedOperation".to_owned(), "no".to_owned()));
        let json = r#"{"__type":"com.amazonaws.kms#AccessDeniedException","Message":"no"}"#;
        assert_eq!(said(json), ("AccessDeniedException".to_owned(), "no".to_owned()));
        assert_eq!(said("Bad Gateway").0, "unknown error");
    }
}
