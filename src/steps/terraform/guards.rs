//! What no plan may do, judged from terraform's JSON and never from its text.
use crate::{
    engine::limits::OUTPUT,
    failure::{Failure, FailureKind},
    plan::environment::Guards,
    steps::{Action, Change},
};

/// Refuses deletions of protected types and too many deletions of any.
pub(super) fn check(guards: &Guards, changes: &[Change]) -> Result<(), Failure> {
    let gone: Vec<&Change> =
        changes.iter().filter(|change| matches!(change.action, Action::Delete | Action::Replace) && change.resource != OUTPUT).collect();
    let protected: Vec<&Change> = gone.iter().copied().filter(|change| guards.protected.contains(&change.resource)).collect();
    if let Some(first) = protected.first() {
        let more = if protected.len() > 1 { format!(" and {} more", protected.len() - 1) } else { String::new() };
        let mut failure = Failure::new(FailureKind::Policy, format!("would {} the protected {}{more}", verb(first), first.name));
        failure = failure.evidence(protected.iter().map(|c| format!("{} {}", verb(c), c.name)).collect::<Vec<_>>().join("\n"));
        return Err(failure
            .next(format!("if that is meant: take {} out of guards.protected in the environment file for this one run", first.resource)));
    }
    let most = usize::try_from(guards.max_deletions).unwrap_or(usize::MAX);
    if gone.len() > most {
        return Err(Failure::new(
            FailureKind::Policy,
            format!("would delete {} resources; guards.max_deletions allows {most}", gone.len()),
        )
        .evidence(gone.iter().map(|c| format!("{} {}", verb(c), c.name)).collect::<Vec<_>>().join("\n"))
        .next(format!("if that is meant: set guards.max_deletions to {} in the environment file for this one run", gone.len())));
    }
    Ok(())
}

fn verb(change: &Change) -> &'static str {
    if change.action == Action::Replace { "replace" } else { "delete" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(action: Action, resource: &str) -> Change {
        Change { action, resource: resource.into(), name: format!("{resource}.x"), details: Vec::new() }
    }

    #[test]
    fn protected_types_are_neither_deleted_nor_replaced() {
        let guards = Guards::default();
        for action in [Action::Delete, Action::Replace] {
            assert_eq!(check(&guards, &[change(action, "aws_db_instance")]).unwrap_err().kind, FailureKind::Policy);
        }
        check(&guards, &[change(Action::Update, "aws_db_instance"), change(Action::Delete, "aws_eip")]).unwrap();
    }

    #[test]
    fn deletions_are_counted() {
        let many: Vec<Change> = (0..6).map(|_| change(Action::Replace, "aws_eip")).collect();
        check(&Guards::default(), &many[..5]).unwrap();
        assert!(check(&Guards::default(), &many).unwrap_err().message.contains("6 resources"));
    }
}
