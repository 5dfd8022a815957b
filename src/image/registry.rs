//! Pushes to a registry (ECR) by its HTTP API: asks for every blob first, sends what is missing in one piece each.
use std::{sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use secrecy::ExposeSecret;
use url::Url;

use super::{Blob, Image, Uploaded};
use crate::{
    aws::{Aws, ecr::RegistryLogin},
    failure::{Failure, FailureKind},
    ids::{ImageDigest, RepositoryName},
    permit::Permit,
};

/// Blobs in flight; what crane does.
const PARALLEL: usize = 4;
/// A blob must be through in this time.
const BLOB: Duration = Duration::from_secs(900);
const ATTEMPTS: usize = 5;

/// What a push has done.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The image's digest.
    pub digest: ImageDigest,
    /// What was missing.
    pub uploaded: Uploaded,
}

/// A registry that we are logged in to.
pub struct Registry {
    http: reqwest::Client,
    base: Url,
    login: RegistryLogin,
    permit: Arc<Permit>,
}

impl Registry {
    /// The account's ECR. Behind AWS_ENDPOINT_URL(_ECR) it is reached at that address.
    pub async fn connect(aws: &Aws) -> Result<Self, Failure> {
        let login = aws.registry_login().await?;
        let base = aws.endpoint_url_of("ECR").unwrap_or_else(|| format!("https://{}", aws.registry_host()));
        Self::new(&base, login, aws.permit().clone())
    }

    /// A registry at an address.
    pub fn new(base: &str, login: RegistryLogin, permit: Arc<Permit>) -> Result<Self, Failure> {
        let base = Url::parse(base).map_err(|e| Failure::usage(format!("{base} is no address of a registry")).because(e))?;
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).timeout(BLOB).build();
        let http = http.map_err(|e| Failure::new(FailureKind::Internal, "no HTTP client").because(e))?;
        Ok(Self { http, base, login, permit })
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        self.base.join(path).map_err(|e| Failure::step(format!("{path} is no path of a registry")).because(e))
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url).basic_auth(&self.login.username, Some(self.login.password.expose_secret()))
    }

    /// Sends a request, again after a pause where that may help.
    async fn send(&self, what: &str, request: impl Fn() -> RequestBuilder) -> Result<Response, Failure> {
        let attempt = || async {
            let unreachable = |e: reqwest::Error| Failure::step(format!("{what}: the registry cannot be reached")).because(e.without_url());
            let request = request().build().map_err(unreachable)?;
            let reads = matches!(*request.method(), Method::GET | Method::HEAD);
            let _under_way = if reads { None } else { Some(self.permit.begin(what).map_err(|refused| refused.failure(what))?) };
            match self.http.execute(request).await {
                Ok(response) if response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS => {
                    Err(Failure::step(format!("{what}: the registry answered {}", response.status())))
                }
                Ok(response) => Ok(response),
                Err(e) => Err(unreachable(e)),
            }
        };
        let pauses = ExponentialBuilder::default().with_min_delay(Duration::from_millis(200)).with_max_times(ATTEMPTS).with_jitter();
        attempt.retry(pauses).when(|failure| failure.kind == FailureKind::Step).await
    }

    async fn expect(what: &str, response: Response, wanted: &[StatusCode]) -> Result<Response, Failure> {
        if wanted.contains(&response.status()) {
            return Ok(response);
        }
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        let mut failure = Failure::step(format!("{what}: the registry answered {status}"));
        if !text.is_empty() {
            failure = failure.evidence(text.chars().take(400).collect::<String>());
        }
        Err(failure)
    }

    /// The digest that a tag or a digest leads to; none if the registry has no such image.
    pub async fn find(&self, repository: &RepositoryName, reference: &str) -> Result<Option<ImageDigest>, Failure> {
        let what = format!("looking {repository}:{reference} up");
        let url = self.url(&format!("/v2/{repository}/manifests/{reference}"))?;
        let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
        let response = self.send(&what, || self.request(Method::GET, url.clone()).header(header::ACCEPT, accept)).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = Self::expect(&what, response, &[StatusCode::OK]).await?;
        // Hashed here, not taken from a header: what the registry says it has is what is to be found out.
        let bytes = response.bytes().await.map_err(|e| Failure::step(&what).because(e.without_url()))?;
        super::digest_of(&bytes).map(Some)
    }

    async fn has_blob(&self, repository: &RepositoryName, blob: &Blob) -> Result<bool, Failure> {
        let what = format!("asking for blob {} of {repository}", blob.digest);
        let url = self.url(&format!("/v2/{repository}/blobs/{}", blob.digest))?;
        let response = self.send(&what, || self.request(Method::HEAD, url.clone())).await?;
        Ok(response.status() == StatusCode::OK)
    }

    /// One POST for a place, one PUT with everything: ECR's chunked uploads are broken (aws/containers-roadmap 2831).
    async fn upload(&self, repository: &RepositoryName, blob: &Blob) -> Result<(), Failure> {
        let what = format!("uploading blob {} to {repository}", blob.digest);
        let start = self.url(&format!("/v2/{repository}/blobs/uploads/"))?;
        let response = self.send(&what, || self.request(Method::POST, start.clone()).header(header::CONTENT_LENGTH, 0)).await?;
        let response = Self::expect(&what, response, &[StatusCode::ACCEPTED]).await?;
        let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
        let location = location.ok_or_else(|| Failure::step(format!("{what}: the registry named no place for it")))?;
        let mut place = self.base.join(location).map_err(|e| Failure::step(&what).because(e))?;
        // The place may carry the registry's public name; what is reached by another address stays reached by it.
        if place.host() != self.base.host() {
            place = self.url(&format!("{}?{}", place.path(), place.query().unwrap_or_default()))?;
        }
        place.query_pairs_mut().append_pair("digest", blob.digest.as_str());
        let put = || {
            let request = self.request(Method::PUT, place.clone()).header(header::CONTENT_TYPE, "application/octet-stream");
            request.header(header::CONTENT_LENGTH, blob.bytes.len()).body(blob.bytes.clone())
        };
        let response = self.send(&what, put).await?;
        Self::expect(&what, response, &[StatusCode::CREATED, StatusCode::NO_CONTENT]).await.map(drop)
    }

    /// Pushes an image under its digest and these tags; tags that lead to it already are left alone.
    pub async fn push(&self, repository: &RepositoryName, image: &Image, tags: &[String]) -> Result<Pushed, Failure> {
        let sent: Vec<u64> = stream::iter(image.blobs.clone())
            .map(|blob| async move {
                if self.has_blob(repository, &blob).await? {
                    return Ok::<_, Failure>(0);
                }
                self.upload(repository, &blob).await?;
                Ok(blob.bytes.len() as u64)
            })
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

    async fn tag(&self, repository: &RepositoryName, image: &Image, tag: &str) -> Result<(), Failure> {
        self.put_manifest(repository, &image.media_type, &image.manifest, tag).await
    }

    /// Gives an image that is in the registry one more tag. A tag is never moved.
    pub async fn tag_digest(&self, repository: &RepositoryName, digest: &ImageDigest, tag: &str) -> Result<(), Failure> {
        let what = format!("reading {repository}@{digest}");
        let url = self.url(&format!("/v2/{repository}/manifests/{digest}"))?;
        let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
        let response = self.send(&what, || self.request(Method::GET, url.clone()).header(header::ACCEPT, accept)).await?;
        let response = Self::expect(&what, response, &[StatusCode::OK]).await?;
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        let bytes = response.bytes().await.map_err(|e| Failure::step(&what).because(e.without_url()))?;
        let manifest = Blob::new(bytes.to_vec())?;
        let kind = kind.filter(|kind| kind.contains("manifest")).unwrap_or_else(|| "application/vnd.oci.image.manifest.v1+json".into());
        self.put_manifest(repository, &kind, &manifest, tag).await
    }

    async fn put_manifest(&self, repository: &RepositoryName, media_type: &str, manifest: &Blob, tag: &str) -> Result<(), Failure> {
        match self.find(repository, tag).await? {
            Some(found) if found == manifest.digest => return Ok(()),
            Some(found) => {
                return Err(Failure::step(format!("the tag {repository}:{tag} leads to {found} already, and tags never move"))
                    .next("the same sources gave another image: look for what is not reproducible in the build"));
            }
            None => {}
        }
        let what = format!("tagging {repository}:{tag}");
        let url = self.url(&format!("/v2/{repository}/manifests/{tag}"))?;
        let put = || self.request(Method::PUT, url.clone()).header(header::CONTENT_TYPE, media_type).body(manifest.bytes.clone());
        let response = self.send(&what, put).await?;
        Self::expect(&what, response, &[StatusCode::CREATED, StatusCode::OK]).await.map(drop)
    }
}
