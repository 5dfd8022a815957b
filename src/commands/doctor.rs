//! `deployctl doctor`: whether everything is there that an apply needs; one line each, with the fix. Changes nothing.
use std::{ffi::OsStr, path::Path, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{capacity, certificates, permissions, session};
use crate::{
    aws::Aws,
    cli::Globals,
    failure::{Failure, exit},
    plan::{environment::Environment, read},
    steps::state_backend::Names,
    tools::{helm, process, terraform},
    ui::{Output, Ui},
};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is as it should be.
    Ok,
    /// Something works less well, or some way of working is closed.
    Warning,
    /// An apply would fail.
    Failed,
    /// It could not be found out.
    Unknown,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    pub(super) fn new(name: impl Into<String>, status: Status, detail: impl Into<String>) -> Self {
        Self { name: name.into(), status, detail: detail.into(), fix: None }
    }
    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
    /// A look that failed says nothing of the thing itself.
    pub(super) fn unknown(name: &str, failure: &Failure) -> Self {
        let check = Self::new(name, Status::Unknown, failure.chain().join(": "));
        match failure.next.first() {
            Some(next) => check.fix(next),
            None => check,
        }
    }
    /// Failed, with the failure's own next command as the fix.
    pub(super) fn failed(name: &str, failure: &Failure) -> Self {
        Self { status: Status::Failed, ..Self::unknown(name, failure) }
    }
}

/// `doctor`: one line a check, with the fix; preflight fails if any check does.
pub async fn show(globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let project = session::project(globals)?;
    let environment = read::environment(&project, &session::environment(globals, &project)?)?;
    let checks = run(&environment, &project).await;
    match ui.output {
        Output::Json => ui.json(&checks)?,
        Output::Human => checks.iter().try_for_each(|check| ui.data(&line(check)))?,
    }
    Ok(if checks.iter().any(|check| check.status == Status::Failed) { exit::PREFLIGHT } else { exit::DONE })
}

fn line(check: &Check) -> String {
    let mark = match check.status {
        Status::Ok => "ok     ",
        Status::Warning => "warning",
        Status::Failed => "FAILED ",
        Status::Unknown => "unknown",
    };
    let fix = check.fix.as_ref().map(|fix| format!("   fix: {fix}")).unwrap_or_default();
    format!("{mark}  {}: {}{fix}\n", check.name, check.detail)
}

/// Looks at everything. What cannot be looked at is Unknown, never left out.
pub async fn run(environment: &Environment, project: &Path) -> Vec<Check> {
    let (terraform, identity) = tokio::join!(terraform_version(), identity(environment));
    let mut checks = vec![terraform];
    checks.extend(optional_tools().await);
    if environment.cluster.public_access_cidrs.is_empty() {
        checks.push(tunnel_tools());
    }
    checks.push(endpoint().await);
    let (found, aws) = identity;
    checks.extend(found);
    let Some(aws) = aws else {
        let unknown = |name: &str| Check::new(name, Status::Unknown, "needs credentials").fix("put the credentials right first");
        checks.extend(["region", "DR region", "state bucket", "quotas", "permissions"].map(unknown));
        return checks;
    };
    let aws = Arc::new(aws);
    let elsewhere = aws.in_region(&environment.aws.dr_region);
    let (region, dr_region, bucket, capacity, certificates, permissions) = tokio::join!(
        region("region", &aws),
        region("DR region", &elsewhere),
        state_bucket(&aws, environment),
        capacity::checks(&aws, environment),
        certificates::checks(&aws, environment),
        permissions::checks(&aws, environment, project)
    );
    checks.extend([region, dr_region, bucket]);
    checks.extend(capacity);
    checks.extend(certificates);
    checks.extend(permissions);
    checks
}

async fn terraform_version() -> Check {
    match terraform::version().await {
        Ok(version) if terraform::is_new_enough(&version) => Check::new("terraform", Status::Ok, version),
        Ok(version) => Check::new("terraform", Status::Failed, format!("{version} is too old: 1.11 brought the S3 lock file"))
            .fix("install terraform 1.11 or newer"),
        Err(failure) => Check::failed("terraform", &failure),
    }
}

/// Only other builders than `native`, and charts, need these.
async fn optional_tools() -> Vec<Check> {
    let needed_for = [
        ("cargo", "building images natively"),
        ("buildah", "builder: buildah"),
        ("docker", "builder: docker"),
        ("helm", "steps of kind chart (where Go is, deployctl builds it)"),
    ];
    let look = needed_for.map(|(tool, what)| async move {
        let found = if tool == "helm" { helm::find() } else { process::find(OsStr::new(tool)) };
        match found {
            Some(path) => {
                let version =
                    process::version_of(&path.to_string_lossy()).await.unwrap_or_else(|| "it does not say its version".to_owned());
                Check::new(tool, Status::Ok, format!("{version} ({})", path.display()))
            }
            None => Check::new(tool, Status::Warning, format!("not installed; needed for {what}"))
                .fix(format!("install {tool}, or do without {what}")),
        }
    });
    futures::future::join_all(look).await
}

/// Whether a tunnel to a private endpoint can be opened from here; whoever works inside the VPC needs none.
fn tunnel_tools() -> Check {
    let missing: Vec<&str> =
        ["aws", "session-manager-plugin"].into_iter().filter(|tool| process::find(OsStr::new(tool)).is_none()).collect();
    match missing.as_slice() {
        [] => Check::new("tunnel", Status::Ok, "aws and session-manager-plugin are installed"),
        missing => Check::new(
            "tunnel",
            Status::Warning,
            format!("{} not installed; needed outside the VPC: the endpoint is private", missing.join(" and ")),
        )
        .fix("install the AWS CLI and its Session Manager plugin, or run deployctl inside the VPC"),
    }
}

/// Whether anything listens where AWS_ENDPOINT_URL points; AWS itself is reached by the calls that follow.
async fn endpoint() -> Check {
    let Some(text) = std::env::var("AWS_ENDPOINT_URL").ok().filter(|url| !url.is_empty()) else {
        return Check::new("endpoint", Status::Ok, "AWS' own");
    };
    let address = url::Url::parse(&text).ok().and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)));
    let Some((host, port)) = address else {
        return Check::new("endpoint", Status::Failed, format!("AWS_ENDPOINT_URL is {text:?}, which is no URL"))
            .fix("unset AWS_ENDPOINT_URL");
    };
    let connect = tokio::time::timeout(Duration::from_secs(3), tokio::net::TcpStream::connect((host.as_str(), port))).await;
    match connect {
        Ok(Ok(_)) => Check::new("endpoint", Status::Ok, text),
        Ok(Err(e)) => Check::new("endpoint", Status::Failed, format!("{text}: {e}")).fix("deployctl sandbox up, or unset AWS_ENDPOINT_URL"),
        Err(_) => Check::new("endpoint", Status::Failed, format!("{text} does not answer in 3 s"))
            .fix("deployctl sandbox up, or unset AWS_ENDPOINT_URL"),
    }
}

async fn identity(environment: &Environment) -> (Vec<Check>, Option<Aws>) {
    let role = environment.aws.deployer_role_arn.as_ref();
    match Aws::connect(&environment.aws.region, role, &environment.aws.account_id).await {
        Ok(aws) => {
            let mut found =
                vec![Check::new("credentials", Status::Ok, aws.principal()), Check::new("account", Status::Ok, aws.account().as_str())];
            found.push(match role {
                Some(role) => Check::new("role", Status::Ok, format!("{role} can be assumed")),
                None => Check::new("role", Status::Warning, "no deployer role: deployctl acts as the caller")
                    .fix("set aws.deployer_role_arn in the environment file, with the policy terraform/policies/deployer.json"),
            });
            (found, Some(aws))
        }
        Err(failure) => (vec![Check::failed("credentials", &failure)], None),
    }
}

async fn region(name: &str, aws: &Aws) -> Check {
    match aws.answers().await {
        Ok(()) => Check::new(name, Status::Ok, aws.region().as_str()),
        Err(failure) => Check::failed(name, &failure),
    }
}

async fn state_bucket(aws: &Aws, environment: &Environment) -> Check {
    let look = async {
        let bucket = Names::of(environment)?.bucket;
        let settings = if aws.bucket_exists(&bucket).await? { Some(aws.bucket_settings(&bucket).await?) } else { None };
        Ok::<_, Failure>((bucket, settings))
    };
    match look.await {
        Ok((bucket, None)) => Check::new("state bucket", Status::Ok, format!("{bucket} is not there yet; the first apply makes it")),
        Ok((bucket, Some(settings))) if settings.versioned && settings.public_access_blocked && settings.encryption.is_some() => {
            Check::new("state bucket", Status::Ok, bucket.as_str())
        }
        Ok((bucket, Some(_))) => Check::new("state bucket", Status::Warning, format!("{bucket} is not versioned, encrypted and closed"))
            .fix("deployctl apply puts it right in the step `backend`"),
        Err(failure) => Check::failed("state bucket", &failure),
    }
}
