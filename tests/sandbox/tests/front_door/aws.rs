//! Signed requests to the front door, as an SDK sends them.
use std::{net::SocketAddr, time::SystemTime};

use aws_sdk_sts::config::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};

/// Who signs.
#[derive(Clone)]
pub struct Key {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

pub struct Call<'a> {
    pub region: &'a str,
    pub service: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub headers: Vec<(&'a str, &'a str)>,
    pub body: String,
}

const HOME: &str = "us-east-1";

impl<'a> Call<'a> {
    pub fn rest(service: &'a str, method: &'a str, path: &'a str, body: &str) -> Self {
        Self { region: HOME, service, method, path, headers: vec![("content-type", "application/json")], body: body.to_owned() }
    }
    pub fn query(service: &'a str, form: &str) -> Self {
        Self {
            region: HOME,
            service,
            method: "POST",
            path: "/",
            headers: vec![("content-type", "application/x-www-form-urlencoded")],
            body: form.to_owned(),
        }
    }
    pub fn target(service: &'a str, target: &'a str, body: &str) -> Self {
        let headers = vec![("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        Self { region: HOME, service, method: "POST", path: "/", headers, body: body.to_owned() }
    }
    pub fn in_region(self, region: &'a str) -> Self {
        Self { region, ..self }
    }

    pub async fn send(&self, door: SocketAddr, key: &Key) -> Answer {
        let url = format!("http://{door}{}", self.path);
        let identity = Credentials::new(&key.id, &key.secret, key.token.clone(), None, "test").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let host = door.to_string();
        let mut headers = self.headers.clone();
        headers.push(("host", &host));
        let signable = SignableRequest::new(self.method, &url, headers.iter().copied(), SignableBody::Bytes(self.body.as_bytes())).unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        let mut request = client().request(self.method.parse().unwrap(), &url).body(self.body.clone());
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        for (name, value) in instructions.headers() {
            request = request.header(name, value);
        }
        answer(request).await
    }
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

/// The text of the first element of that name.
pub fn element(xml: &str, name: &str) -> String {
    deployctl_sandbox::door::emulator::element(xml, name).unwrap_or_else(|| panic!("no {name} in {xml}")).to_owned()
}

/// A session of the deployer role.
pub async fn deployer(door: SocketAddr, person: &Key) -> Key {
    session(door, person, "deployctl-deployer").await
}

/// A session of a role.
pub async fn session(door: SocketAddr, person: &Key, role: &str) -> Key {
    let form = format!("Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::111122223333:role/{role}&RoleSessionName=test");
    let text = Call::query("sts", &form).send(door, person).await.text;
    Key { id: element(&text, "AccessKeyId"), secret: element(&text, "SecretAccessKey"), token: Some(element(&text, "SessionToken")) }
}
