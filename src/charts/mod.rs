//! Helm charts: where one comes from, the digest that pins it, and its files. Nobody here speaks to a cluster.
mod folder;
mod origin;
mod packed;
mod repository;
mod store;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use folder::digest_of_folder;
pub use origin::{Origin, Reach};

use crate::failure::Failure;

/// A chart's files, in a folder of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chart {
    /// Where they are.
    pub folder: PathBuf,
    /// As its Chart.yaml says.
    pub name: String,
    /// As its Chart.yaml says.
    pub version: String,
}

/// What of a Chart.yaml is read here.
#[derive(Deserialize)]
struct Metadata {
    name: String,
    version: String,
}

impl Chart {
    /// Reads a chart's name and version, and refuses any version but `wanted`: a digest that was copied from another version's line pins a chart
    /// that nobody has asked for.
    fn read(folder: PathBuf, wanted: &str) -> Result<Self, Failure> {
        let path = folder.join("Chart.yaml");
        let broken = |what: &str| Failure::step(format!("{}: {what}", shown(&path)));
        let text = std::fs::read_to_string(&path).map_err(|e| broken("cannot be read, so this is no chart").because(e))?;
        let found: Metadata = serde_saphyr::from_str(&text).map_err(|e| broken("names no chart and no version").because(e))?;
        if found.version != wanted {
            return Err(Failure::usage(format!("the chart {} with this digest is version {}, not {wanted}", found.name, found.version))
                .next("correct `version`, or take `digest` away and pin it anew: deployctl chart pin"));
        }
        Ok(Self { folder, name: found.name, version: found.version })
    }
}

/// The last two names of a path: the rest is a folder of a run.
fn shown(path: &Path) -> String {
    let names: Vec<_> = path.iter().rev().take(2).map(|name| name.to_string_lossy()).collect();
    names.into_iter().rev().collect::<Vec<_>>().join("/")
}

/// One file of a chart, with the folders above it.
fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, content));
    written.map_err(|e| Failure::step(format!("{} cannot be written", path.display())).because(e))
}

/// An empty folder, whatever was there before.
fn emptied(folder: &Path) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::step(format!("no folder {} for a chart", folder.display())).because(e);
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    std::fs::create_dir_all(folder).map_err(failed)
}
