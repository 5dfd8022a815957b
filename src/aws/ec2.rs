//! EC2: subnets and their tags. One call of the query protocol, signed here: the whole SDK crate would cost minutes of build for it.
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use serde::Deserialize;

use super::{Aws, error};
use crate::failure::{Failure, FailureKind};

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// As in `subnet-0123`.
    pub id: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    subnet_set: Items<SubnetItem>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
struct Items<T> {
    #[serde(default = "Vec::new")]
    item: Vec<T>,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self { item: Vec::new() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubnetItem {
    subnet_id: String,
    #[serde(default)]
    tag_set: Items<TagItem>,
}

#[derive(Deserialize)]
struct TagItem {
    key: String,
    #[serde(default)]
    value: String,
}

impl Aws {
    /// Subnets by id; an unknown id is an error of EC2's own.
    pub async fn subnets(&self, ids: &[String]) -> Result<Vec<Subnet>, Failure> {
        self.describe_subnets(ids.iter().enumerate().map(|(i, id)| (format!("SubnetId.{}", i + 1), id.clone())).collect()).await
    }

    /// Subnets that carry a tag.
    pub async fn subnets_tagged(&self, key: &str, value: &str) -> Result<Vec<Subnet>, Failure> {
        self.describe_subnets(vec![("Filter.1.Name".into(), format!("tag:{key}")), ("Filter.1.Value.1".into(), value.into())]).await
    }

    async fn describe_subnets(&self, arguments: Vec<(String, String)>) -> Result<Vec<Subnet>, Failure> {
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let answer: Answer = self.ec2_query("ec2:DescribeSubnets", form("DescribeSubnets", &arguments, token.as_deref())).await?;
            found.extend(
                answer.subnet_set.item.into_iter().map(|item| Subnet {
                    id: item.subnet_id,
                    tags: item.tag_set.item.into_iter().map(|tag| (tag.key, tag.value)).collect(),
                }),
            );
            token = answer.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    async fn ec2_query<T: serde::de::DeserializeOwned>(&self, action: &'static str, body: String) -> Result<T, Failure> {
        let url = self.endpoint_url_of("ec2").unwrap_or_else(|| format!("https://ec2.{}.amazonaws.com", self.region()));
        let url = format!("{}/", url.trim_end_matches('/'));
        let broken = |e: Box<dyn std::error::Error + Send + Sync>| Failure::step(format!("{action} could not be asked")).because(e);
        let client = reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).timeout(Duration::from_secs(30)).build();
        let client = client.map_err(|e| broken(e.into()))?;
        let mut pause = Duration::from_millis(200);
        // Reading is safe to repeat: throttling and passing faults get four more attempts.
        for attempt in 1.. {
            let headers = self.signed_form(&url, &body).await.map_err(broken)?;
            let request = headers.into_iter().fold(client.post(&url), |request, (name, value)| request.header(name, value));
            let answer = request.body(body.clone()).send().await;
            let passing =
                answer.as_ref().map_or_else(|e| e.is_connect() || e.is_timeout(), |a| a.status().is_server_error() || a.status() == 429);
            if passing && attempt < 5 {
                tokio::time::sleep(pause).await;
                pause *= 2;
                continue;
            }
            let answer =
                answer.map_err(|e| Failure::new(FailureKind::Preflight, format!("{action}: {url} cannot be reached")).because(e))?;
            let status = answer.status();
            let text = answer.text().await.map_err(|e| broken(e.into()))?;
            if status.is_success() {
                return quick_xml::de::from_str(&text).map_err(|e| broken(e.into()));
            }
            let said = between(&text, "<Message>", "</Message>").unwrap_or("no message");
            let code = between(&text, "<Code>", "</Code>").unwrap_or("unknown error");
            let failure =
                Failure::step(format!("{} may not do {action}, or it failed in {}: {code}: {said}", self.principal(), self.region()));
            return Err(if status == 403 || code == "UnauthorizedOperation" {
                failure.next(format!("add to its policy: {{\"Effect\":\"Allow\",\"Action\":\"{action}\",\"Resource\":\"*\"}}"))
            } else {
                failure
            });
        }
        Err(Failure::timeout(action, Duration::from_secs(30)))
    }

    async fn signed_form(&self, url: &str, body: &str) -> Result<Vec<(String, String)>, Box<dyn std::error::Error + Send + Sync>> {
        let provider = self.config.credentials_provider().ok_or_else(error::no_credentials)?;
        let identity = provider.provide_credentials().await?.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region().as_str())
            .name("ec2")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let form = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        let request = SignableRequest::new("POST", url, [form].into_iter(), SignableBody::Bytes(body.as_bytes()))?;
        let (instructions, _signature) = sign(request, &params)?.into_parts();
        let mut headers: Vec<(String, String)> = instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        headers.push((form.0.to_owned(), form.1.to_owned()));
        Ok(headers)
    }
}

fn form(action: &str, arguments: &[(String, String)], token: Option<&str>) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", action).append_pair("Version", "2016-11-15").extend_pairs(arguments);
    if let Some(token) = token {
        form.append_pair("NextToken", token);
    }
    form.finish()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(inner, _)| inner)
}
