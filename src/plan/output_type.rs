//! The types that a plan file gives to outputs: string, number, bool, list(T), map(T), any.
use std::{fmt, str::FromStr};

use serde_json::Value;

/// A declared type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputType {
    /// Text.
    String,
    /// Any number.
    Number,
    /// True or false.
    Bool,
    /// Each of the same type.
    List(Box<OutputType>),
    /// By any key, each of the same type.
    Map(Box<OutputType>),
    /// Not checked.
    Any,
}

/// A text that is none of the types.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no type; types are string, number, bool, list(T), map(T), any")]
pub struct NoType(String);

impl FromStr for OutputType {
    type Err = NoType;
    fn from_str(text: &str) -> Result<Self, NoType> {
        let inner = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        match text {
            "string" => Ok(Self::String),
            "number" => Ok(Self::Number),
            "bool" => Ok(Self::Bool),
            "any" => Ok(Self::Any),
            _ => match (inner("list"), inner("map")) {
                (Some(of), _) => Ok(Self::List(Box::new(of.trim().parse()?))),
                (_, Some(of)) => Ok(Self::Map(Box::new(of.trim().parse()?))),
                _ => Err(NoType(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for OutputType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String => f.write_str("string"),
            Self::Number => f.write_str("number"),
            Self::Bool => f.write_str("bool"),
            Self::Any => f.write_str("any"),
            Self::List(of) => write!(f, "list({of})"),
            Self::Map(of) => write!(f, "map({of})"),
        }
    }
}

impl OutputType {
    /// Whether a value is of this type.
    pub fn fits(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Any, _) | (Self::String, Value::String(_)) | (Self::Number, Value::Number(_)) | (Self::Bool, Value::Bool(_)) => true,
            (Self::List(of), Value::Array(items)) => items.iter().all(|item| of.fits(item)),
            (Self::Map(of), Value::Object(map)) => map.values().all(|item| of.fits(item)),
            _ => false,
        }
    }
    /// The type behind a key or a position, if there can be one.
    pub fn within(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(of) => Some(of),
            Self::List(of) if key.parse::<usize>().is_ok() => Some(of),
            Self::Any => Some(self),
            _ => None,
        }
    }
    /// Whether it can be a part of a longer text.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::String | Self::Number | Self::Bool | Self::Any)
    }
    /// JSON schema's word for it; nothing for `any`.
    pub fn schema_word(&self) -> Option<&'static str> {
        match self {
            Self::String => Some("string"),
            Self::Number => Some("number"),
            Self::Bool => Some("boolean"),
            Self::List(_) => Some("array"),
            Self::Map(_) => Some("object"),
            Self::Any => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_writes_and_checks() {
        for text in ["string", "list(string)", "map(list(number))", "any"] {
            assert_eq!(text.parse::<OutputType>().unwrap().to_string(), text);
        }
        assert!("map(list(number))".parse::<OutputType>().unwrap().fits(&json!({ "a": [1, 2] })));
        assert!(!"map(list(number))".parse::<OutputType>().unwrap().fits(&json!({ "a": ["1"] })));
        assert!("list".parse::<OutputType>().is_err());
        assert!("list(strng)".parse::<OutputType>().unwrap_err().to_string().contains("strng"));
    }
}
