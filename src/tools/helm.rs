//! helm: renders charts that we have fetched and checked. It gets nothing of our environment, has folders of its own, and speaks to nobody.
use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::process::{self, Program};
use crate::{
    cache,
    failure::{Failure, FailureKind},
};

/// Of the Go module that it is built from where there is none.
pub const VERSION: &str = "4.3.1";
const MODULE: &str = "helm.sh/helm/v4";
const INSTALL: &str = "install Helm 3 or 4, or Go, from which deployctl builds it";
/// What is being built, beside what is built.
const MAKING: &str = ".making";
const DEADLINE: Duration = Duration::from_secs(120);
/// About a minute on two cores, and minutes on a slow network.
const BUILD: Duration = Duration::from_secs(15 * 60);

/// One rendering.
pub struct Rendering<'a> {
    /// The chart's folder.
    pub chart: &'a Path,
    /// What templates see as `.Release.Name`.
    pub release: &'a str,
    /// What they see as `.Release.Namespace`.
    pub namespace: &'a str,
    /// Files of values, the later ones winning.
    pub values: &'a [PathBuf],
    /// As in `v1.34.4`.
    pub kubernetes_version: &'a str,
    /// As in `apps/v1` and `apps/v1/Deployment`.
    pub api_versions: &'a [String],
    /// A folder of this rendering's own.
    pub home: &'a Path,
}

/// Where the one is that we build; none before that.
fn built() -> Option<PathBuf> {
    process::find(cache::folder().ok()?.join("helm").join(VERSION).join("helm").as_os_str())
}

/// helm in PATH, else the one that was built before.
pub fn find() -> Option<PathBuf> {
    process::find(OsStr::new("helm")).or_else(built)
}

/// helm in PATH, else built from its Go module, once for this machine.
pub async fn program(cancel: &CancellationToken, progress: &(dyn Fn(&str) + Sync)) -> Result<PathBuf, Failure> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let folder = cache::folder()?.join("helm");
    let unusable = |e: std::io::Error| Failure::new(FailureKind::Preflight, format!("{} cannot be used", folder.display())).because(e);
    std::fs::create_dir_all(&folder).map_err(unusable)?;
    let _turn = cache::turn(&folder.join(".lock"), "the building of helm", BUILD, cancel).await?;
    if let Some(found) = built() {
        return Ok(found);
    }
    progress(&format!("helm is not installed: building {VERSION} from its Go module, once for this machine"));
    // One name, because of the lock: what a build that was killed has left is taken away by the next.
    let left = folder.join(MAKING);
    if left.exists() {
        std::fs::remove_dir_all(&left).map_err(unusable)?;
    }
    let making = tempfile::Builder::new().prefix(MAKING).rand_bytes(0).tempdir_in(&folder).map_err(unusable)?;
    let go = Program::new("go", INSTALL, BUILD)
        .args(["install", "-trimpath", "-ldflags"])
        .arg(format!("-s -w -X {MODULE}/internal/version.version=v{VERSION}"))
        .arg(format!("{MODULE}/cmd/helm@v{VERSION}"))
        .env([("GOBIN".into(), making.path().into()), ("CGO_ENABLED".into(), "0".into())])
        .cancel(cancel);
    let (ended, _) = go.output().await?;
    if !ended.succeeded() {
        return Err(ended.failure("building helm from its Go module").next(INSTALL));
    }
    std::fs::rename(making.keep(), folder.join(VERSION)).map_err(unusable)?;
    built().ok_or_else(|| Failure::new(FailureKind::Internal, "go has built no helm"))
}

/// Renders a chart: its definitions, its objects and its hooks, the latter marked as such. Tests are left to `helm test`.
pub async fn template(program: &Path, rendering: &Rendering<'_>, cancel: &CancellationToken) -> Result<String, Failure> {
    let Rendering { chart, release, namespace, values, kubernetes_version, api_versions, home } = rendering;
    let mut helm = Program::new(program, INSTALL, DEADLINE).alone().env(folders(home)).dir(*home).cancel(cancel);
    helm = helm.args(["template", release]).arg(chart).args(["--namespace", namespace, "--include-crds", "--skip-tests"]);
    helm = helm.args(["--kube-version", kubernetes_version]);
    helm = api_versions.iter().fold(helm, |helm, version| helm.args(["--api-versions", version]));
    helm = values.iter().fold(helm, |helm, file| helm.arg("--values").arg(file));
    let (ended, out) = helm.output().await?;
    if !ended.succeeded() {
        return Err(ended.failure(format!("helm template {release}")));
    }
    String::from_utf8(out).map_err(|e| Failure::step("helm rendered something that is not text").because(e))
}

/// All that it gets: no kubeconfig, no plugins, no registry's credentials of whoever runs us.
fn folders(home: &Path) -> Vec<(OsString, OsString)> {
    let below = |name: &str| home.join(name).into_os_string();
    [
        ("HOME", below("home")),
        ("HELM_CACHE_HOME", below("cache")),
        ("HELM_CONFIG_HOME", below("config")),
        ("HELM_DATA_HOME", below("data")),
        ("HELM_PLUGINS", below("plugins")),
        ("HELM_NO_PLUGINS", "1".into()),
        ("KUBECONFIG", "/dev/null".into()),
        ("TMPDIR", home.as_os_str().to_owned()),
    ]
    .map(|(name, value)| (name.into(), value))
    .to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    /// `env` in helm's place: it says what it was given.
    #[tokio::test]
    async fn it_gets_nothing_of_our_environment() {
        let home = tempfile::tempdir().unwrap();
        let free = CancellationToken::new();
        let program = Program::new("env", "coreutils", DEADLINE).alone().env(folders(home.path())).cancel(&free);
        let (ended, out) = program.output().await.unwrap();
        assert!(ended.succeeded());
        let names: Vec<String> =
            String::from_utf8(out).unwrap().lines().map(|line| line.split('=').next().unwrap_or_default().to_owned()).collect();
        assert!(std::env::var_os("PATH").is_some());
        assert_eq!(names.len(), 8, "{names:?}");
        assert!(
            names.iter().all(|name| name.starts_with("HELM_") || ["HOME", "KUBECONFIG", "TMPDIR"].contains(&name.as_str())),
            "{names:?}"
        );
    }
}
