//! buildah and docker: build a Dockerfile and hand the image over as a folder; pushing is always our own.
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::process::Program;
use crate::failure::Failure;

const DEADLINE: Duration = Duration::from_secs(3600);

async fn run(program: Program, what: &str, progress: &(dyn Fn(&str) + Send + Sync)) -> Result<(), Failure> {
    let mut tail: Vec<String> = Vec::new();
    let ended = program
        .run(|_, line| {
            let line = String::from_utf8_lossy(line).into_owned();
            progress(&line);
            tail.push(line);
            if tail.len() > 40 {
                tail.remove(0);
            }
        })
        .await?;
    if ended.succeeded() {
        return Ok(());
    }
    let mut failure = ended.failure(what);
    failure.evidence = tail;
    Err(failure)
}

/// Builds with buildah; returns an OCI image layout.
pub async fn buildah(
    project: &Path,
    dockerfile: &Path,
    name: &str,
    scratch: &Path,
    cancel: &CancellationToken,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<PathBuf, Failure> {
    let tool = || {
        Program::new("buildah", "apt-get install --no-install-recommends buildah", DEADLINE)
            .dir(project)
            .cancel(cancel)
            .log(scratch.join("buildah.log"))
    };
    let image = format!("deployctl/{name}:build");
    let layout = scratch.join(format!("{name}-layout"));
    // `--timestamp 0` is what makes it the same image every time.
    let build = tool().args(["build", "--timestamp", "0", "--format", "oci", "--tag", &image, "--file"]).arg(dockerfile).arg(".");
    run(build, &format!("buildah build of {name}"), progress).await?;
    let push = tool().args(["push", &image]).arg(format!("oci:{}", layout.display()));
    run(push, &format!("buildah push of {name} to a folder"), progress).await?;
    Ok(layout)
}

/// Builds with docker; returns an OCI image layout.
pub async fn docker(
    project: &Path,
    dockerfile: &Path,
    name: &str,
    scratch: &Path,
    cancel: &CancellationToken,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<PathBuf, Failure> {
    let tool =
        || Program::new("docker", "install Docker 25 or later", DEADLINE).dir(project).cancel(cancel).log(scratch.join("docker.log"));
    let image = format!("deployctl/{name}:build");
    let archive = scratch.join(format!("{name}.tar"));
    let layout = scratch.join(format!("{name}-layout"));
    let build = tool().args(["build", "--tag", &image, "--file"]).arg(dockerfile).arg(".").env([("SOURCE_DATE_EPOCH".into(), "0".into())]);
    run(build, &format!("docker build of {name}"), progress).await?;
    run(tool().args(["save", "--output"]).arg(&archive).arg(&image), &format!("docker save of {name}"), progress).await?;
    let unpack = || -> std::io::Result<()> { tar::Archive::new(std::fs::File::open(&archive)?).unpack(&layout) };
    unpack().map_err(|e| Failure::step(format!("{} cannot be unpacked", archive.display())).because(e))?;
    Ok(layout)
}
