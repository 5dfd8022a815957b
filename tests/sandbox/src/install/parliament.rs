//! parliament, which audits IAM policies, in a virtual environment of its own; tests run it.
use std::path::PathBuf;

use anyhow::Result;
use tokio::process::Command;

use super::cached::{Cache, key, step};

const REQUIREMENTS: &str = include_str!("../../policies/requirements.txt");

/// The Python that has it.
pub async fn install(cache: &Cache) -> Result<PathBuf> {
    let made = cache.get("parliament", key([REQUIREMENTS.as_bytes()]), async |folder: PathBuf| {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv", "--copies"]).arg(&folder);
        step("making a virtual environment for parliament", venv).await?;
        let list = folder.join("requirements.txt");
        std::fs::write(&list, REQUIREMENTS)?;
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--requirement"]).arg(&list);
        step("installing parliament", pip).await?;
        Ok(())
    });
    Ok(made.await?.join("bin/python"))
}
