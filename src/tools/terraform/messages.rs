//! terraform's machine-readable UI: one JSON object a line.
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::failure::LeftBehind;

/// A line that deployctl does something with.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// Work on a resource begins.
    ApplyStart {
        /// On which, and what.
        hook: Hook,
    },
    /// Work on a resource goes on.
    ApplyProgress {
        /// On which, and what.
        hook: Hook,
    },
    /// A resource is done.
    ApplyComplete {
        /// Which, and what.
        hook: Hook,
    },
    /// A resource failed.
    ApplyErrored {
        /// Which, and what.
        hook: Hook,
    },
    /// A change that the plan holds.
    PlannedChange {
        /// Which.
        change: PlannedChange,
    },
    /// How much a plan or an apply changes.
    ChangeSummary {
        /// The numbers.
        changes: Summary,
    },
    /// An error or a warning.
    Diagnostic {
        /// It.
        diagnostic: Diagnostic,
    },
    /// The outputs, at the end.
    Outputs {
        /// By name.
        outputs: BTreeMap<String, Output>,
    },
    /// Reading a resource begins.
    RefreshStart {
        /// Which.
        hook: Hook,
    },
    /// Anything else.
    #[serde(other)]
    Other,
}

/// A resource and what happens to it.
#[derive(Clone, Debug, Deserialize)]
pub struct Hook {
    /// It.
    pub resource: Resource,
    /// As in `create`.
    #[serde(default)]
    pub action: String,
    /// Seconds since it began.
    #[serde(default)]
    pub elapsed_seconds: f64,
}

/// A resource's address.
#[derive(Clone, Debug, Deserialize)]
pub struct Resource {
    /// As in `module.vpc.aws_vpc.this[0]`.
    pub addr: String,
}

/// A change that the plan holds.
#[derive(Clone, Debug, Deserialize)]
pub struct PlannedChange {
    /// Of what.
    pub resource: Resource,
    /// As in `create`.
    #[serde(default)]
    pub action: String,
}

/// How much is changed.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Made.
    pub add: u64,
    /// Changed.
    pub change: u64,
    /// Taken over.
    pub import: u64,
    /// Deleted.
    pub remove: u64,
}

/// An error or a warning.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Diagnostic {
    /// `error` or `warning`.
    pub severity: String,
    /// One line.
    pub summary: String,
    /// More lines.
    pub detail: String,
    /// The resource, if it is about one.
    pub address: Option<String>,
    /// The place in the configuration.
    pub range: Option<Range>,
}

/// A place in the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Range {
    /// The file.
    pub filename: String,
    /// Where it starts.
    pub start: Position,
}

/// A position in a file.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Position {
    /// Counted from 1.
    pub line: u64,
}

/// An output; a sensitive one has no value here.
#[derive(Clone, Debug, Deserialize)]
pub struct Output {
    /// Masked in this stream.
    #[serde(default)]
    pub sensitive: bool,
    /// Its value, after an apply.
    #[serde(default)]
    pub value: Option<Value>,
}

/// What an apply has done, as far as it told.
#[derive(Clone, Debug, Default)]
pub struct Apply {
    /// Addresses of what is done.
    pub completed: Vec<String>,
    /// Addresses of what was begun and not ended.
    pub in_flight: BTreeSet<String>,
    /// Outputs that are no secret.
    pub outputs: BTreeMap<String, Value>,
}

impl Apply {
    /// What a failed apply has left behind.
    pub fn left_behind(&self) -> LeftBehind {
        if !self.in_flight.is_empty() {
            return LeftBehind::Unknown(self.in_flight.iter().cloned().collect::<Vec<_>>().join(", "));
        }
        if self.completed.is_empty() { LeftBehind::Nothing } else { LeftBehind::Partial(self.completed.clone()) }
    }
}

/// Collects a command's messages.
#[derive(Clone, Debug, Default)]
pub struct Ui {
    /// Its errors.
    pub errors: Vec<Diagnostic>,
    /// What it has applied.
    pub apply: Apply,
    /// Lines that are no JSON: terraform crashed, or a wrapper talks.
    pub noise: Vec<String>,
}

impl Ui {
    /// Takes a line of standard output.
    pub fn take(&mut self, line: &[u8]) -> Option<Message> {
        let message: Message = match serde_json::from_slice(line) {
            Ok(message) => message,
            Err(_) => {
                if self.noise.len() < 40 {
                    self.noise.push(String::from_utf8_lossy(line).into_owned());
                }
                return None;
            }
        };
        match &message {
            Message::ApplyStart { hook } => drop(self.apply.in_flight.insert(hook.resource.addr.clone())),
            Message::ApplyComplete { hook } => {
                self.apply.in_flight.remove(&hook.resource.addr);
                self.apply.completed.push(hook.resource.addr.clone());
            }
            Message::ApplyErrored { hook } => drop(self.apply.in_flight.remove(&hook.resource.addr)),
            Message::Diagnostic { diagnostic } if diagnostic.severity == "error" => self.errors.push(diagnostic.clone()),
            Message::Outputs { outputs } => {
                let values = outputs.iter().filter(|(_, output)| !output.sensitive);
                self.apply.outputs.extend(values.filter_map(|(name, output)| Some((name.clone(), output.value.clone()?))));
            }
            _ => {}
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_in_the_middle_is_told_from_what_is_done() {
        let mut ui = Ui::default();
        for line in [
            r#"{"type":"apply_start","hook":{"resource":{"addr":"a.b"},"action":"create"}}"#,
            r#"{"type":"apply_start","hook":{"resource":{"addr":"a.c"},"action":"create"}}"#,
            r#"{"type":"apply_complete","hook":{"resource":{"addr":"a.b"},"action":"create","elapsed_seconds":3}}"#,
            r#"{"type":"a_type_of_a_later_terraform","x":1}"#,
        ] {
            assert!(ui.take(line.as_bytes()).is_some(), "{line}");
        }
        assert_eq!(ui.apply.left_behind(), LeftBehind::Unknown("a.c".into()));
        ui.take(br#"{"type":"apply_errored","hook":{"resource":{"addr":"a.c"},"action":"create"}}"#);
        assert_eq!(ui.apply.left_behind(), LeftBehind::Partial(vec!["a.b".into()]));
        assert!(ui.take(b"panic: runtime error").is_none());
        assert_eq!(ui.noise.len(), 1);
    }

    #[test]
    fn a_sensitive_output_is_no_output() {
        let mut ui = Ui::default();
        ui.take(br#"{"type":"outputs","outputs":{"a":{"sensitive":false,"value":1},"b":{"sensitive":true},"c":{"sensitive":true,"value":"s"}}}"#);
        assert_eq!(ui.apply.outputs, BTreeMap::from([("a".to_owned(), Value::from(1))]));
    }
}
