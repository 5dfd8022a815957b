//! The emulator's own scripts, and calls to it as the account's root, which only the sandbox's set-up makes.
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// The scripts beside `launch.py`; they must lie in one folder.
const SCRIPTS: [(&str, &str); 10] = [
    ("launch.py", include_str!("../../emulator/launch.py")),
    ("authorization.py", include_str!("../../emulator/authorization.py")),
    ("backends.py", include_str!("../../emulator/backends.py")),
    ("durability.py", include_str!("../../emulator/durability.py")),
    ("ec2_answers.py", include_str!("../../emulator/ec2_answers.py")),
    ("iam_answers.py", include_str!("../../emulator/iam_answers.py")),
    ("certificates.py", include_str!("../../emulator/certificates.py")),
    ("load_balancers.py", include_str!("../../emulator/load_balancers.py")),
    ("object_copies.py", include_str!("../../emulator/object_copies.py")),
    ("registry.py", include_str!("../../emulator/registry.py")),
];

/// Writes the emulator's scripts into `folder` and returns the one to start with ministack's python.
pub fn write_scripts(folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("the folder {}", folder.display()))?;
    for (name, text) in SCRIPTS {
        std::fs::write(folder.join(name), text).with_context(|| format!("the emulator's script {name}"))?;
    }
    Ok(folder.join("launch.py"))
}

/// The environment that `launch.py` needs.
pub fn environment(state: &Path, listen: std::net::SocketAddr, backends: &str, load_balancers: &Path) -> Vec<(String, String)> {
    vec![
        ("STATE_DIR".into(), state.join("emulator").display().to_string()),
        ("BIND_HOST".into(), listen.ip().to_string()),
        ("GATEWAY_PORT".into(), listen.port().to_string()),
        ("BACKENDS".into(), backends.to_owned()),
        ("LOAD_BALANCERS".into(), load_balancers.display().to_string()),
        ("MINISTACK_ACCOUNT_ID".into(), crate::layout::ACCOUNT.to_owned()),
        ("PYTHONDONTWRITEBYTECODE".into(), "1".into()),
    ]
}

/// Calls of the account's root, straight to the emulator.
#[derive(Clone)]
pub struct Root {
    emulator: String,
    client: reqwest::Client,
}

/// The emulator accepts its root key unsigned, so nothing has to be signed here; the front door refuses that key.
fn credential(region: &str, service: &str) -> String {
    format!("AWS4-HMAC-SHA256 Credential=test/20260101/{region}/{service}/aws4_request, SignedHeaders=host, Signature=root")
}

impl Root {
    /// `emulator` is `host:port`.
    pub fn new(emulator: &str) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).no_proxy().build().context("an HTTP client")?;
        Ok(Self { emulator: emulator.to_owned(), client })
    }

    /// `host:port`
    pub fn emulator(&self) -> &str {
        &self.emulator
    }

    /// A call of a query-protocol service (EC2, IAM); the answer is XML.
    pub async fn query(&self, service: &str, region: &str, version: &str, form: &[(&str, &str)]) -> Result<String> {
        let mut form: Vec<(String, String)> = form.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        form.push(("Version".to_owned(), version.to_owned()));
        let (status, text) = self.post(service, region, &form, &[]).await?;
        if !status.is_success() {
            bail!("{service} answered {status}: {text}");
        }
        Ok(text)
    }

    /// Sends a form, with headers that only the sandbox's own processes can send: the front door takes them away from all others.
    pub(super) async fn post(
        &self,
        service: &str,
        region: &str,
        form: &[(String, String)],
        headers: &[(&str, &str)],
    ) -> Result<(reqwest::StatusCode, String)> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self
            .client
            .post(format!("http://{}/", self.emulator))
            .header("authorization", credential(region, service))
            .header("content-type", "application/x-www-form-urlencoded");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.body(body).send().await.with_context(|| format!("the emulator's {service} does not answer"))?;
        let status = answer.status();
        let text = answer.text().await.with_context(|| format!("the emulator's answer for {service}"))?;
        Ok((status, text))
    }

    /// The ARN that an access key id belongs to, if any.
    pub async fn principal(&self, access_key_id: &str) -> Result<Option<String>> {
        let answer = self
            .client
            .post(format!("http://{}/_sandbox/principal", self.emulator))
            .json(&serde_json::json!({ "access_key_id": access_key_id }))
            .send()
            .await
            .context("the emulator does not answer")?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let found: serde_json::Value = answer.json().await.context("the emulator's answer about a principal")?;
        Ok(found["userArn"].as_str().map(str::to_owned))
    }
}

/// The text of the first element called `name`; enough for ids in the emulator's small answers.
pub fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let start = xml.find(&format!("<{name}>"))? + name.len() + 2;
    let end = xml[start..].find(&format!("</{name}>"))? + start;
    Some(&xml[start..end])
}
