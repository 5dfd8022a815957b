//! Who may do what in the sandbox: made by its set-up with the root key, which nobody else can use.
use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::{Context, Result, bail};
use aws_sdk_iam::{Client, config::Credentials, error::ProvideErrorMetadata};
use serde::{Deserialize, Serialize};

use crate::layout::{ACCOUNT, DR_REGION, Layout, REGION};

/// The role that deployctl works under.
pub const DEPLOYER_ROLE: &str = "deployctl-deployer";
/// The person who types commands.
pub const PERSON: &str = "person";

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
    /// Fills in `terraform/policies/deployer.json`, and `recovery.json` for what it may do in the DR region, with `warm.json` where the environment file
    /// wants a warm standby, as terraform/bootstrap puts them together; `None` while the project has none, and then the role may do nothing.
    pub fn of(project: &Path, prefix: &str) -> Result<Option<Self>> {
        let environment = prefix.trim_start_matches("deployctl-");
        let values =
            [("account_id", ACCOUNT), ("region", REGION), ("dr_region", DR_REGION), ("prefix", prefix), ("environment", environment)];
        let mut statements = Vec::new();
        let warm = wants_warm_standby(project, environment).then_some("warm.json");
        for name in ["deployer.json", "recovery.json"].into_iter().chain(warm) {
            let file = project.join("terraform/policies").join(name);
            let text = match fs::read_to_string(&file) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| format!("the policy {}", file.display())),
            };
            let filled = values.iter().fold(text, |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
            let document: serde_json::Value =
                serde_json::from_str(&filled).with_context(|| format!("{} is not JSON once filled in", file.display()))?;
            statements.extend(document["Statement"].as_array().with_context(|| format!("{} has no statements", file.display()))?.clone());
        }
        let document = serde_json::json!({ "Version": "2012-10-17", "Statement": statements });
        Ok((!statements.is_empty()).then(|| Self(document.to_string())))
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

/// Whether the environment file says `standby: warm`, in one of the forms in which it can stand there.
fn wants_warm_standby(project: &Path, environment: &str) -> bool {
    let text = fs::read_to_string(project.join(format!("plans/environments/{environment}.yaml"))).unwrap_or_default();
    text.lines().filter_map(|line| line.split('#').next()).any(|line| line.contains("standby: warm"))
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
    for service in ["eks.amazonaws.com", "eks-nodegroup.amazonaws.com", "rds.amazonaws.com", "elasticloadbalancing.amazonaws.com"] {
        let made = client.create_service_linked_role().aws_service_name(service).send().await;
        accept(made, &["InvalidInput", "EntityAlreadyExists"]).with_context(|| format!("the service-linked role for {service}"))?;
    }
    Ok(key)
}

/// Statements in one managed policy, as terraform/bootstrap has it.
const STATEMENTS: usize = 8;

/// Gives the deployer role exactly this policy, in as many managed policies as terraform/bootstrap would make; without one it may do nothing.
pub async fn set_deployer_policy(emulator: &str, policy: Option<DeployerPolicy>) -> Result<()> {
    let client = root_client(emulator);
    let mut parts = Vec::new();
    if let Some(DeployerPolicy(text)) = &policy {
        let document: serde_json::Value = serde_json::from_str(text).context("the deployer policy")?;
        let statements = document["Statement"].as_array().context("the deployer policy has no statements")?;
        for part in statements.chunks(STATEMENTS) {
            parts.push(serde_json::json!({ "Version": document["Version"], "Statement": part }).to_string());
        }
    }
    let attached = client.list_attached_role_policies().role_name(DEPLOYER_ROLE).send().await.context("the deployer's policies")?;
    let attached: Vec<&str> = attached.attached_policies().iter().filter_map(|policy| policy.policy_arn()).collect();
    // Whoever repairs a sandbox takes nothing away from a deployctl that is at work in it.
    if documents(&client, &attached).await? == parts {
        return Ok(());
    }
    for arn in attached {
        client.detach_role_policy().role_name(DEPLOYER_ROLE).policy_arn(arn).send().await.with_context(|| format!("detaching {arn}"))?;
        client.delete_policy().policy_arn(arn).send().await.with_context(|| format!("deleting {arn}"))?;
    }
    for (number, part) in (1..).zip(parts) {
        // The emulator does not measure policies.
        if part.len() > 6_144 {
            bail!("part {number} of the deployer policy has {} characters; AWS takes 6144 in a managed policy", part.len());
        }
        let name = format!("{DEPLOYER_ROLE}-{number}");
        let made = client.create_policy().policy_name(&name).path("/deployctl/").policy_document(part).send().await;
        let made = made.with_context(|| format!("the policy {name}"))?;
        let arn = made.policy().and_then(|policy| policy.arn()).context("IAM answered without a policy")?;
        client.attach_role_policy().role_name(DEPLOYER_ROLE).policy_arn(arn).send().await.with_context(|| format!("attaching {name}"))?;
    }
    Ok(())
}

/// What these policies say.
async fn documents(client: &Client, arns: &[&str]) -> Result<Vec<String>> {
    let mut documents = Vec::new();
    for arn in arns {
        let policy = client.get_policy().policy_arn(*arn).send().await.with_context(|| format!("the policy {arn}"))?;
        let version = policy.policy().and_then(|policy| policy.default_version_id()).context("IAM answered without a version")?;
        let read =
            client.get_policy_version().policy_arn(*arn).version_id(version).send().await.with_context(|| format!("reading {arn}"))?;
        let encoded = read.policy_version().and_then(|version| version.document()).unwrap_or_default();
        // IAM sends policies URL-encoded.
        documents.push(url::form_urlencoded::parse(encoded.as_bytes()).next().map(|(text, _)| text.into_owned()).unwrap_or_default());
    }
    Ok(documents)
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
