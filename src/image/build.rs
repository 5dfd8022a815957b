//! Compiles packages and lays out the smallest root in which each runs: program, shared libraries, loader, certificates, user, /tmp.
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Blob, Image, USER, elf, layer::Layer, layout};
use crate::{
    failure::{Failure, FailureKind},
    tools,
};

/// Where Debian and Alpine, Fedora keep the certificates of public authorities.
const AUTHORITIES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
/// Where programs look for them, whatever the machine that built the image.
const AUTHORITIES_INSIDE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What builds an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Builder {
    /// deployctl itself: cargo and nothing else.
    #[default]
    Native,
    /// buildah, with the Dockerfile in the service's folder.
    Buildah,
    /// docker, with the Dockerfile in the service's folder.
    Docker,
}

/// Cargo's profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// What is deployed.
    #[default]
    Release,
    /// Builds in a fraction of the time and runs at a fraction of the speed.
    Dev,
}

/// One thing to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The cargo package, its program and the image's last name.
    pub name: String,
    /// Where it comes from.
    pub from: Source,
}

/// Where an image's program comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A cargo package in this folder, from the project's root.
    Cargo(PathBuf),
    /// A program that this machine has already, such as Prometheus.
    Program(PathBuf),
}

/// What is built, and how.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// What builds it.
    pub builder: Builder,
    /// Cargo's profile.
    pub profile: Profile,
    /// The folder of the plan file.
    pub project: &'a Path,
    /// For logs and half-made things.
    pub scratch: &'a Path,
    /// Everything that the plan builds. Cargo resolves the features of what it compiles together, so it always compiles all of these:
    /// leaving one out would compile what they share again.
    pub packages: &'a [Package],
    /// The names of those of which an image is made.
    pub wanted: &'a [&'a str],
}

/// Builds the wanted packages' images; `progress` hears the compiler.
pub async fn build(
    order: Order<'_>,
    cancel: &CancellationToken,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<BTreeMap<String, Image>, Failure> {
    let Order { builder, profile, project, scratch, packages, wanted } = order;
    let mut images = BTreeMap::new();
    let mut programs: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut compiled: Vec<&str> = Vec::new();
    for package in packages.iter().filter(|package| wanted.contains(&package.name.as_str())) {
        match (&package.from, builder) {
            (Source::Program(path), _) => drop(programs.insert(package.name.clone(), path.clone())),
            (Source::Cargo(_), Builder::Native) => compiled.push(&package.name),
            (Source::Cargo(folder), Builder::Buildah | Builder::Docker) => {
                let dockerfile = project.join(folder).join("Dockerfile");
                if !dockerfile.exists() {
                    return Err(Failure::new(FailureKind::Preflight, format!("there is no {}", dockerfile.display()))
                        .next("write it, or use `builder: native` in the plan file"));
                }
                let layout = match builder {
                    Builder::Docker => tools::container::docker(project, &dockerfile, &package.name, scratch, cancel, progress).await?,
                    _ => tools::container::buildah(project, &dockerfile, &package.name, scratch, cancel, progress).await?,
                };
                images.insert(package.name.clone(), layout::read(&layout)?);
            }
        }
    }
    if !compiled.is_empty() {
        // One call for all of them: cargo compiles what they share once and keeps every core busy.
        let together: Vec<&str> =
            packages.iter().filter(|package| matches!(package.from, Source::Cargo(_))).map(|package| package.name.as_str()).collect();
        let staged = super::stage::stage(project, &together.join("+"), cancel, progress).await?;
        let made = tools::cargo::build(&staged.folder, &together, profile, scratch, cancel, progress).await?;
        // Programs are read before another checkout may compile its own over them.
        for (name, program) in made.iter().filter(|(name, _)| compiled.contains(&name.as_str())) {
            images.insert(name.clone(), packed(name, program).await?);
        }
    }
    for (name, program) in programs {
        images.insert(name.clone(), packed(&name, &program).await?);
    }
    Ok(images)
}

async fn packed(name: &str, program: &Path) -> Result<Image, Failure> {
    let (name, program) = (name.to_owned(), program.to_owned());
    let what = format!("packing {name}");
    tokio::task::spawn_blocking(move || assemble(&name, &program)).await.map_err(|e| Failure::step(what).because(e))?
}

/// Puts the image of one program together.
pub fn assemble(name: &str, program: &Path) -> Result<Image, Failure> {
    let read = |path: &Path| std::fs::read(path).map_err(|e| Failure::step(format!("{} cannot be read", path.display())).because(e));
    let mut libraries = Layer::default();
    for (inside, here) in elf::closure(program)? {
        libraries.file(&inside.to_string_lossy(), 0o755, read(&here)?);
    }
    let authorities = AUTHORITIES.iter().map(Path::new).find(|path| path.exists()).ok_or_else(|| {
        Failure::new(FailureKind::Preflight, "this machine has no certificates of public authorities to put into images")
            .next("apt-get install --no-install-recommends ca-certificates")
    })?;
    libraries.file(AUTHORITIES_INSIDE, 0o644, read(authorities)?);
    libraries.file(
        "/etc/passwd",
        0o644,
        format!("root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/tmp:/sbin/nologin\n").into(),
    );
    libraries.file("/etc/group", 0o644, format!("root:x:0:\nnonroot:x:{USER}:\n").into());
    // Without it glibc asks DNS before /etc/hosts.
    libraries.file("/etc/nsswitch.conf", 0o644, b"passwd: files\ngroup: files\nhosts: files dns\n".to_vec());
    libraries.folder("/tmp", 0o1777);
    let mut own = Layer::default();
    let inside = format!("/usr/bin/{name}");
    own.file(&inside, 0o755, read(program)?);

    let (libraries, own) = (libraries.pack()?, own.pack()?);
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "created": "1970-01-01T00:00:00Z", "architecture": architecture, "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"), "Entrypoint": [inside], "WorkingDir": "/tmp",
            "Env": ["PATH=/usr/bin", format!("SSL_CERT_FILE={AUTHORITIES_INSIDE}")],
        },
        "rootfs": { "type": "layers", "diff_ids": [libraries.diff_id, own.diff_id] },
        "history": [
            { "created": "1970-01-01T00:00:00Z", "created_by": "deployctl: libraries, certificates, user" },
            { "created": "1970-01-01T00:00:00Z", "created_by": format!("deployctl: {name}") },
        ],
    });
    let config = Blob::new(config.to_string().into_bytes())?;
    let layers = [libraries.blob, own.blob];
    let descriptor = |kind: &str, blob: &Blob| json!({ "mediaType": kind, "digest": blob.digest, "size": blob.bytes.len() });
    let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter().map(|l| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", l)).collect::<Vec<_>>(),
    });
    let manifest = Blob::new(manifest.to_string().into_bytes())?;
    Ok(Image { blobs: layers.into_iter().chain([config]).collect(), manifest, media_type })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_same_program_gives_the_same_digest() {
        let program = std::fs::canonicalize("/bin/sh").unwrap();
        let (one, two) = (assemble("x", &program).unwrap(), assemble("x", &program).unwrap());
        assert_eq!(one.manifest.digest, two.manifest.digest);
        assert_eq!(one.blobs.len(), 3);
        assert_ne!(one.manifest.digest, assemble("y", &program).unwrap().manifest.digest);
    }
}
