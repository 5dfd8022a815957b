//! cargo: compiles the packages that images are made of, the same bytes on every machine with the same toolchain.
use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::process::{Program, Told};
use crate::{
    cache,
    failure::{Failure, FailureKind},
    image::Profile,
};

/// A cold build of everything on two busy cores takes a quarter of an hour.
const DEADLINE: Duration = Duration::from_secs(3600);

/// Compiles the packages; returns each one's program. `progress` hears what is compiled.
pub async fn build(
    project: &Path,
    packages: &[&str],
    profile: Profile,
    scratch: &Path,
    cancel: &CancellationToken,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let target = target_folder()?;
    let log = scratch.join("cargo.log");
    let mut program = Program::new("cargo", "install Rust: https://rustup.rs", DEADLINE)
        .arg("build")
        .arg("--locked")
        .dir(project)
        .cancel(cancel)
        .log(&log);
    if profile == Profile::Release {
        program = program.arg("--release");
    }
    for package in packages {
        program = program.arg("-p").arg(package);
    }
    // Paths of this machine would end up in panic messages, and so in the digest.
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let mut flags = vec![format!("--remap-path-prefix={}=/src", cache::sources()?.display())];
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
    let env: Vec<(OsString, OsString)> = vec![
        ("CARGO_TARGET_DIR".into(), target.clone().into()),
        ("CARGO_ENCODED_RUSTFLAGS".into(), flags.join("\u{1f}").into()),
        ("CARGO_INCREMENTAL".into(), "0".into()),
        ("CARGO_TERM_COLOR".into(), "never".into()),
        ("SOURCE_DATE_EPOCH".into(), "0".into()),
    ];
    let mut errors: Vec<String> = Vec::new();
    let ended = program
        .env(env)
        .without(["RUSTFLAGS"])
        .run(|_, line| {
            let line = String::from_utf8_lossy(line);
            let text = line.trim();
            if text.starts_with("Compiling") || text.starts_with("Finished") {
                progress(text);
            } else if text.starts_with("error") || !errors.is_empty() {
                errors.push(line.into_owned());
            }
        })
        .await?;
    if !ended.succeeded() {
        let names = packages.join(", ");
        if ended.told == Told::Cancelled {
            return Err(Failure::new(FailureKind::Interrupted, format!("interrupted while compiling {names}")));
        }
        let full = errors.iter().any(|line| line.contains("No space left on device"));
        let message = if full {
            format!("compiling {names}: the disk is full")
        } else {
            format!("compiling {names}: cargo ended with {}", ended.how())
        };
        let mut failure = Failure::step(message);
        failure.evidence = errors.into_iter().take(60).collect();
        let next = if full { format!("make room in {}", target.display()) } else { format!("all of it: {}", log.display()) };
        return Err(failure.next(next));
    }
    let folder = target.join(if profile == Profile::Release { "release" } else { "debug" });
    packages
        .iter()
        .map(|package| {
            let path = folder.join(package);
            if path.is_file() {
                Ok(((*package).to_owned(), path))
            } else {
                Err(Failure::step(format!("cargo made no program {}", path.display())))
            }
        })
        .collect()
}

/// Outside the checkout, so that a second clone starts warm.
fn target_folder() -> Result<PathBuf, Failure> {
    std::env::var_os("DEPLOYCTL_IMAGE_TARGET_DIR").map_or_else(|| Ok(cache::folder()?.join("target")), |folder| Ok(folder.into()))
}
