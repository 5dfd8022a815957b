//! KMS: keys by their tags. A key has no name of our choice, and its alias comes after it.
use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Aws, signed::Answer};
use crate::{failure::Failure, ids::KmsKeyId};

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Keys {
    keys: Vec<Key>,
    next_marker: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    key_id: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Tags {
    tags: Vec<Tag>,
    next_marker: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    tag_key: String,
    tag_value: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Description {
    key_metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Metadata {
    arn: String,
    key_state: String,
    description: String,
}

impl Aws {
    /// Keys in use that carry every one of these tags, with this description.
    pub async fn kms_keys(&self, tags: &BTreeMap<String, String>, description: &str) -> Result<Vec<String>, Failure> {
        let mut found = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let page: Keys = self.kms("ListKeys", &with_marker(json!({}), marker.as_deref())).await?.unwrap_or_default();
            for Key { key_id } in page.keys {
                // A key whose tags are denied to us is somebody else's.
                let Some(carried) = self.kms_tags(&key_id).await? else { continue };
                if !tags.iter().all(|(key, value)| carried.get(key) == Some(value)) {
                    continue;
                }
                let key: Description = self.kms("DescribeKey", &json!({"KeyId": key_id})).await?.unwrap_or_default();
                if key.key_metadata.key_state != "PendingDeletion" && key.key_metadata.description == description {
                    found.push(key_id);
                }
            }
            marker = page.next_marker.filter(|marker| !marker.is_empty());
            if marker.is_none() {
                return Ok(found);
            }
        }
    }

    /// The ARN of a key that can be used; none if there is none of that id or alias in this region, or if it is disabled or denied to us.
    pub async fn usable_kms_key(&self, key: &KmsKeyId) -> Result<Option<String>, Failure> {
        let found: Option<Description> = self.kms("DescribeKey", &json!({"KeyId": key.as_str()})).await?;
        Ok(found.map(|found| found.key_metadata).filter(|key| key.key_state == "Enabled").map(|key| key.arn))
    }

    async fn kms_tags(&self, key: &str) -> Result<Option<BTreeMap<String, String>>, Failure> {
        let mut carried = BTreeMap::new();
        let mut marker: Option<String> = None;
        loop {
            let asked = with_marker(json!({"KeyId": key}), marker.as_deref());
            let Some(page) = self.kms::<Tags>("ListResourceTags", &asked).await? else { return Ok(None) };
            carried.extend(page.tags.into_iter().map(|tag| (tag.tag_key, tag.tag_value)));
            marker = page.next_marker.filter(|marker| !marker.is_empty());
            if marker.is_none() {
                return Ok(Some(carried));
            }
        }
    }

    /// None for a key that is denied to us, or that has gone in the meantime.
    async fn kms<T: DeserializeOwned>(&self, action: &str, asked: &Value) -> Result<Option<T>, Failure> {
        let full = format!("kms:{action}");
        match self.ask_json("kms", &format!("TrentService.{action}"), asked).await? {
            Answer::Done(text) => {
                serde_json::from_str(&text).map(Some).map_err(|e| Failure::step(format!("{full} could not be read")).because(e))
            }
            Answer::Refused { code, .. } if action != "ListKeys" && ["AccessDeniedException", "NotFoundException"].contains(&&*code) => {
                Ok(None)
            }
            Answer::Refused { status, code, message } => Err(self.refused(&full, status, &code, &message)),
        }
    }
}

fn with_marker(mut asked: Value, marker: Option<&str>) -> Value {
    if let Some(marker) = marker {
        asked["Marker"] = json!(marker);
    }
    asked
}
