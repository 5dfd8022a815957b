//! helm: pulls a packed chart and renders it; it never talks to a cluster.
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::process::Program;
use crate::failure::Failure;

const DEADLINE: Duration = Duration::from_secs(180);

fn helm(cancel: &CancellationToken) -> Program {
    Program::new("helm", "go install helm.sh/helm/v4/cmd/helm@v4.3.1", DEADLINE).cancel(cancel)
}

/// Pulls one version of a chart into the folder; returns its file.
pub async fn pull(chart: &str, version: &str, folder: &Path, cancel: &CancellationToken) -> Result<PathBuf, Failure> {
    let (ended, _) = helm(cancel).args(["pull", chart, "--version", version, "--destination"]).arg(folder).output().await?;
    if !ended.succeeded() {
        return Err(ended.failure(format!("helm pull {chart} {version}")));
    }
    let name = chart.rsplit('/').next().unwrap_or(chart);
    Ok(folder.join(format!("{name}-{version}.tgz")))
}

/// Renders a packed chart, without its hooks and tests.
pub async fn template(
    chart: &Path,
    release: &str,
    namespace: &str,
    values: &Path,
    kubernetes_version: &str,
    cancel: &CancellationToken,
) -> Result<String, Failure> {
    let program = helm(cancel).args(["template", release]).arg(chart).args([
        "--namespace",
        namespace,
        "--include-crds",
        "--skip-tests",
        "--no-hooks",
    ]);
    let program = program.args(["--kube-version", kubernetes_version, "--values"]).arg(values);
    let (ended, out) = program.output().await?;
    if !ended.succeeded() {
        return Err(ended.failure(format!("helm template of {}", chart.display())));
    }
    String::from_utf8(out).map_err(|e| Failure::step("helm rendered something that is not text").because(e))
}
