//! S3's messages: what was created, where. The first one after a notification is set up is a test event and means nothing.
use serde::Deserialize;

/// One created object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Bucket.
    pub bucket: String,
    /// Key, decoded.
    pub key: String,
    /// Version, where the bucket keeps versions.
    pub version: Option<String>,
}

/// A message that is none of S3's.
#[derive(Debug, thiserror::Error)]
pub enum NotificationError {
    /// Not JSON, or not of S3's form.
    #[error("not a notification of S3")]
    Form(#[from] serde_json::Error),
    /// JSON, but neither a test event nor records.
    #[error("not a notification of S3: it has no Records")]
    NoRecords,
    /// A key that is not UTF-8 once decoded.
    #[error("the object's key can't be decoded")]
    Key,
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "Event")]
    event: Option<String>,
    #[serde(rename = "Records")]
    records: Option<Vec<Record>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_name: String,
    s3: Entity,
}

#[derive(Deserialize)]
struct Entity {
    bucket: Bucket,
    object: Object,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    key: String,
    version_id: Option<String>,
}

/// The objects that a message speaks of; none for a test event.
pub fn created(body: &str) -> Result<Vec<Created>, NotificationError> {
    let message: Message = serde_json::from_str(body)?;
    if message.event.as_deref() == Some("s3:TestEvent") {
        return Ok(Vec::new());
    }
    let records = message.records.ok_or(NotificationError::NoRecords)?;
    let created = records.into_iter().filter(|record| record.event_name.trim_start_matches("s3:").starts_with("ObjectCreated:"));
    created
        .map(|record| {
            let key = form_decode(&record.s3.object.key).ok_or(NotificationError::Key)?;
            Ok(Created { bucket: record.s3.bucket.name, key, version: record.s3.object.version_id.filter(|version| !version.is_empty()) })
        })
        .collect()
}

/// S3 encodes keys as HTML forms do: a plus is a space.
fn form_decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_encoding::percent_decode_str(&text).decode_utf8().ok().map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_event_means_nothing() {
        let body = r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-01-01T00:00:00Z","Bucket":"b"}"#;
        assert_eq!(created(body).unwrap(), []);
    }

    #[test]
    fn keys_are_decoded_and_other_events_left_out() {
        let record = |name: &str, key: &str| {
            format!(r#"{{"eventName":"{name}","s3":{{"bucket":{{"name":"b"}},"object":{{"key":"{key}","versionId":"v1"}}}}}}"#)
        };
        let body = format!(
            r#"{{"Records":[{},{}]}}"#,
            record("ObjectCreated:Put", "uploads/a+b%2Bc%C3%A9"),
            record("ObjectRemoved:Delete", "uploads/x")
        );
        let expected = Created { bucket: "b".into(), key: "uploads/a b+cé".into(), version: Some("v1".into()) };
        assert_eq!(created(&body).unwrap(), [expected]);
    }

    #[test]
    fn what_is_not_s3s_is_an_error() {
        assert!(created("hello").is_err());
        assert!(matches!(created(r#"{"hello": "world"}"#), Err(NotificationError::NoRecords)));
        assert!(matches!(
            created(r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"%ff"}}}]}"#),
            Err(NotificationError::Key)
        ));
    }
}
