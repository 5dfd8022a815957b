//! terraform's errors as failures: who holds the lock, that a plan is stale, which action is missing.
use std::path::Path;

use super::messages::{Diagnostic, Ui};
use crate::{
    failure::{Failure, FailureKind},
    tools::process::Ended,
};

/// Who holds terraform's lock, from the text of its error; there is no other form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockInfo {
    /// For force-unlock.
    pub id: String,
    /// The state.
    pub path: String,
    /// As in `OperationTypeApply`.
    pub operation: String,
    /// user@host.
    pub who: String,
    /// When it was taken.
    pub created: String,
}

impl LockInfo {
    /// Finds it in a diagnostic's detail.
    pub fn find(detail: &str) -> Option<Self> {
        let (_, info) = detail.split_once("Lock Info:")?;
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.trim_start().strip_prefix(name));
            line.and_then(|rest| rest.trim_start().strip_prefix(':')).map(|rest| rest.trim().to_owned()).unwrap_or_default()
        };
        let found =
            Self { id: field("ID"), path: field("Path"), operation: field("Operation"), who: field("Who"), created: field("Created") };
        (!found.id.is_empty()).then_some(found)
    }
}

/// Whether a failed command says that `terraform init` must run again.
pub fn wants_init(failure: &Failure) -> bool {
    const SIGNS: [&str; 8] = [
        "terraform init",
        "Backend initialization required",
        "Module not installed",
        "Module source has changed",
        "Required plugins are not installed",
        "Inconsistent dependency lock file",
        "does not match any of the checksums",
        "doesn't match any of the checksums",
    ];
    failure.evidence.iter().chain([&failure.message]).any(|text| SIGNS.iter().any(|sign| text.contains(sign)))
}

/// `dir` is where terraform was initialised: the only place where it knows whose lock it is.
pub(super) fn failure(command: &str, ended: &Ended, ui: &Ui, dir: &Path) -> Failure {
    let mut errors: Vec<Diagnostic> = Vec::new();
    for error in &ui.errors {
        // A provider that cannot log in says so once for each resource.
        if !errors.iter().any(|known| known.summary == error.summary && known.detail == error.detail) {
            errors.push(error.clone());
        }
    }
    let Some(first) = errors.first() else {
        let words = if ui.noise.is_empty() { &ended.stderr_tail } else { &ui.noise };
        return Failure::step(format!("terraform {command} ended with {} and no diagnostic", ended.how())).evidence(words.join("\n"));
    };
    if let Some(lock) = errors.iter().find_map(|error| LockInfo::find(&error.detail)) {
        return Failure::new(
            FailureKind::Locked,
            format!("the state {} is locked by {} since {} ({}, lock {})", lock.path, lock.who, lock.created, lock.operation, lock.id),
        )
        .next("wait until that terraform has ended, then run the same command again")
        .next(format!(
            "only when it is certainly dead, with the deployer role's credentials: terraform -chdir={} force-unlock {}",
            dir.display(),
            lock.id
        ));
    }
    if errors.iter().any(|error| error.summary.contains("Saved plan is stale") || error.summary.contains("Saved plan does not match")) {
        return Failure::new(FailureKind::PlanStale, format!("the saved plan is stale: {}", first.summary))
            .next("deployctl plan, and read it again");
    }
    let more = if errors.len() > 1 { format!(" (and {} more)", errors.len() - 1) } else { String::new() };
    let about = first.address.as_ref().map(|address| format!(" ({address})")).unwrap_or_default();
    let mut failure = Failure::step(format!("terraform {command}: {}{about}{more}", first.summary));
    if errors.iter().any(is_about_credentials) {
        failure.kind = FailureKind::Credentials;
    }
    for action in errors.iter().filter_map(|error| denied_action(&error.detail).or_else(|| denied_action(&error.summary))) {
        let advice = format!("add to the deployer's policy: {{\"Effect\":\"Allow\",\"Action\":\"{action}\",\"Resource\":\"*\"}}");
        if !failure.next.contains(&advice) {
            failure = failure.next(advice);
        }
    }
    for error in &errors {
        failure = failure.evidence(text(error));
    }
    failure
}

fn text(error: &Diagnostic) -> String {
    let place = error.range.as_ref().map(|range| format!("\n  at {}:{}", range.filename, range.start.line)).unwrap_or_default();
    let about = error.address.as_ref().map(|address| format!("\n  {address}")).unwrap_or_default();
    format!("{}{about}{place}\n  {}", error.summary, error.detail.trim().replace('\n', "\n  "))
}

fn is_about_credentials(error: &Diagnostic) -> bool {
    ["ExpiredToken", "InvalidClientTokenId", "No valid credential sources", "UnrecognizedClientException"]
        .iter()
        .any(|sign| error.summary.contains(sign) || error.detail.contains(sign))
}

/// The action in "… is not authorized to perform: ec2:CreateVpc on resource …".
fn denied_action(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("not authorized to perform: ")?;
    let action: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, ':' | '-')).collect();
    action.contains(':').then_some(action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_read_from_the_text() {
        let detail = "Error message: operation error S3\nLock Info:\n  ID:        0f1c\n  Path:      b/network/terraform.tfstate\n  Operation: OperationTypeApply\n  Who:       root@host\n  Version:   1.11.4\n  Created:   2026-11-22 20:00:00 +0000 UTC\n  Info:      \n\n\nTerraform acquires";
        let lock = LockInfo::find(detail).unwrap();
        assert_eq!((lock.id.as_str(), lock.who.as_str(), lock.operation.as_str()), ("0f1c", "root@host", "OperationTypeApply"));
        assert_eq!(LockInfo::find("no such table"), None);
    }

    #[test]
    fn a_denied_action_is_named() {
        let said = "User: arn:aws:sts::1:assumed-role/x/y is not authorized to perform: ec2:CreateVpc on resource: arn:aws:ec2 because no";
        assert_eq!(denied_action(said).as_deref(), Some("ec2:CreateVpc"));
        assert_eq!(denied_action("not authorized to perform: this"), None);
    }
}
