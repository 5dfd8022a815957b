//! The OpenTelemetry collector that step 12 puts into an image: core components only, one static program.
use std::{fs, path::PathBuf};

use anyhow::Result;

use super::{
    cached::{Cache, key, step},
    go::go,
    stable,
};

/// What the collector's own builder made of manifest.yaml (which says how): with it committed, installing needs no builder.
const SOURCES: [(&str, &str); 5] = [
    ("main.go", include_str!("../../otel-collector/main.go")),
    ("main_others.go", include_str!("../../otel-collector/main_others.go")),
    ("components.go", include_str!("../../otel-collector/components.go")),
    ("go.mod", include_str!("../../otel-collector/go.mod")),
    ("go.sum", include_str!("../../otel-collector/go.sum")),
];
const PROGRAM: &str = "otelcol";

/// Makes it and gives it a name that stays.
pub async fn install(cache: &Cache) -> Result<()> {
    let key = key(SOURCES.iter().map(|(_, content)| content.as_bytes()));
    let built = cache.get("otel-collector", key, async |folder: PathBuf| {
        let source = tempfile::tempdir()?;
        for (name, content) in SOURCES {
            fs::write(source.path().join(name), content)?;
        }
        let mut go = go(source.path(), "build");
        go.args(["-mod=readonly", "-ldflags", "-s -w", "-o"]).arg(folder.join(PROGRAM)).arg(".");
        step("building the OpenTelemetry collector from its Go modules", go).await?;
        Ok(())
    });
    stable::name(&built.await?, PROGRAM)?;
    Ok(())
}
