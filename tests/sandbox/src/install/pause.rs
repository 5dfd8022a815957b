//! The pause image: a few lines of C, packed as an image tarball.
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use super::cached::{Cache, key, step};

const SOURCE: &str = include_str!("../../pause/pause.c");
/// Its name in containerd.
pub const NAME: &str = "localhost/pause:1";

/// The tarball.
pub async fn install(cache: &Cache) -> Result<PathBuf> {
    let made = cache.get("pause", key([SOURCE.as_bytes(), NAME.as_bytes()]), async |folder: PathBuf| {
        let work = tempfile::tempdir()?;
        let (source, program) = (work.path().join("pause.c"), work.path().join("pause"));
        std::fs::write(&source, SOURCE)?;
        let mut cc = Command::new("cc");
        cc.args(["-static", "-Os", "-s", "-o"]).arg(&program).arg(&source);
        step("compiling the pause program", cc).await?;
        pack(&std::fs::read(&program)?, &folder.join("pause.tar"))
    });
    Ok(made.await?.join("pause.tar"))
}

/// An image in the form that `docker save` writes and every engine reads.
fn pack(program: &[u8], target: &Path) -> Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "pause", program, 0o755)?;
    let layer = layer.into_inner()?;
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Entrypoint": ["/pause"], "User": "65535:65535" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(&layer)))] },
    }))?;
    let manifest = serde_json::to_vec(&json!([{ "Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"] }]))?;
    let mut image = tar::Builder::new(std::fs::File::create(target)?);
    append(&mut image, "manifest.json", &manifest, 0o644)?;
    append(&mut image, "config.json", &config, 0o644)?;
    append(&mut image, "layer.tar", &layer, 0o644)?;
    image.into_inner()?.sync_all()?;
    Ok(())
}

fn append<W: std::io::Write>(archive: &mut tar::Builder<W>, name: &str, content: &[u8], mode: u32) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    archive.append_data(&mut header, name, content)?;
    Ok(())
}
