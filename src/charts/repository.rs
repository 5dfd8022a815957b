//! A classic chart repository: an index.yaml that says where each version's packed chart is. What the index says of digests is not believed.
use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use url::Url;

use super::packed;
use crate::{
    answer,
    failure::{Failure, FailureKind},
    image::Blob,
    retry::{self, Limits, Missed},
};

/// A large one (prometheus-community's) has some ten mebibytes.
const INDEX: usize = 64 * 1024 * 1024;
const CONNECT: Duration = Duration::from_secs(10);
const LIMITS: Limits = Limits { attempts: 4, deadline: Duration::from_secs(180) };

#[derive(Deserialize)]
struct Index {
    entries: BTreeMap<String, Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    version: String,
    #[serde(default)]
    urls: Vec<String>,
}

/// The packed chart of one version.
pub(super) async fn find(base: &Url, name: &str, version: &str) -> Result<Blob, Failure> {
    let http = reqwest::Client::builder().connect_timeout(CONNECT).build();
    let http = http.map_err(|e| Failure::new(FailureKind::Internal, "no HTTP client").because(e))?;
    // Without the slash, `join` would take the last name away.
    let base = Url::parse(&format!("{}/", base.as_str().trim_end_matches('/'))).map_err(|e| nowhere(base, e))?;
    let index = get(&http, &base.join("index.yaml").map_err(|e| nowhere(&base, e))?, INDEX).await?;
    let link = link(&index, name, version).map_err(|why| Failure::usage(format!("{base}index.yaml: {why}")))?;
    let link = base.join(&link).map_err(|e| nowhere(&base, e))?;
    Blob::new(get(&http, &link, packed::LARGEST).await?)
}

fn nowhere(base: &Url, error: url::ParseError) -> Failure {
    Failure::usage(format!("{base} leads to no address")).because(error)
}

fn link(index: &[u8], name: &str, version: &str) -> Result<String, String> {
    let options = serde_saphyr::options! { budget: None };
    let index: Index = serde_saphyr::from_slice_with_options(index, options).map_err(|e| format!("is no index of charts: {e}"))?;
    let entries = index.entries.get(name).ok_or_else(|| format!("there is no chart {name}"))?;
    let entry = entries.iter().find(|entry| entry.version == version).ok_or_else(|| {
        let newest: Vec<&str> = entries.iter().take(3).map(|entry| entry.version.as_str()).collect();
        format!("there is no {name} {version}; its first versions are {}", newest.join(", "))
    })?;
    entry.urls.first().cloned().ok_or_else(|| format!("{name} {version} has no address"))
}

async fn get(http: &reqwest::Client, url: &Url, most: usize) -> Result<Vec<u8>, Failure> {
    let what = format!("fetching {url}");
    let attempt = || async {
        let unanswered = |e: reqwest::Error| Missed::unanswered(Failure::step(format!("{what}: no answer")), e.without_url());
        let response = http.get(url.clone()).send().await.map_err(unanswered)?;
        let response = answer::taken(&what, "the repository", response)?;
        if !response.status().is_success() {
            return Err(Failure::step(format!("{what}: the repository answered {}", response.status())).into());
        }
        answer::body(&what, response, most).await
    };
    retry::within(&what, LIMITS, attempt).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn the_index_says_where_a_version_is() {
        let index = b"apiVersion: v1\nentries:\n  a:\n    - version: 2.0.0\n      digest: 00\n      urls: [https://example.org/a-2.tgz]\n    - version: 1.0.0\n      urls: [a-1.tgz]\n";
        assert_eq!(link(index, "a", "1.0.0").unwrap(), "a-1.tgz");
        assert_eq!(link(index, "a", "3.0.0").unwrap_err(), "there is no a 3.0.0; its first versions are 2.0.0, 1.0.0");
        assert!(link(index, "b", "1.0.0").is_err());
        assert!(link(b"<html>", "b", "1.0.0").unwrap_err().contains("no index"));
    }
}
