//! ECR: repositories, the token to push with, and images read back by digest.
use std::collections::BTreeMap;

use aws_sdk_ecr::types::{
    DescribeImagesFilter, EncryptionConfiguration, EncryptionType, ImageDetail, ImageFailureCode, ImageIdentifier,
    ImageScanningConfiguration, ImageTagMutability, Tag, TagStatus,
};
use secrecy::SecretString;

use super::{Aws, error};
use crate::{
    failure::Failure,
    ids::{ImageDigest, RepositoryName},
    redact,
};

/// A repository, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Its name.
    pub name: RepositoryName,
    /// HOST/NAME, as images in manifests name it.
    pub uri: String,
    /// Whether a tag, once pushed, can never move.
    pub immutable_tags: bool,
    /// Whether images are scanned when pushed.
    pub scans_on_push: bool,
}

/// What `docker login` would take.
#[derive(Clone, Debug)]
pub struct RegistryLogin {
    /// Always `AWS`.
    pub username: String,
    /// Good for twelve hours.
    pub password: SecretString,
    /// With https://.
    pub endpoint: String,
}

/// An image in a repository.
#[derive(Clone, Debug)]
pub struct EcrImage {
    /// Its manifest's digest.
    pub digest: ImageDigest,
    /// Tags that point at it.
    pub tags: Vec<String>,
    /// Bytes, compressed.
    pub size: u64,
    /// When it came, in milliseconds since 1970.
    pub pushed_at: i64,
}

impl Repository {
    /// What somebody has changed of it, as a plan shows it.
    pub fn weakened(&self) -> Vec<String> {
        let settings = [
            (self.immutable_tags, "image_tag_mutability: MUTABLE -> IMMUTABLE"),
            (self.scans_on_push, "image_scanning_configuration.scan_on_push: false -> true"),
        ];
        settings.into_iter().filter(|(right, _)| !right).map(|(_, line)| line.to_owned()).collect()
    }
}

fn image_of(found: ImageDetail) -> Option<EcrImage> {
    Some(EcrImage {
        digest: found.image_digest.and_then(|digest| ImageDigest::parse(digest).ok())?,
        tags: found.image_tags.unwrap_or_default(),
        size: found.image_size_in_bytes.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        pushed_at: found.image_pushed_at.and_then(|time| time.to_millis().ok()).unwrap_or_default(),
    })
}

impl Aws {
    /// The host of this account's registry in this region.
    pub fn registry_host(&self) -> String {
        format!("{}.dkr.ecr.{}.amazonaws.com", self.account(), self.region())
    }

    /// Describes a repository; none if there is none.
    pub async fn find_repository(&self, name: &RepositoryName) -> Result<Option<Repository>, Failure> {
        let answer = match self.ecr().describe_repositories().repository_names(name.as_str()).send().await {
            Ok(answer) => answer,
            Err(e) if e.as_service_error().is_some_and(|e| e.is_repository_not_found_exception()) => return Ok(None),
            Err(e) => return Err(self.failed("ecr:DescribeRepositories", name.as_str(), e)),
        };
        let Some(found) = answer.repositories.unwrap_or_default().into_iter().next() else { return Ok(None) };
        Ok(Some(Repository {
            name: name.clone(),
            uri: found.repository_uri.unwrap_or_else(|| format!("{}/{name}", self.registry_host())),
            immutable_tags: found.image_tag_mutability == Some(ImageTagMutability::Immutable),
            scans_on_push: found.image_scanning_configuration.is_some_and(|c| c.scan_on_push),
        }))
    }

    /// Makes the repository if need be and puts right what differs: immutable tags, scan on push.
    pub async fn ensure_repository(&self, name: &RepositoryName, tags: &BTreeMap<String, String>) -> Result<Repository, Failure> {
        if let Some(found) = self.find_repository(name).await? {
            return self.correct_repository(found).await;
        }
        let mut request = self
            .ecr()
            .create_repository()
            .repository_name(name.as_str())
            .image_tag_mutability(ImageTagMutability::Immutable)
            .image_scanning_configuration(ImageScanningConfiguration::builder().scan_on_push(true).build());
        if let Ok(encryption) = EncryptionConfiguration::builder().encryption_type(EncryptionType::Aes256).build() {
            request = request.encryption_configuration(encryption);
        }
        for (key, value) in tags {
            if let Ok(tag) = Tag::builder().key(key).value(value).build() {
                request = request.tags(tag);
            }
        }
        match request.send().await {
            Ok(_) => {}
            // Somebody was faster, or an earlier attempt's answer was lost.
            Err(e) if error::code(&e) == Some("RepositoryAlreadyExistsException") => {}
            Err(e) => return Err(self.failed("ecr:CreateRepository", name.as_str(), e)),
        }
        match self.find_repository(name).await? {
            Some(made) => self.correct_repository(made).await,
            None => Err(Failure::verification(format!("the repository {name} was made but cannot be found"))),
        }
    }

    async fn correct_repository(&self, mut found: Repository) -> Result<Repository, Failure> {
        let name = found.name.as_str();
        if !found.immutable_tags {
            let request = self.ecr().put_image_tag_mutability().repository_name(name).image_tag_mutability(ImageTagMutability::Immutable);
            request.send().await.map_err(|e| self.failed("ecr:PutImageTagMutability", name, e))?;
        }
        if !found.scans_on_push {
            let scanning = ImageScanningConfiguration::builder().scan_on_push(true).build();
            let request = self.ecr().put_image_scanning_configuration().repository_name(name).image_scanning_configuration(scanning);
            request.send().await.map_err(|e| self.failed("ecr:PutImageScanningConfiguration", name, e))?;
        }
        (found.immutable_tags, found.scans_on_push) = (true, true);
        Ok(found)
    }

    /// Whether the repository has this lifecycle policy, a JSON document, and no other.
    pub async fn has_lifecycle_policy(&self, name: &RepositoryName, policy: &serde_json::Value) -> Result<bool, Failure> {
        let current = match self.ecr().get_lifecycle_policy().repository_name(name.as_str()).send().await {
            Ok(answer) => answer.lifecycle_policy_text.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok()),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_lifecycle_policy_not_found_exception()) => None,
            Err(e) => return Err(self.failed("ecr:GetLifecyclePolicy", name.as_str(), e)),
        };
        Ok(current.as_ref() == Some(policy))
    }

    /// Sets the repository's lifecycle policy, a JSON document, unless it is the same already.
    pub async fn ensure_lifecycle_policy(&self, name: &RepositoryName, policy: &serde_json::Value) -> Result<(), Failure> {
        if self.has_lifecycle_policy(name, policy).await? {
            return Ok(());
        }
        let request = self.ecr().put_lifecycle_policy().repository_name(name.as_str()).lifecycle_policy_text(policy.to_string());
        request.send().await.map(drop).map_err(|e| self.failed("ecr:PutLifecyclePolicy", name.as_str(), e))
    }

    /// A login for this account's registry.
    pub async fn registry_login(&self) -> Result<RegistryLogin, Failure> {
        use base64::Engine;
        let answer =
            self.ecr().get_authorization_token().send().await.map_err(|e| self.failed("ecr:GetAuthorizationToken", "the registry", e))?;
        let data = answer.authorization_data.unwrap_or_default().into_iter().next();
        let broken = || Failure::step("ecr:GetAuthorizationToken gave no token");
        let data = data.ok_or_else(broken)?;
        let decoded =
            base64::engine::general_purpose::STANDARD.decode(data.authorization_token.ok_or_else(broken)?).map_err(|_| broken())?;
        let text = String::from_utf8(decoded).map_err(|_| broken())?;
        let (username, password) = text.split_once(':').ok_or_else(broken)?;
        Ok(RegistryLogin {
            username: username.to_owned(),
            password: redact::secret(password.to_owned()),
            endpoint: data.proxy_endpoint.unwrap_or_else(|| format!("https://{}", self.registry_host())),
        })
    }

    /// The image with this digest; none if there is none.
    pub async fn image_by_digest(&self, repository: &RepositoryName, digest: &ImageDigest) -> Result<Option<EcrImage>, Failure> {
        self.image(repository, ImageIdentifier::builder().image_digest(digest.as_str()).build()).await
    }

    /// The image that a tag points at; none if there is none.
    pub async fn image_by_tag(&self, repository: &RepositoryName, tag: &str) -> Result<Option<EcrImage>, Failure> {
        self.image(repository, ImageIdentifier::builder().image_tag(tag).build()).await
    }

    async fn image(&self, repository: &RepositoryName, id: ImageIdentifier) -> Result<Option<EcrImage>, Failure> {
        let answer = match self.ecr().describe_images().repository_name(repository.as_str()).image_ids(id).send().await {
            Ok(answer) => answer,
            Err(e) if matches!(error::code(&e), Some("ImageNotFoundException" | "RepositoryNotFoundException")) => return Ok(None),
            Err(e) => return Err(self.failed("ecr:DescribeImages", repository.as_str(), e)),
        };
        Ok(answer.image_details.unwrap_or_default().into_iter().next().and_then(image_of))
    }

    /// Every image of a repository that has a tag; none if there is no such repository.
    pub async fn tagged_images(&self, repository: &RepositoryName) -> Result<Vec<EcrImage>, Failure> {
        let filter = DescribeImagesFilter::builder().tag_status(TagStatus::Tagged).build();
        let request = self.ecr().describe_images().repository_name(repository.as_str()).filter(filter);
        let found: Result<Vec<_>, _> = request.into_paginator().items().send().collect().await;
        match found {
            Ok(found) => Ok(found.into_iter().filter_map(image_of).collect()),
            Err(e) if error::code(&e) == Some("RepositoryNotFoundException") => Ok(Vec::new()),
            Err(e) => Err(self.failed("ecr:DescribeImages", repository.as_str(), e)),
        }
    }

    /// Takes one tag away. The image goes with its last tag: that is the caller's to know.
    pub async fn remove_tag(&self, repository: &RepositoryName, tag: &str) -> Result<(), Failure> {
        let on = format!("{repository}:{tag}");
        let id = ImageIdentifier::builder().image_tag(tag).build();
        let answer = self.ecr().batch_delete_image().repository_name(repository.as_str()).image_ids(id).send().await;
        let answer = answer.map_err(|e| self.failed("ecr:BatchDeleteImage", &on, e))?;
        match answer.failures().iter().find(|failure| failure.failure_code() != Some(&ImageFailureCode::ImageNotFound)) {
            None => Ok(()),
            Some(failure) => {
                Err(Failure::step(format!("ecr:BatchDeleteImage on {on}: {}", failure.failure_reason().unwrap_or("no reason was given"))))
            }
        }
    }
}
