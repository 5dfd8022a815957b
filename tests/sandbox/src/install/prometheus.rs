//! Prometheus and promtool from their Go module: Debian's package is built without discovery in Kubernetes, and refuses our configuration.
use std::{fs, path::PathBuf};

use anyhow::Result;

use super::{
    cached::{Cache, key, step},
    go::go,
    stable,
};

/// Made by `go get -tool github.com/prometheus/prometheus/cmd/{prometheus,promtool}@v0.313.5` in an empty module.
const GO_MOD: &str = include_str!("../../prometheus/go.mod");
const GO_SUM: &str = include_str!("../../prometheus/go.sum");
/// What it says it is; the module's v0.313.5 is the program's 3.13.5.
const VERSION: &str = "3.13.5";
/// Every other discovery brings a cloud's SDK, and minutes of building.
const TAGS: &str = "remove_all_sd,enable_kubernetes_sd";
const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// Makes both and gives them names that stay.
pub async fn install(cache: &Cache) -> Result<()> {
    let key = key([GO_MOD, GO_SUM, VERSION, TAGS].map(str::as_bytes));
    let built = cache.get("prometheus", key, async |folder: PathBuf| {
        let source = tempfile::tempdir()?;
        fs::write(source.path().join("go.mod"), GO_MOD)?;
        fs::write(source.path().join("go.sum"), GO_SUM)?;
        let mut go = go(source.path(), "build");
        go.args(["-mod=readonly", "-tags", TAGS, "-ldflags"]);
        go.arg(format!("-s -w -X github.com/prometheus/common/version.Version={VERSION}"));
        // A folder to build into is one that ends with a slash.
        go.arg("-o").arg(folder.join(""));
        go.args(PROGRAMS.map(|program| format!("github.com/prometheus/prometheus/cmd/{program}")));
        step("building Prometheus from its Go module", go).await?;
        Ok(())
    });
    let built = built.await?;
    for program in PROGRAMS {
        stable::name(&built, program)?;
    }
    Ok(())
}
