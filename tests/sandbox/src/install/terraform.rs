//! terraform in the version that the stacks are tested with.
use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use tokio::process::Command;

use super::{
    cached::{Cache, step},
    go::go,
};
use crate::tool;

const VERSION: &str = "1.11.4";

/// The one on PATH if it is the right one, else one built from its Go module.
pub async fn install(cache: &Cache) -> Result<PathBuf> {
    if let Some(found) = tool::find("terraform") {
        let mut command = Command::new(&found);
        command.arg("version").env("CHECKPOINT_DISABLE", "1").env_remove("TF_CLI_CONFIG_FILE");
        let says = tool::output_of(command, Duration::from_secs(30)).await.unwrap_or_default();
        if says.lines().next() == Some(&format!("Terraform v{VERSION}")) {
            return Ok(found);
        }
    }
    let made = cache.get("terraform", VERSION.into(), async |folder: PathBuf| {
        let mut go = go(&folder, "install");
        go.arg("-ldflags=-s -w -X github.com/hashicorp/terraform/version.dev=no").arg(format!("github.com/hashicorp/terraform@v{VERSION}"));
        go.env("GOBIN", &folder);
        step("building terraform from its Go module", go).await?;
        Ok(())
    });
    Ok(made.await?.join("terraform"))
}
