//! `env` and `exec`: the ways in for a person.
use std::{fs, os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Deserialize;

use crate::{
    claim,
    cli::ExecArgs,
    install::Installed,
    layout::{Layout, REGION},
    network, region, report,
};

/// The access key of the person, written by the set-up.
#[derive(Deserialize)]
pub struct PersonKey {
    /// Its id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
}

impl PersonKey {
    /// Reads it.
    pub fn read(layout: &Layout) -> Result<Self> {
        let file = layout.file("person.json");
        let bytes =
            fs::read(&file).with_context(|| format!("{} is missing; next: deployctl-sandbox up --name {}", file.display(), layout.name))?;
        serde_json::from_slice(&bytes).with_context(|| format!("reading {}", file.display()))
    }
}

/// The variables with which aws, kubectl, terraform and deployctl reach the sandbox.
pub fn variables(layout: &Layout) -> Result<Vec<(&'static str, String)>> {
    let key = PersonKey::read(layout)?;
    let shown = |path: PathBuf| path.display().to_string();
    let mut all = vec![
        ("AWS_ENDPOINT_URL", layout.endpoint_url()),
        ("AWS_ACCESS_KEY_ID", key.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", key.secret_access_key),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ("KUBECONFIG", shown(layout.file("person.kubeconfig"))),
        ("TF_CLI_CONFIG_FILE", shown(layout.file("terraform.rc"))),
        ("DEPLOYCTL_SANDBOX", layout.name.clone()),
        ("DEPLOYCTL_DATABASE_CA_BUNDLE", shown(layout.database_ca())),
    ];
    all.push(("PATH", first_on(&std::env::var("PATH").unwrap_or_default(), &Installed::read(layout)?.commands(layout))?));
    Ok(all)
}

/// A PATH with these folders first, and each of them once: shells evaluate `env` again and again.
fn first_on(path: &str, folders: &[PathBuf]) -> Result<String> {
    let rest = std::env::split_paths(path).filter(|folder| !path.is_empty() && !folders.contains(folder));
    let joined = std::env::join_paths(folders.iter().cloned().chain(rest)).context("putting kubectl and terraform on PATH")?;
    joined.into_string().map_err(|joined| anyhow!("PATH is no text: {}", joined.display()))
}

/// Prints them for a shell.
pub fn env(name: &str) -> Result<()> {
    let layout = claim::existing(name)?;
    for (variable, value) in variables(&layout)? {
        report::data(&format!("export {variable}='{}'", value.replace('\'', r"'\''")))?;
    }
    Ok(())
}

/// Becomes the command, inside the sandbox's network.
pub async fn exec(name: &str, given: &ExecArgs) -> Result<()> {
    let layout = claim::existing(name)?;
    let (program, args) = given.command.split_first().context("no command given")?;
    let mut inside = Command::new("nsenter");
    inside.arg(format!("--net={}", network::namespace_path(&layout).display())).arg("--");
    if program == "psql" {
        let database = Database::find(&layout, given.database.as_deref())?;
        let secret = database.secret.as_ref().context("this database's password is not managed: give PGPASSWORD yourself")?;
        inside.env("PGPASSWORD", master_password(&layout, &secret.arn).await?);
        inside.env("PGHOST", database.host()).env("PGHOSTADDR", &database.address).env("PGPORT", database.port.to_string());
        inside.env("PGUSER", &database.master_username).env("PGDATABASE", database.db_name.as_deref().unwrap_or("postgres"));
        inside.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", layout.database_ca());
    }
    let error = inside.arg(program).args(args).exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}

/// What RDS notes about an instance, as far as psql needs it.
#[derive(Deserialize)]
struct Database {
    id: String,
    region: String,
    address: String,
    port: u16,
    master_username: String,
    db_name: Option<String>,
    secret: Option<Secret>,
}

#[derive(Deserialize)]
struct Secret {
    arn: String,
}

impl Database {
    /// The one of that name, else the first one of the primary region, else of any; a region that is down has none.
    fn find(layout: &Layout, id: Option<&str>) -> Result<Self> {
        let mut files = Vec::new();
        for region in [REGION, crate::layout::DR_REGION].into_iter().filter(|region| !region::is_down(&layout.state, region)) {
            let folder = layout.file("rds").join(region).join("instances");
            if let Ok(entries) = fs::read_dir(&folder) {
                let mut here: Vec<PathBuf> =
                    entries.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
                here.retain(|path| id.is_none_or(|id| path.file_stem().is_some_and(|stem| stem == id)));
                here.sort();
                files.extend(here);
            }
        }
        let Some(file) = files.first() else { bail!("there is no database yet; next: deployctl apply -e sandbox") };
        serde_json::from_slice(&fs::read(file)?).with_context(|| format!("reading {}", file.display()))
    }

    fn host(&self) -> String {
        format!("{}.sandbox.{}.rds.amazonaws.com", self.id, self.region)
    }
}

/// From Secrets Manager, as any client gets it.
async fn master_password(layout: &Layout, arn: &str) -> Result<String> {
    let key = PersonKey::read(layout)?;
    let credentials = aws_credential_types::Credentials::new(key.access_key_id, key.secret_access_key, None, None, "sandbox");
    let region = arn.split(':').nth(3).unwrap_or(REGION).to_owned();
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new(region))
        .credentials_provider(credentials)
        .endpoint_url(layout.endpoint_url())
        .load()
        .await;
    let answer = aws_sdk_secretsmanager::Client::new(&config)
        .get_secret_value()
        .secret_id(arn)
        .send()
        .await
        .context("reading the master password")?;
    let text = answer.secret_string().context("the master password's secret is empty")?;
    let fields: serde_json::Value = serde_json::from_str(text).context("the master password's secret is not JSON")?;
    fields["password"].as_str().map(str::to_owned).context("the secret has no password")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_first_and_once() {
        let folders = ["/kube/bin", "/terraform"].map(PathBuf::from);
        let once = first_on("/usr/bin:/terraform:/bin", &folders).unwrap();
        assert_eq!(once, "/kube/bin:/terraform:/usr/bin:/bin");
        assert_eq!(first_on(&once, &folders).unwrap(), once);
        assert_eq!(first_on("", &folders).unwrap(), "/kube/bin:/terraform");
    }
}
