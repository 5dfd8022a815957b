//! Pushes to a registry (ECR) by its HTTP API: asks for every blob first, sends what is missing in one piece each.
mod pull;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use oci_spec::image::{Descriptor, ImageManifest};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, header};
use tokio::time::Instant;
use url::Url;

use self::pull::Access;
use super::{Blob, Image, Uploaded};
use crate::{
    answer::{self, STALLED},
    aws::{Aws, ecr::RegistryLogin},
    failure::{Failure, FailureKind},
    ids::{ImageDigest, RepositoryName},
    permit::Permit,
    retry::{self, Limits, Missed},
};

/// Blobs in flight; what crane does.
const PARALLEL: usize = 4;
/// For a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// For an answer of a few kilobytes.
const ANSWER: Duration = Duration::from_secs(30);
/// The largest manifest: OCI Distribution Specification, "Pushing Manifests", names 4 megabytes as what every registry takes.
const MANIFEST: usize = 4 * 1024 * 1024;
/// The largest reason for a refusal: ECR's names a role, an action, a resource and the policy that denies it.
const REFUSAL: usize = 64 * 1024;
/// A slice of a blob; what moves is counted in these.
const SLICE: usize = 256 * 1024;
/// For something small.
const SMALL: Limits = Limits { attempts: 6, deadline: Duration::from_secs(120) };
/// For a blob.
const BLOB: Limits = Limits { attempts: 6, deadline: Duration::from_secs(900) };
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// What a push has done.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The image's digest.
    pub digest: ImageDigest,
    /// What was missing.
    pub uploaded: Uploaded,
}

/// A registry that we are logged in to, or that everybody may read.
pub struct Registry {
    http: reqwest::Client,
    base: Url,
    access: Access,
    permit: Arc<Permit>,
    /// Its own name, where it is reached at another address.
    meant: Option<String>,
}

impl Registry {
    /// The account's ECR. Behind AWS_ENDPOINT_URL(_ECR) it is reached at that address, which may stand for the registries of several regions.
    pub async fn connect(aws: &Aws) -> Result<Self, Failure> {
        let login = aws.registry_login().await?;
        let permit = aws.permit().clone();
        match aws.endpoint_url_of("ECR") {
            None => Self::new(&format!("https://{}", aws.registry_host()), login, permit),
            Some(base) => Ok(Self { meant: Some(aws.registry_host()), ..Self::new(&base, login, permit)? }),
        }
    }

    /// A registry at an address.
    pub fn new(base: &str, login: RegistryLogin, permit: Arc<Permit>) -> Result<Self, Failure> {
        Self::with(base, Access::Login(login), permit)
    }

    fn with(base: &str, access: Access, permit: Arc<Permit>) -> Result<Self, Failure> {
        let base = Url::parse(base).map_err(|e| Failure::usage(format!("{base} is no address of a registry")).because(e))?;
        let http = reqwest::Client::builder().connect_timeout(CONNECT).build();
        let http = http.map_err(|e| Failure::new(FailureKind::Internal, "no HTTP client").because(e))?;
        Ok(Self { http, base, access, permit, meant: None })
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        let url = self.base.join(path).map_err(|e| Failure::step(format!("{path} is no path of a registry")).because(e))?;
        Ok(self.named(url))
    }

    /// With the name of the registry that is meant, as containerd gives it to a mirror.
    fn named(&self, mut url: Url) -> Url {
        if let Some(name) = &self.meant {
            url.query_pairs_mut().append_pair("ns", name);
        }
        url
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.access.on(self.http.request(method, url))
    }

    /// Sends one request, once. What the registry could not take now, and what got no answer, was missed; `sending` is over all of it.
    async fn send(&self, what: &str, request: RequestBuilder, sending: impl Future<Output = ()>) -> Result<Response, Missed> {
        let unreachable =
            |e: reqwest::Error| Missed::unanswered(Failure::step(format!("{what}: the registry cannot be reached")), e.without_url());
        let request = request.build().map_err(unreachable)?;
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let _under_way = if reads { None } else { Some(self.permit.begin(what).map_err(|refused| refused.failure(what))?) };
        let response = tokio::select! {
            response = self.http.execute(request) => response.map_err(unreachable)?,
            () = sending => return Err(Missed::passing(Failure::timeout(format!("the registry: {what} does not go on"), STALLED), None)),
        };
        answer::taken(what, "the registry", response)
    }

    /// As [`Registry::send`], for a request and an answer of a few kilobytes.
    async fn send_small(&self, what: &str, request: RequestBuilder) -> Result<Response, Missed> {
        self.send(what, request.timeout(ANSWER), std::future::pending()).await
    }

    async fn expect(what: &str, response: Response, wanted: &[StatusCode]) -> Result<Response, Failure> {
        if wanted.contains(&response.status()) {
            return Ok(response);
        }
        let mut failure = Failure::step(format!("{what}: the registry answered {}", response.status()));
        match answer::body(what, response, REFUSAL).await {
            Ok(said) if said.is_empty() => {}
            Ok(said) => failure = failure.evidence(String::from_utf8_lossy(&said)),
            // The refusal is what is told; that its reason did not arrive is said beside it.
            Err(lost) => failure = failure.evidence(lost.failure.chain().join(": ")),
        }
        Err(failure)
    }

    /// The manifest that a tag or a digest leads to, and its media type; none if the registry has no such image.
    async fn manifest(&self, what: &str, repository: &RepositoryName, reference: &str) -> Result<Option<(Blob, String)>, Missed> {
        let url = self.url(&format!("/v2/{repository}/manifests/{reference}"))?;
        let response = self.read(what, url, MANIFESTS).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = Self::expect(what, response, &[StatusCode::OK]).await?;
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        let bytes = answer::body(what, response, MANIFEST).await?;
        let kind = kind.filter(|kind| kind.contains("manifest")).unwrap_or_else(|| "application/vnd.oci.image.manifest.v1+json".into());
        // Hashed here, not taken from a header: what the registry says it has is what is to be found out.
        Ok(Some((Blob::new(bytes)?, kind)))
    }

    /// The digest that a tag or a digest leads to; none if the registry has no such image.
    pub async fn find(&self, repository: &RepositoryName, reference: &str) -> Result<Option<ImageDigest>, Failure> {
        let what = format!("looking {repository}:{reference} up");
        let found = retry::within(&what, SMALL, || self.manifest(&what, repository, reference)).await?;
        Ok(found.map(|(manifest, _)| manifest.digest))
    }

    /// Sends a blob unless it is there; its bytes if it was not. Each attempt begins by asking: an earlier one may have arrived and only its
    /// answer been lost, and a place that was half filled can be filled neither on nor anew.
    async fn ensure_blob(&self, repository: &RepositoryName, blob: &Blob) -> Result<u64, Failure> {
        let what = format!("uploading blob {} to {repository}", blob.digest);
        let url = self.url(&format!("/v2/{repository}/blobs/{}", blob.digest))?;
        let start = self.url(&format!("/v2/{repository}/blobs/uploads/"))?;
        let (what, url, start) = (&what, &url, &start);
        let attempt = || async move {
            if self.is_there(what, url).await? {
                return Ok(0);
            }
            let response = self.send_small(what, self.request(Method::POST, start.clone()).header(header::CONTENT_LENGTH, 0)).await?;
            self.fill(what, blob, Self::expect(what, response, &[StatusCode::ACCEPTED]).await?).await?;
            Ok::<u64, Missed>(blob.bytes.len() as u64)
        };
        retry::within(what, BLOB, attempt).await
    }

    /// One PUT with everything into the place that the registry has named: ECR's chunked uploads are broken (aws/containers-roadmap 2831).
    async fn fill(&self, what: &str, blob: &Blob, named: Response) -> Result<(), Missed> {
        let location = named.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
        let location = location.ok_or_else(|| Failure::step(format!("{what}: the registry named no place for it")))?;
        let mut place = self.base.join(location).map_err(|e| Failure::step(what).because(e))?;
        // The place may carry the registry's public name; what is reached by another address stays reached by it.
        place = if place.host() == self.base.host() {
            self.named(place)
        } else {
            self.url(&format!("{}?{}", place.path(), place.query().unwrap_or_default()))?
        };
        place.query_pairs_mut().append_pair("digest", blob.digest.as_str());
        let moved = Arc::new(Mutex::new(Instant::now()));
        let request = self.request(Method::PUT, place).header(header::CONTENT_TYPE, "application/octet-stream");
        let request = request.header(header::CONTENT_LENGTH, blob.bytes.len()).body(slices(blob, moved.clone()));
        let response = self.send(what, request, stalled(&moved)).await?;
        Self::expect(what, response, &[StatusCode::CREATED, StatusCode::NO_CONTENT]).await?;
        Ok(())
    }

    /// Pushes an image under its digest and these tags; tags that lead to it already are left alone.
    pub async fn push(&self, repository: &RepositoryName, image: &Image, tags: &[String]) -> Result<Pushed, Failure> {
        let sent: Vec<u64> = stream::iter(image.blobs.clone())
            .map(|blob| async move { self.ensure_blob(repository, &blob).await })
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        for tag in tags {
            self.tag(repository, image, tag).await?;
        }
        let found = self.find(repository, image.manifest.digest.as_str()).await?;
        if found.as_ref() != Some(&image.manifest.digest) {
            return Err(Failure::verification(format!("{repository}@{} was pushed but cannot be read back", image.manifest.digest)));
        }
        let uploaded = Uploaded { blobs: sent.iter().filter(|bytes| **bytes > 0).count(), bytes: sent.iter().sum() };
        Ok(Pushed { digest: image.manifest.digest.clone(), uploaded })
    }

    /// Brings an image over from another registry under its digest and these tags; only blobs that are missing are read there.
    pub async fn copy(&self, from: &Self, repository: &RepositoryName, digest: &ImageDigest, tags: &[String]) -> Result<Uploaded, Failure> {
        let what = format!("reading {repository}@{digest}");
        let found = retry::within(&what, SMALL, || from.manifest(&what, repository, digest.as_str())).await?;
        let (manifest, media_type) = found.ok_or_else(|| Failure::step(format!("{what}: the registry has no such image")))?;
        let parts = parts(&manifest)?;
        let sent: Vec<u64> = stream::iter(parts)
            .map(|(part, size)| async move {
                if self.has_blob(repository, &part).await? {
                    return Ok(0);
                }
                self.ensure_blob(repository, &from.pull_blob(repository, &part, size).await?).await
            })
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        for tag in tags {
            self.put_manifest(repository, &media_type, &manifest, tag).await?;
        }
        if self.find(repository, digest.as_str()).await?.as_ref() != Some(digest) {
            return Err(Failure::verification(format!("{repository}@{digest} was copied but cannot be read back")));
        }
        Ok(Uploaded { blobs: sent.iter().filter(|bytes| **bytes > 0).count(), bytes: sent.iter().sum() })
    }

    async fn has_blob(&self, repository: &RepositoryName, digest: &ImageDigest) -> Result<bool, Failure> {
        let what = format!("looking for blob {digest} in {repository}");
        let url = self.url(&format!("/v2/{repository}/blobs/{digest}"))?;
        retry::within(&what, SMALL, || self.is_there(&what, &url)).await
    }

    async fn is_there(&self, what: &str, blob: &Url) -> Result<bool, Missed> {
        Ok(self.send_small(what, self.request(Method::HEAD, blob.clone())).await?.status() == StatusCode::OK)
    }

    async fn tag(&self, repository: &RepositoryName, image: &Image, tag: &str) -> Result<(), Failure> {
        self.put_manifest(repository, &image.media_type, &image.manifest, tag).await
    }

    /// Gives an image that is in the registry one more tag. A tag is never moved.
    pub async fn tag_digest(&self, repository: &RepositoryName, digest: &ImageDigest, tag: &str) -> Result<(), Failure> {
        let what = format!("reading {repository}@{digest}");
        let found = retry::within(&what, SMALL, || self.manifest(&what, repository, digest.as_str())).await?;
        let (manifest, kind) = found.ok_or_else(|| Failure::step(format!("{what}: the registry has no such image")))?;
        self.put_manifest(repository, &kind, &manifest, tag).await
    }

    /// Each attempt begins by asking what the tag leads to: to where it shall, if only an answer was lost; a registry whose tags never move refuses
    /// to be told so twice.
    async fn put_manifest(&self, repository: &RepositoryName, media_type: &str, manifest: &Blob, tag: &str) -> Result<(), Failure> {
        let what = format!("tagging {repository}:{tag}");
        let url = self.url(&format!("/v2/{repository}/manifests/{tag}"))?;
        let (what, url) = (&what, &url);
        let attempt = || async move {
            match self.manifest(what, repository, tag).await? {
                Some((found, _)) if found.digest == manifest.digest => return Ok(()),
                Some((found, _)) => {
                    let taken = format!("the tag {repository}:{tag} leads to {} already, and tags never move", found.digest);
                    let why = "the same sources gave another image: look for what is not reproducible in the build";
                    return Err(Failure::step(taken).next(why).into());
                }
                None => {}
            }
            let put = self.request(Method::PUT, url.clone()).header(header::CONTENT_TYPE, media_type).body(manifest.bytes.clone());
            let response = self.send_small(what, put).await?;
            Self::expect(what, response, &[StatusCode::CREATED, StatusCode::OK]).await?;
            Ok::<(), Missed>(())
        };
        retry::within(what, SMALL, attempt).await
    }
}

/// What a manifest names, configuration and layers, each with its size in bytes.
fn parts(manifest: &Blob) -> Result<Vec<(ImageDigest, usize)>, Failure> {
    let unreadable = || Failure::step(format!("the manifest {} cannot be read", manifest.digest));
    let content = ImageManifest::from_reader(&*manifest.bytes).map_err(|e| unreadable().because(e))?;
    let part = |part: &Descriptor| {
        let digest = ImageDigest::parse(part.digest().to_string()).map_err(|e| unreadable().because(e))?;
        Ok((digest, usize::try_from(part.size()).map_err(|e| unreadable().because(e))?))
    };
    content.layers().iter().chain([content.config()]).map(part).collect()
}

/// The blob in slices; `moved` is when the last one was taken to be sent.
fn slices(blob: &Blob, moved: Arc<Mutex<Instant>>) -> Body {
    let all = blob.bytes.clone();
    let starts = (0..all.len()).step_by(SLICE);
    Body::wrap_stream(stream::iter(starts).map(move |start| {
        *moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok::<_, Infallible>(all.slice(start..all.len().min(start + SLICE)))
    }))
}

/// Ends once nothing has moved for too long: the registry hashes what it was sent, but it does not take longer.
async fn stalled(moved: &Mutex<Instant>) {
    loop {
        let end = *moved.lock().unwrap_or_else(PoisonError::into_inner) + STALLED;
        if Instant::now() >= end {
            return;
        }
        tokio::time::sleep_until(end).await;
    }
}
