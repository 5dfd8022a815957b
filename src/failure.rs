//! What went wrong, for the person who reads it: which step, what was left behind, what to type next, which exit code.
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{EnvironmentName, StepId};

/// Exit codes are promises to scripts (README, "Exit codes"); clap's own 2 is mapped to `USAGE`.
pub mod exit {
    /// Done, or nothing to do.
    pub const DONE: u8 = 0;
    /// Any failure that has no number of its own.
    pub const FAILURE: u8 = 1;
    /// There are changes; only with `--detailed-exitcode`.
    pub const CHANGES: u8 = 2;
    /// Wrong arguments, or an error in the plan file or the environment file.
    pub const USAGE: u8 = 10;
    /// No credentials, or those of another account.
    pub const CREDENTIALS: u8 = 11;
    /// Something that must be there before anything starts is not.
    pub const PREFLIGHT: u8 = 12;
    /// The saved plan is stale, or a deferred step would exceed what was shown.
    pub const PLAN_STALE: u8 = 13;
    /// Somebody else holds the environment's lease.
    pub const LOCKED: u8 = 14;
    /// A step failed.
    pub const STEP_FAILED: u8 = 15;
    /// A step was applied, but what it made could not be verified.
    pub const VERIFICATION: u8 = 16;
    /// A wait reached its deadline.
    pub const TIMEOUT: u8 = 17;
    /// Refused by a guard: protected resources, too many deletions, an unpinned chart.
    pub const POLICY: u8 = 18;
    /// Ctrl-C or SIGTERM.
    pub const INTERRUPTED: u8 = 130;
}

/// The kinds of failure; each has one exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// See [`exit::FAILURE`].
    Internal,
    /// See [`exit::USAGE`].
    Usage,
    /// See [`exit::CREDENTIALS`].
    Credentials,
    /// See [`exit::PREFLIGHT`].
    Preflight,
    /// See [`exit::PLAN_STALE`].
    PlanStale,
    /// See [`exit::LOCKED`].
    Locked,
    /// See [`exit::STEP_FAILED`].
    Step,
    /// See [`exit::VERIFICATION`].
    Verification,
    /// See [`exit::TIMEOUT`].
    Timeout,
    /// See [`exit::POLICY`].
    Policy,
    /// See [`exit::INTERRUPTED`].
    Interrupted,
}

impl FailureKind {
    /// The process' exit code for this kind.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Internal => exit::FAILURE,
            Self::Usage => exit::USAGE,
            Self::Credentials => exit::CREDENTIALS,
            Self::Preflight => exit::PREFLIGHT,
            Self::PlanStale => exit::PLAN_STALE,
            Self::Locked => exit::LOCKED,
            Self::Step => exit::STEP_FAILED,
            Self::Verification => exit::VERIFICATION,
            Self::Timeout => exit::TIMEOUT,
            Self::Policy => exit::POLICY,
            Self::Interrupted => exit::INTERRUPTED,
        }
    }
}

/// What a failed step left behind; the reader decides by it whether anything must be cleaned up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "left", content = "what")]
pub enum LeftBehind {
    /// Nothing was changed.
    Nothing,
    /// These things were made or changed; running the same command again goes on from there.
    Partial(Vec<String>),
    /// A call was in flight: its effect may or may not have happened.
    Unknown(String),
}

/// A failure as it is shown and written to the journal. `Display` is its first line; causes are in `source`.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Decides the exit code.
    pub kind: FailureKind,
    /// The step, once one was running.
    pub step: Option<StepId>,
    /// What happened: a lower-case fragment that reads after "failed: ".
    pub message: String,
    /// Evidence for the reader: container logs, terraform's diagnostics, a record; already redacted.
    pub evidence: Vec<String>,
    /// What was left behind.
    pub left_behind: LeftBehind,
    /// What to do next: full commands where there is one.
    pub next: Vec<String>,
    /// The cause; printed with its own causes, once.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// A failure of `kind` that left nothing behind.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            step: None,
            message: message.into(),
            evidence: Vec::new(),
            left_behind: LeftBehind::Nothing,
            next: Vec::new(),
            source: None,
        }
    }
    /// A wrong argument or plan file.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Usage, message)
    }
    /// A failure of the step that is running.
    pub fn step(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Step, message)
    }
    /// A failed check after apply.
    pub fn verification(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Verification, message)
    }
    /// A wait that reached its deadline; `waited_for` completes "waited for".
    pub fn timeout(waited_for: impl fmt::Display, deadline: std::time::Duration) -> Self {
        Self::new(FailureKind::Timeout, format!("waited {} s for {waited_for}", deadline.as_secs()))
    }
    /// What failed is a check, whatever it failed on; an interruption stays one.
    #[must_use]
    pub fn unverified(mut self) -> Self {
        if self.kind != FailureKind::Interrupted {
            self.kind = FailureKind::Verification;
        }
        self
    }
    /// Attaches the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
    /// Adds a command or an advice.
    #[must_use]
    pub fn next(mut self, what: impl Into<String>) -> Self {
        self.next.push(what.into());
        self
    }
    /// Adds evidence.
    #[must_use]
    pub fn evidence(mut self, text: impl Into<String>) -> Self {
        self.evidence.push(text.into());
        self
    }
    /// Says what was left behind.
    #[must_use]
    pub fn left(mut self, left_behind: LeftBehind) -> Self {
        self.left_behind = left_behind;
        self
    }
    /// Names the step, unless a deeper layer has already done so.
    #[must_use]
    pub fn in_step(mut self, step: &StepId) -> Self {
        self.step.get_or_insert_with(|| step.clone());
        self
    }
    /// Names the environment in every command to type next: where there are several, a command without `-e` is refused.
    #[must_use]
    pub fn in_environment(mut self, environment: &EnvironmentName) -> Self {
        self.next.iter_mut().for_each(|next| *next = with_environment(next, environment));
        self
    }
    /// The failure's own line and every cause below it, outermost first.
    pub fn chain(&self) -> Vec<String> {
        let mut lines = vec![self.message.clone()];
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let line = error.to_string();
            // SDK errors repeat their inner message; once is enough.
            if lines.last().is_none_or(|last| !last.ends_with(&line)) {
                lines.push(line);
            }
            cause = error.source();
        }
        lines
    }
    /// For a report: what happened and its causes as one line, then its evidence, no more than `most` lines of it.
    pub fn report(&self, most: usize) -> Vec<String> {
        std::iter::once(self.chain().join(": ")).chain(self.evidence.iter().take(most).cloned()).collect()
    }
}

/// Commands that work on an environment.
const ON_AN_ENVIRONMENT: [&str; 14] =
    ["plan", "apply", "chart", "smoke", "secret", "db", "dr", "image", "render", "destroy", "lock", "status", "history", "doctor"];

/// The text with ` -e NAME` behind each such command, unless it names an environment already.
fn with_environment(text: &str, environment: &EnvironmentName) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    if words.contains(&"-e") {
        return text.to_owned();
    }
    let named = words.iter().enumerate().map(|(at, word)| {
        let command = word.trim_end_matches([',', ';', '.', '`']);
        let called = at.checked_sub(1).is_some_and(|before| words[before].trim_start_matches('`') == "deployctl");
        if called && ON_AN_ENVIRONMENT.contains(&command) {
            format!("{command} -e {environment}{}", &word[command.len()..])
        } else {
            (*word).to_owned()
        }
    });
    named.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn next_commands_name_the_environment_once() {
        let staging = EnvironmentName::parse("staging").unwrap();
        let next = |text: &str| Failure::step("x").next(text).in_environment(&staging).in_environment(&staging).next.join("");
        assert_eq!(next("deployctl smoke"), "deployctl smoke -e staging");
        assert_eq!(next("deployctl plan, and read it again"), "deployctl plan -e staging, and read it again");
        assert_eq!(next("then: deployctl apply --only cluster"), "then: deployctl apply -e staging --only cluster");
        assert_eq!(next("listed by `deployctl db status`"), "listed by `deployctl db -e staging status`");
        for other in ["deployctl status -e other", "deployctl sandbox up", "deployctl-sandbox up", "kubectl apply"] {
            assert_eq!(next(other), other);
        }
    }
}
