//! The account's other services as the emulator serves them, called with its root key.
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use aws_credential_types::Credentials as Keys;
use aws_sdk_secretsmanager::{
    Client,
    config::{BehaviorVersion, Region as AwsRegion},
    error::SdkError,
    operation::create_secret::CreateSecretError,
    types::Tag,
};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use futures::future::BoxFuture;
use quick_xml::{Reader, events::Event as Xml};

use super::{ids::Region, model::Subnet, platform::Platform};
use crate::layout::Layout;

const DEADLINE: Duration = Duration::from_secs(20);

/// The emulator.
#[derive(Debug, Clone)]
pub struct Emulator {
    endpoint: String,
    http: reqwest::Client,
}

impl Emulator {
    /// The sandbox's own, on loopback.
    pub fn new() -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build()?;
        Ok(Self { endpoint: format!("http://{}", Layout::EMULATOR), http })
    }

    fn secrets(&self, region: &Region) -> Client {
        let config = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint)
            .credentials_provider(root())
            .region(AwsRegion::new(region.as_str().to_owned()))
            .build();
        Client::from_conf(config)
    }

    /// One signed POST, for the services whose SDK would be needed for a single call.
    async fn post(&self, service: &str, region: &Region, headers: &[(&str, &str)], body: String) -> Result<(bool, String)> {
        let identity = root().into();
        let host = format!("{service}.{region}.amazonaws.com");
        let mut signed: Vec<(&str, &str)> = headers.to_vec();
        signed.push(("host", &host));
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(region.as_str())
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let request = SignableRequest::new("POST", "/", signed.iter().copied(), SignableBody::Bytes(body.as_bytes()))?;
        let (instructions, _) = sign(request, &parameters)?.into_parts();
        let mut call = self.http.post(format!("{}/", self.endpoint));
        for (name, value) in signed.into_iter().chain(instructions.headers()) {
            call = call.header(name, value);
        }
        let answer = call.body(body).send().await.with_context(|| format!("asking {service} in {region}"))?;
        Ok((answer.status().is_success(), answer.text().await?))
    }
}

fn root() -> Keys {
    Keys::new("test", "test", None, None, "sandbox set-up")
}

impl Platform for Emulator {
    fn create_secret<'a>(
        &'a self,
        region: &'a Region,
        name: &'a str,
        text: String,
        kms_key: Option<&'a str>,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move {
            let client = self.secrets(region);
            let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
            let made = client
                .create_secret()
                .name(name)
                .description(format!("The secret associated with the primary RDS DB instance: {owner}"))
                .secret_string(text.clone())
                .set_kms_key_id(kms_key.map(str::to_owned))
                .tags(tag("aws:secretsmanager:owningService", "rds"))
                .tags(tag("aws:rds:primaryDBInstanceArn", owner))
                .send()
                .await;
            match made {
                Ok(made) => made.arn.context("Secrets Manager answered without an ARN"),
                Err(SdkError::ServiceError(error)) if matches!(error.err(), CreateSecretError::ResourceExistsException(_)) => {
                    let put = client.put_secret_value().secret_id(name).secret_string(text).send().await?;
                    put.arn.context("Secrets Manager answered without an ARN")
                }
                Err(error) => Err(error).with_context(|| format!("creating the secret {name}")),
            }
        })
    }

    fn put_secret<'a>(&'a self, region: &'a Region, arn: &'a str, text: String) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.secrets(region).put_secret_value().secret_id(arn).secret_string(text).send().await?;
            Ok(())
        })
    }

    fn delete_secret<'a>(&'a self, region: &'a Region, arn: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let deleted = self.secrets(region).delete_secret().secret_id(arn).force_delete_without_recovery(true).send().await;
            match deleted {
                Err(SdkError::ServiceError(error)) if error.err().is_resource_not_found_exception() => Ok(()),
                other => other.map(|_| ()).with_context(|| format!("deleting the secret {arn}")),
            }
        })
    }

    fn key_arn<'a>(&'a self, region: &'a Region, key: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(async move {
            let body = serde_json::json!({ "KeyId": key }).to_string();
            let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "TrentService.DescribeKey")];
            let (found, answer) = self.post("kms", region, &headers, body).await?;
            if !found {
                return Ok(None);
            }
            let answer: serde_json::Value = serde_json::from_str(&answer).context("reading KMS' answer")?;
            let about = &answer["KeyMetadata"];
            // The emulator may know keys of every region; a key serves its own region only.
            let arn = about["Arn"].as_str().filter(|arn| arn.starts_with(&format!("arn:aws:kms:{region}:")));
            Ok(arn.filter(|_| about["KeyState"].as_str() == Some("Enabled")).map(str::to_owned))
        })
    }

    fn subnets<'a>(&'a self, region: &'a Region, ids: &'a [String]) -> BoxFuture<'a, Result<Vec<Subnet>>> {
        Box::pin(async move {
            let form = subnets_form(ids);
            let headers = [("content-type", "application/x-www-form-urlencoded")];
            let (found, answer) = self.post("ec2", region, &headers, form).await?;
            if found {
                return read_subnets(&answer);
            }
            if answer.contains("InvalidSubnetID") {
                return Ok(Vec::new());
            }
            bail!("EC2 refused DescribeSubnets: {answer}");
        })
    }
}

fn subnets_form(ids: &[String]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", "DescribeSubnets").append_pair("Version", "2016-11-15");
    for (index, id) in ids.iter().enumerate() {
        form.append_pair(&format!("SubnetId.{}", index + 1), id);
    }
    form.finish()
}

/// Reads `subnetSet/item/{subnetId,availabilityZone,vpcId}`.
fn read_subnets(document: &str) -> Result<Vec<Subnet>> {
    let mut reader = Reader::from_str(document);
    let (mut found, mut path) = (Vec::<Subnet>::new(), Vec::<String>::new());
    loop {
        match reader.read_event()? {
            Xml::Start(start) => {
                path.push(start.local_name().as_ref().to_owned());
                if path.ends_with(&["subnetSet".to_owned(), "item".to_owned()]) {
                    found.push(Subnet { id: String::new(), zone: String::new(), vpc: String::new() });
                }
            }
            Xml::End(_) => {
                path.pop();
            }
            Xml::Text(text) => {
                let [.., set, item, field] = path.as_slice() else { continue };
                let Some(subnet) = found.last_mut().filter(|_| set == "subnetSet" && item == "item") else { continue };
                let text = text.into_inner().into_owned();
                match field.as_str() {
                    "subnetId" => subnet.id = text,
                    "availabilityZone" => subnet.zone = text,
                    "vpcId" => subnet.vpc = text,
                    _ => {}
                }
            }
            Xml::Eof => return Ok(found),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_read_and_tags_inside_are_not_taken_for_subnets() {
        let document = "<DescribeSubnetsResponse><subnetSet><item><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId>\
                        <tagSet><item><key>a</key><value>b</value></item></tagSet>\
                        <availabilityZone>us-east-1a</availabilityZone></item></subnetSet></DescribeSubnetsResponse>";
        let expected = Subnet { id: "subnet-1".into(), zone: "us-east-1a".into(), vpc: "vpc-1".into() };
        assert_eq!(read_subnets(document).unwrap(), [expected]);
    }
}
