//! What is wrong in a file, shown with its line, a mark under the place, and a hint.
use std::path::Path;

use super::{locate::Spot, suggest};
use crate::failure::{Failure, FailureKind};

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub spot: Spot,
    /// What.
    pub message: String,
    /// How it would be right.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem at a place.
    pub fn new(spot: Spot, message: impl Into<String>) -> Self {
        Self { spot, message: message.into(), hint: None }
    }
    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Adds "did you mean" if one of the candidates is near, else the candidates.
    #[must_use]
    pub fn one_of(mut self, word: &str, candidates: &[&str]) -> Self {
        self.hint = match suggest::nearest(word, candidates.iter().copied()) {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None if candidates.is_empty() => None,
            None => Some(format!("there are {}", candidates.join(", "))),
        };
        self
    }
    /// What the YAML parser says.
    pub fn of_yaml(error: &serde_saphyr::Error) -> Self {
        use serde_saphyr::Error;
        let number = |n: u64| usize::try_from(n).unwrap_or_default();
        let spot = error.location().map(|at| Spot { line: number(at.line()), column: number(at.column()) }).unwrap_or_default();
        match error.without_snippet() {
            Error::SerdeUnknownField { field, expected, .. } => Self::new(spot, format!("unknown key `{field}`")).one_of(field, expected),
            Error::SerdeUnknownVariant { variant, expected, .. } => {
                Self::new(spot, format!("unknown value `{variant}`")).one_of(variant, expected)
            }
            Error::SerdeMissingField { field, .. } => Self::new(spot, format!("the key `{field}` is missing")),
            Error::DuplicateMappingKey { key, .. } => {
                Self::new(spot, format!("the key `{}` is there twice", key.as_deref().unwrap_or("?"))).hint("remove or rename one of them")
            }
            Error::SerdeInvalidType { unexpected, expected, .. } | Error::SerdeInvalidValue { unexpected, expected, .. } => {
                Self::new(spot, format!("wrong type: found {unexpected}, expected {expected}"))
            }
            Error::Unexpected { expected, .. } => {
                let plain = match *expected {
                    "sequence start" => "a list",
                    "mapping start" => "a map",
                    "scalar" => "a single value",
                    other => other,
                };
                Self::new(spot, format!("wrong type: expected {plain}"))
            }
            other => {
                let text = other.to_string();
                // The parser repeats the place in its text; we show it ourselves.
                Self::new(spot, text.lines().next().unwrap_or_default().split(" at line ").next().unwrap_or_default())
            }
        }
    }
    /// The problem as it is shown.
    pub fn render(&self, path: &Path, text: &str) -> String {
        let Spot { line, column } = self.spot;
        let mut shown = format!("{}:{line}:{column}: {}", path.display(), self.message);
        if let Some(source) = line.checked_sub(1).and_then(|at| text.lines().nth(at)) {
            let width = line.to_string().len();
            let mark = " ".repeat(column.saturating_sub(1));
            shown.push_str(&format!("\n{:width$} |\n{line} | {source}\n{:width$} | {mark}^", "", ""));
        }
        if let Some(hint) = &self.hint {
            shown.push_str(&format!("\n  hint: {hint}"));
        }
        shown
    }
}

/// All problems of a file as one failure.
pub fn failure(path: &Path, text: &str, mut problems: Vec<Problem>) -> Failure {
    problems.sort_by_key(|problem| problem.spot);
    problems.dedup();
    let count = if problems.len() == 1 { "an error".to_owned() } else { format!("{} errors", problems.len()) };
    let mut failure = Failure::new(FailureKind::Usage, format!("{} has {count}", path.display()));
    failure.evidence = problems.iter().map(|problem| problem.render(path, text)).collect();
    failure
}
