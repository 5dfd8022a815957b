//! Who may do what in the sandbox: made by its set-up with the root key, which nobody else can use.
use std::{io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::{Context, Result, bail};
use aws_sdk_iam::{Client, config::Credentials, error::ProvideErrorMetadata};
use serde::{Deserialize, Serialize};

use crate::layout::{ACCOUNT, DR_REGION, Layout, REGION};

/// The role that deployctl works under.
pub const DEPLOYER_ROLE: &str = "deployctl-deployer";
/// The person who types commands.
pub const PERSON: &str = "person";
const POLICY: &str = "deployer";

/// The person's access key, as `state/person.json` keeps it for `sandbox env`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PersonKey {
    /// `AKIA…`
    pub access_key_id: String,
    /// Kept in a file that only root reads.
    pub secret_access_key: String,
}

/// The deployer policy as committed, with an environment's values filled in.
pub struct DeployerPolicy(String);

impl DeployerPolicy {
    /// Fills in `terraform/policies/deployer.json`; `None` while the project has none, and then the role may do nothing.
    pub fn of(project: &Path, prefix: &str) -> Result<Option<Self>> {
        Self::from(project, "deployer.json", prefix)
    }

    fn from(project: &Path, name: &str, prefix: &str) -> Result<Option<Self>> {
        let file = project.join("terraform/policies").join(name);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("the deployer policy {}", file.display())),
        };
        let values = [("account_id", ACCOUNT), ("region", REGION), ("dr_region", DR_REGION), ("prefix", prefix)];
        let filled = values.iter().fold(text, |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
        serde_json::from_str::<serde_json::Value>(&filled).with_context(|| format!("{} is not JSON once filled in", file.display()))?;
        Ok(Some(Self(filled)))
    }

    /// The same without one action, for the test that takes single actions out. A wildcard would still allow it: that is an error.
    pub fn without(&self, action: &str) -> Result<Self> {
        let mut document: serde_json::Value = serde_json::from_str(&self.0).context("the deployer policy")?;
        let mut taken = 0;
        for statement in document["Statement"].as_array_mut().context("the deployer policy has no statements")? {
            match &mut statement["Action"] {
                serde_json::Value::Array(actions) => {
                    let before = actions.len();
                    actions.retain(|known| known.as_str() != Some(action));
                    taken += before - actions.len();
                }
                serde_json::Value::String(only) if only == action => bail!("{action} is the only action of its statement"),
                _ => {}
            }
        }
        if taken == 0 {
            bail!("the deployer policy does not list {action}");
        }
        Ok(Self(document.to_string()))
    }
}

/// A client of the emulator's IAM with the root key.
pub fn root_client(emulator: &str) -> Client {
    let config = aws_sdk_iam::Config::builder()
        .behavior_version(aws_sdk_iam::config::BehaviorVersion::latest())
        .region(aws_sdk_iam::config::Region::new(REGION))
        .endpoint_url(format!("http://{emulator}"))
        .credentials_provider(Credentials::new("test", "test", None, None, "sandbox set-up"))
        .build();
    Client::from_conf(config)
}

/// Everything that IAM holds before anybody has done anything; safe to repeat, and puts the deployer policy again each time.
pub async fn set_up(layout: &Layout, emulator: &str, prefix: &str) -> Result<PersonKey> {
    let client = root_client(emulator);
    let key = person(&client, &layout.file("person.json")).await?;
    deployer_role(&client).await?;
    set_deployer_policy(emulator, DeployerPolicy::of(&layout.project, prefix)?).await?;
    recovery_policy(&client, DeployerPolicy::from(&layout.project, "recovery.json", prefix)?).await?;
    for service in ["eks.amazonaws.com", "eks-nodegroup.amazonaws.com", "rds.amazonaws.com", "elasticloadbalancing.amazonaws.com"] {
        let made = client.create_service_linked_role().aws_service_name(service).send().await;
        accept(made, &["InvalidInput", "EntityAlreadyExists"]).with_context(|| format!("the service-linked role for {service}"))?;
    }
    Ok(key)
}

/// Gives the deployer role exactly this policy; without one it may do nothing.
pub async fn set_deployer_policy(emulator: &str, policy: Option<DeployerPolicy>) -> Result<()> {
    let client = root_client(emulator);
    // The emulator, like AWS, refuses policies that are too long when they are inline: 10,240 characters without white space.
    match policy {
        Some(DeployerPolicy(text)) => {
            let compact = serde_json::from_str::<serde_json::Value>(&text).context("the deployer policy")?.to_string();
            if compact.len() > 10_240 {
                bail!("the deployer policy has {} characters; AWS takes 10240 in a role's inline policies", compact.len());
            }
            client
                .put_role_policy()
                .role_name(DEPLOYER_ROLE)
                .policy_name(POLICY)
                .policy_document(compact)
                .send()
                .await
                .context("the deployer policy")?;
        }
        None => {
            let removed = client.delete_role_policy().role_name(DEPLOYER_ROLE).policy_name(POLICY).send().await;
            accept(removed, &["NoSuchEntity"]).context("the deployer policy")?;
        }
    }
    Ok(())
}

/// What the deployer may do in the DR region, as a managed policy: beside the deployer's own there is no room for it inline.
async fn recovery_policy(client: &Client, policy: Option<DeployerPolicy>) -> Result<()> {
    let Some(DeployerPolicy(text)) = policy else { return Ok(()) };
    let compact = serde_json::from_str::<serde_json::Value>(&text).context("the recovery policy")?.to_string();
    if compact.len() > 6_144 {
        bail!("the recovery policy has {} characters; AWS takes 6144 in a managed policy", compact.len());
    }
    let (name, arn) = ("deployctl-recovery", format!("arn:aws:iam::{ACCOUNT}:policy/deployctl-recovery"));
    // Made anew each time: versions of managed policies are counted.
    let detached = client.detach_role_policy().role_name(DEPLOYER_ROLE).policy_arn(&arn).send().await;
    accept(detached, &["NoSuchEntity"]).context("the recovery policy")?;
    accept(client.delete_policy().policy_arn(&arn).send().await, &["NoSuchEntity"]).context("the recovery policy")?;
    client.create_policy().policy_name(name).policy_document(compact).send().await.context("the recovery policy")?;
    client.attach_role_policy().role_name(DEPLOYER_ROLE).policy_arn(&arn).send().await.context("the recovery policy")?;
    Ok(())
}

async fn person(client: &Client, file: &Path) -> Result<PersonKey> {
    accept(client.create_user().user_name(PERSON).send().await, &["EntityAlreadyExists"]).context("the user `person`")?;
    let all = serde_json::json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    client
        .put_user_policy()
        .user_name(PERSON)
        .policy_name("administrator")
        .policy_document(all.to_string())
        .send()
        .await
        .context("the person's policy")?;
    let listed = client.list_access_keys().user_name(PERSON).send().await.context("the person's keys")?;
    let known: Option<PersonKey> = std::fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if let Some(key) = known
        && listed.access_key_metadata().iter().any(|listed| listed.access_key_id() == Some(&key.access_key_id))
    {
        return Ok(key);
    }
    for stale in listed.access_key_metadata() {
        client
            .delete_access_key()
            .user_name(PERSON)
            .set_access_key_id(stale.access_key_id().map(str::to_owned))
            .send()
            .await
            .context("a stale key")?;
    }
    let made = client.create_access_key().user_name(PERSON).send().await.context("the person's key")?;
    let made = made.access_key().context("IAM answered without a key")?;
    let key = PersonKey { access_key_id: made.access_key_id().to_owned(), secret_access_key: made.secret_access_key().to_owned() };
    write_secret(file, &serde_json::to_vec(&key).context("the person's key")?)?;
    Ok(key)
}

async fn deployer_role(client: &Client) -> Result<()> {
    let trust = serde_json::json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:root")}, "Action": "sts:AssumeRole"}]});
    let made = client.create_role().role_name(DEPLOYER_ROLE).assume_role_policy_document(trust.to_string()).send().await;
    accept(made, &["EntityAlreadyExists"]).context("the deployer role")
}

/// Success, or a failure that says it had been done before.
fn accept<T, E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static>(outcome: Result<T, E>, harmless: &[&str]) -> Result<()> {
    match outcome {
        Ok(_) => Ok(()),
        Err(error) if error.code().is_some_and(|code| harmless.contains(&code)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A file that only its owner can read, replaced in one step.
fn write_secret(file: &Path, content: &[u8]) -> Result<()> {
    let fresh = file.with_extension("new");
    std::fs::remove_file(&fresh).or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
    let mut out =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).with_context(|| fresh.display().to_string())?;
    out.write_all(content)?;
    out.sync_all()?;
    std::fs::rename(&fresh, file).with_context(|| file.display().to_string())
}
