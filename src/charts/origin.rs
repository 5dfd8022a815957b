//! Where a chart comes from, and the one way to its files: fetched by digest, hashed here, and only then looked at.
use std::{
    fmt,
    path::{Path, PathBuf},
};

use oci_spec::image::ImageManifest;
use url::Url;

use super::{Chart, folder, packed, repository, store};
use crate::{
    aws::Aws,
    failure::{Failure, FailureKind},
    ids::{ImageDigest, RepositoryName},
    image::{Blob, Registry, digest_of},
    permit::Permit,
};

/// What Helm packs charts as, in a registry.
const CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

/// Where a chart comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `oci://HOST/REPOSITORY`: its digest is the manifest's.
    Registry {
        /// As in `ghcr.io`, with a port if it has one.
        host: String,
        /// As in `charts/external-secrets`.
        repository: RepositoryName,
    },
    /// A name in a classic repository: its digest is the packed chart's.
    Repository {
        /// Where its index.yaml is.
        base: Url,
        /// The chart's.
        name: String,
    },
    /// A folder of the project, whose digest is over its files, or a packed chart, whose digest is its own.
    Project(PathBuf),
}

/// What charts are fetched through.
pub struct Reach<'a> {
    /// The project's folder.
    pub project: &'a Path,
    /// For the account's own registry; none where nobody is logged in.
    pub aws: Option<&'a Aws>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { host, repository } => write!(f, "oci://{host}/{repository}"),
            Self::Repository { base, name } => write!(f, "{name} of {base}"),
            Self::Project(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Origin {
    /// Reads a plan file's `chart` and `repository`.
    pub fn parse(chart: &str, repository: Option<&str>) -> Result<Self, Failure> {
        let no_chart = |why: &str| Failure::usage(format!("`chart: {chart}` {why}"));
        match (chart.strip_prefix("oci://"), repository) {
            (Some(_), Some(_)) => Err(no_chart("names a registry, so that `repository` has no meaning")),
            (Some(place), None) => {
                let (host, repository) = place.split_once('/').ok_or_else(|| no_chart("names no chart: oci://HOST/PATH/NAME"))?;
                if repository.contains([':', '@']) {
                    return Err(no_chart("names a tag or a digest: those are `version` and `digest`"));
                }
                let repository = RepositoryName::parse(repository).map_err(|e| no_chart("names no repository").because(e))?;
                Ok(Self::Registry { host: host.to_owned(), repository })
            }
            (None, Some(base)) => {
                let base = Url::parse(base).map_err(|e| Failure::usage(format!("`repository: {base}` is no address")).because(e))?;
                if base.scheme() != "https" && !is_loopback(base.host_str().unwrap_or_default()) {
                    return Err(Failure::usage(format!("`repository: {base}` is not spoken to without TLS")));
                }
                Ok(Self::Repository { base, name: chart.to_owned() })
            }
            (None, None) if chart.contains("://") => {
                Err(no_chart("is no chart: oci://…, a path in the project, or a name with `repository`"))
            }
            (None, None) => Ok(Self::Project(chart.into())),
        }
    }

    /// Whether it is in an account's own registry, where only its identities may read.
    pub fn needs_account(&self) -> bool {
        matches!(self, Self::Registry { host, .. } if host.contains(".dkr.ecr."))
    }

    /// Whether its files are the project's own, and change with it.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Project(_))
    }

    /// The digest that this version has now.
    pub async fn digest(&self, version: &str, reach: &Reach<'_>) -> Result<ImageDigest, Failure> {
        match self {
            Self::Registry { repository, .. } => {
                // A tag holds no `+`; Helm writes `_` for it.
                let found = self.registry(reach).await?.pull_manifest(repository, &version.replace('+', "_")).await?;
                found.map(|manifest| manifest.digest).ok_or_else(|| self.missing(version))
            }
            Self::Repository { base, name } => Ok(repository::find(base, name, version).await?.digest),
            Self::Project(path) if reach.project.join(path).is_dir() => folder::digest_of_folder(&reach.project.join(path)),
            Self::Project(path) => Ok(self.file(&reach.project.join(path))?.digest),
        }
    }

    /// The chart's files in `into`, if they are what the digest says.
    pub async fn fetch(&self, version: &str, digest: &ImageDigest, into: &Path, reach: &Reach<'_>) -> Result<Chart, Failure> {
        let packed = match self {
            Self::Project(path) if reach.project.join(path).is_dir() => {
                let copy = into.join("chart");
                let found = folder::copy(&reach.project.join(path), &copy)?;
                self.expect(version, digest, &found)?;
                return Chart::read(copy, version);
            }
            Self::Project(path) => self.file(&reach.project.join(path))?.bytes.to_vec(),
            Self::Registry { repository, .. } => self.layer(repository, version, digest, reach).await?,
            Self::Repository { base, name } => match store::find(digest) {
                Some(kept) => kept,
                None => {
                    let found = repository::find(base, name, version).await?;
                    self.expect(version, digest, &found.digest)?;
                    store::keep(&found);
                    found.bytes.to_vec()
                }
            },
        };
        if !matches!(self, Self::Registry { .. }) {
            self.expect(version, digest, &digest_of(&packed)?)?;
        }
        Chart::read(packed::unpack(&packed, &into.join("chart"))?, version)
    }

    fn expect(&self, version: &str, wanted: &ImageDigest, found: &ImageDigest) -> Result<(), Failure> {
        if wanted == found {
            return Ok(());
        }
        let failure = Failure::new(FailureKind::Policy, format!("the chart {self} {version} is {found}, not {wanted}"));
        Err(if self.is_own() {
            failure.next("read what has changed in it (git diff), then pin it anew: deployctl chart pin")
        } else {
            failure.next("find out who has changed a published version before you pin it anew: deployctl chart pin --replace")
        })
    }

    fn missing(&self, version: &str) -> Failure {
        Failure::step(format!("{self} has no version {version}"))
    }

    fn file(&self, path: &Path) -> Result<Blob, Failure> {
        let bytes = std::fs::read(path);
        Blob::new(bytes.map_err(|e| Failure::new(FailureKind::Preflight, format!("the chart {self} cannot be read")).because(e))?)
    }

    async fn registry(&self, reach: &Reach<'_>) -> Result<Registry, Failure> {
        let Self::Registry { host, .. } = self else {
            return Err(Failure::new(FailureKind::Internal, format!("{self} is in no registry")));
        };
        match reach.aws {
            Some(aws) if *host == aws.registry_host() => Registry::connect(aws).await,
            _ if self.needs_account() => Err(Failure::new(
                FailureKind::Credentials,
                format!("{host} is the registry of another account or region than the environment's"),
            )
            .next("copy the chart into the environment's own registry, or name a public one")),
            // As docker and helm do: what is on this machine is spoken to in plain HTTP.
            _ if is_loopback(host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name)) => {
                Registry::public(&format!("http://{host}"), Permit::unleased())
            }
            _ => Registry::public(&format!("https://{host}"), Permit::unleased()),
        }
    }

    /// The packed chart that the manifest of this digest names.
    async fn layer(&self, repository: &RepositoryName, version: &str, digest: &ImageDigest, reach: &Reach<'_>) -> Result<Vec<u8>, Failure> {
        let mut registry = None;
        let manifest = match store::find(digest) {
            Some(kept) => kept,
            None => {
                let connected = registry.insert(self.registry(reach).await?);
                let found = connected.pull_manifest(repository, digest.as_str()).await?;
                let found = found.ok_or_else(|| {
                    Failure::new(FailureKind::Policy, format!("{self} {version} has no manifest {digest}"))
                        .next("see what the registry has now: deployctl chart pin --print")
                })?;
                self.expect(version, digest, &found.digest)?;
                store::keep(&found);
                found.bytes.to_vec()
            }
        };
        let layer = chart_layer(&manifest).map_err(|why| Failure::usage(format!("{self}@{digest} {why}")))?;
        if let Some(kept) = store::find(&layer) {
            return Ok(kept);
        }
        let registry = match registry {
            Some(registry) => registry,
            None => self.registry(reach).await?,
        };
        let blob = registry.pull_blob(repository, &layer, packed::LARGEST).await?;
        store::keep(&blob);
        Ok(blob.bytes.to_vec())
    }
}

/// The digest of the layer that is the packed chart.
fn chart_layer(manifest: &[u8]) -> Result<ImageDigest, String> {
    let manifest = ImageManifest::from_reader(manifest).map_err(|e| format!("is no manifest of a chart: {e}"))?;
    let layer = manifest.layers().iter().find(|layer| layer.media_type().to_string() == CONTENT);
    let layer = layer.ok_or_else(|| "is an image and no chart".to_owned())?;
    ImageDigest::parse(layer.digest().to_string()).map_err(|e| e.to_string())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_reference_says_where_the_chart_is() {
        let registry = Origin::parse("oci://registry.example.org/charts/a", None).unwrap();
        assert_eq!(registry.to_string(), "oci://registry.example.org/charts/a");
        assert!(Origin::parse("oci://1.dkr.ecr.us-east-1.amazonaws.com/a/b", None).unwrap().needs_account() && !registry.needs_account());
        assert!(Origin::parse("charts/a", None).unwrap().is_own());
        assert!(matches!(Origin::parse("a", Some("https://example.org/charts")).unwrap(), Origin::Repository { .. }));
        for (chart, repository) in [
            ("oci://registry.example.org", None),
            ("oci://registry.example.org/a:1.0.0", None),
            ("oci://registry.example.org/a@sha256:00", None),
            ("oci://registry.example.org/a", Some("https://example.org")),
            ("https://example.org/a.tgz", None),
            ("a", Some("http://example.org")),
        ] {
            assert_eq!(Origin::parse(chart, repository).unwrap_err().kind, FailureKind::Usage, "{chart}");
        }
    }

    #[test]
    fn an_image_is_no_chart() {
        let manifest = |kind: &str| {
            let part = |kind: &str| serde_json::json!({ "mediaType": kind, "digest": format!("sha256:{}", "a".repeat(64)), "size": 1 });
            let config = part("application/vnd.cncf.helm.config.v1+json");
            serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [part(kind)] }).to_string()
        };
        assert_eq!(chart_layer(manifest(CONTENT).as_bytes()).unwrap().as_str(), format!("sha256:{}", "a".repeat(64)));
        let image = manifest("application/vnd.oci.image.layer.v1.tar+gzip");
        assert_eq!(chart_layer(image.as_bytes()).unwrap_err(), "is an image and no chart");
    }
}
