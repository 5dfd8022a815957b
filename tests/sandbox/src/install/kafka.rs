//! Apache Kafka's jars from Maven Central.
use std::path::PathBuf;

use anyhow::Result;
use tokio::process::Command;

use super::cached::{Cache, key, step};

const POM: &str = include_str!("../../kafka/pom.xml");

/// The folder with the jars.
pub async fn install(cache: &Cache) -> Result<PathBuf> {
    let made = cache.get("kafka", key([POM.as_bytes()]), async |folder: PathBuf| {
        let source = tempfile::tempdir()?;
        std::fs::write(source.path().join("pom.xml"), POM)?;
        let mut maven = Command::new("mvn");
        maven.current_dir(source.path()).args(["--batch-mode", "--quiet", "dependency:copy-dependencies", "-DincludeScope=runtime"]);
        maven.arg(format!("-DoutputDirectory={}", folder.display()));
        step("fetching Kafka", maven).await?;
        Ok(())
    });
    made.await
}
