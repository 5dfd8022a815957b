//! What no plan may do, judged from terraform's JSON and never from its text.
use std::collections::BTreeMap;

use crate::{
    engine::limits::OUTPUT,
    failure::{Failure, FailureKind},
    plan::environment::Guards,
    steps::{Action, Change},
};

fn is_gone(change: &&Change) -> bool {
    matches!(change.action, Action::Delete | Action::Replace) && change.resource != OUTPUT
}

/// Refuses deletions of types that the plan file protects, with what it says to do instead. No environment can allow them.
pub(super) fn protected_by_the_step(protect: &BTreeMap<String, String>, changes: &[Change]) -> Result<(), Failure> {
    let Some((first, advice)) = changes.iter().filter(is_gone).find_map(|change| Some((change, protect.get(&change.resource)?))) else {
        return Ok(());
    };
    let mut failure = Failure::new(FailureKind::Policy, format!("would {} {}, which is not done in place", verb(first), first.name));
    failure.evidence.clone_from(&first.details);
    Err(failure.next(advice))
}

/// Refuses deletions of protected types and too many deletions of any.
pub(super) fn check(guards: &Guards, changes: &[Change]) -> Result<(), Failure> {
    let gone: Vec<&Change> = changes.iter().filter(is_gone).collect();
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
    fn what_the_plan_file_protects_no_environment_allows() {
        let mut renumbered = change(Action::Replace, "aws_vpc");
        renumbered.details = vec!["cidr_block: \"10.41.0.0/16\" -> \"10.42.0.0/16\"".into()];
        let protect = BTreeMap::from([("aws_vpc".to_owned(), "put it back".to_owned())]);
        let failure = protected_by_the_step(&protect, std::slice::from_ref(&renumbered)).unwrap_err();
        assert_eq!((failure.kind, failure.kind.exit_code()), (FailureKind::Policy, 18));
        assert_eq!(
            (failure.evidence.as_slice(), failure.next.as_slice()),
            (renumbered.details.as_slice(), ["put it back".to_owned()].as_slice())
        );
        let others = [change(Action::Update, "aws_vpc"), change(Action::Create, "aws_vpc"), change(Action::Delete, "aws_eip")];
        protected_by_the_step(&protect, &others).unwrap();
        protected_by_the_step(&BTreeMap::new(), &[renumbered]).unwrap();
    }

    #[test]
    fn deletions_are_counted() {
        let many: Vec<Change> = (0..6).map(|_| change(Action::Replace, "aws_eip")).collect();
        check(&Guards::default(), &many[..5]).unwrap();
        assert!(check(&Guards::default(), &many).unwrap_err().message.contains("6 resources"));
    }
}
