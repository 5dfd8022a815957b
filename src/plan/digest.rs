//! Digests over JSON: the same content gives the same digest, whatever the order of its keys.
use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::failure::{Failure, FailureKind};

/// `sha256:` and 64 hexadecimal digits over the canonical form of `value`.
pub fn of(value: &impl Serialize) -> Result<String, Failure> {
    let value =
        serde_json::to_value(value).map_err(|error| Failure::new(FailureKind::Internal, "cannot be digested: not JSON").because(error))?;
    let mut text = String::new();
    canonical(&value, &mut text);
    Ok(of_bytes(text.as_bytes()))
}

/// The digest of bytes.
pub fn of_bytes(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Keys sorted, no spaces; numbers and texts as serde_json writes them.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                canonical(item, text);
            }
            text.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (at, (key, item)) in entries.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                push(text, &Value::String(key.clone()));
                text.push(':');
                canonical(item, text);
            }
            text.push('}');
        }
        leaf => push(text, leaf),
    }
}

fn push(text: &mut String, leaf: &Value) {
    // Writing into a String cannot fail.
    write!(text, "{leaf}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_keys_does_not_matter_and_everything_else_does() {
        assert_eq!(
            of(&json!({ "a": 1, "b": { "c": [1, 2], "d": "x" } })).unwrap(),
            of(&json!({ "b": { "d": "x", "c": [1, 2] }, "a": 1 })).unwrap()
        );
        assert_ne!(of(&json!({ "a": [1, 2] })).unwrap(), of(&json!({ "a": [2, 1] })).unwrap());
        assert_ne!(of(&json!({ "a": "1" })).unwrap(), of(&json!({ "a": 1 })).unwrap());
    }
}
