//! The OpenTelemetry collector that step 12 puts into an image: core components only, one static program.
use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tokio::process::Command;

use super::cached::{Cache, key, step};

/// What the collector's own builder made of manifest.yaml (which says how): with it committed, installing needs no builder.
const SOURCES: [(&str, &str); 5] = [
    ("main.go", include_str!("../../otel-collector/main.go")),
    ("main_others.go", include_str!("../../otel-collector/main_others.go")),
    ("components.go", include_str!("../../otel-collector/components.go")),
    ("go.mod", include_str!("../../otel-collector/go.mod")),
    ("go.sum", include_str!("../../otel-collector/go.sum")),
];
const PROGRAM: &str = "otelcol";

/// The program, under a name that stays: plan files give images their program by it.
pub async fn install(cache: &Cache) -> Result<PathBuf> {
    let key = key(SOURCES.iter().map(|(_, content)| content.as_bytes()));
    let built = cache.get("otel-collector", key, async |folder: PathBuf| {
        let source = tempfile::tempdir()?;
        for (name, content) in SOURCES {
            fs::write(source.path().join(name), content)?;
        }
        let mut go = Command::new("go");
        // Static, because an image holds the program and nothing else.
        go.env("CGO_ENABLED", "0").current_dir(source.path());
        go.args(["build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o"]).arg(folder.join(PROGRAM)).arg(".");
        step("building the OpenTelemetry collector from its Go modules", go).await?;
        Ok(())
    });
    let built = built.await?;
    let folder = built.parent().context("a folder of the cache is in the cache")?;
    let stable = folder.join(PROGRAM);
    let target = Path::new(built.file_name().context("a folder of the cache has a name")?).join(PROGRAM);
    point(&stable, &target).with_context(|| format!("pointing {} to {}", stable.display(), target.display()))?;
    Ok(stable)
}

/// Makes `link` point to `target`; who opens it meanwhile gets the old program or the new one.
fn point(link: &Path, target: &Path) -> io::Result<()> {
    if fs::read_link(link).is_ok_and(|now| now == target) {
        return Ok(());
    }
    let folder = link.parent().unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new().prefix(".link-").tempdir_in(folder)?;
    let fresh = temporary.path().join(PROGRAM);
    symlink(target, &fresh)?;
    fs::rename(&fresh, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_follows_the_newest_build_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for build in ["one", "two"] {
            fs::create_dir(folder.path().join(build)).unwrap();
            fs::write(folder.path().join(build).join(PROGRAM), build).unwrap();
        }
        let link = folder.path().join(PROGRAM);
        for build in ["one", "two", "two"] {
            point(&link, &Path::new(build).join(PROGRAM)).unwrap();
            assert_eq!(fs::read_to_string(&link).unwrap(), build);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
