//! The offline provider, built from the checkout and laid out as the filesystem mirror that terraform reads.
use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    cached::{Cache, key, step},
    go::go,
};

/// The providers that one binary stands in for, with the versions that the stacks pin.
const PROVIDERS: [(&str, &str); 5] = [("aws", "6.62.0"), ("tls", "4.1.0"), ("time", "0.13.0"), ("null", "3.2.4"), ("cloudinit", "2.3.7")];

/// The mirror; none while the checkout has no provider.
pub async fn install(cache: &Cache, project: &Path) -> Result<Option<PathBuf>> {
    let source = project.join("tests/sandbox/provider");
    if !source.join("go.mod").is_file() {
        return Ok(None);
    }
    let mut files = Vec::new();
    list(&source, &mut files)?;
    files.sort();
    let mut parts = Vec::new();
    for file in &files {
        parts.push(file.strip_prefix(&source)?.as_os_str().as_encoded_bytes().to_vec());
        parts.push(fs::read(file).with_context(|| format!("reading {}", file.display()))?);
    }
    let made = cache.get("provider", key(parts.iter().map(Vec::as_slice)), async |folder: PathBuf| {
        let built = folder.join("terraform-provider");
        let mut go = go(&source, "build");
        go.args(["-mod=readonly", "-ldflags", "-s -w", "-o"]).arg(&built).arg(".");
        step("building the offline provider", go).await?;
        for (name, version) in PROVIDERS {
            let place = folder.join("registry.terraform.io/hashicorp").join(name).join(version).join("linux_amd64");
            fs::create_dir_all(&place)?;
            fs::hard_link(&built, place.join(format!("terraform-provider-{name}_v{version}")))?;
        }
        fs::remove_file(&built)?;
        Ok(())
    });
    made.await.map(Some)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
