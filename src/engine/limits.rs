//! What a plan may not do: exceed what was shown, delete too much, touch what is protected. Pure.
use crate::{
    failure::{Failure, FailureKind},
    ids::StepId,
    plan::environment::Guards,
    steps::{Action, Change},
};

/// The resource type of a terraform output, which is a value and no thing.
pub const OUTPUT: &str = "output";
/// What is in a detail where nobody knows the value yet.
pub const UNKNOWN: &str = "(known after apply)";

/// The changes of `now` that `shown` does not cover: same thing, same action, and every line was shown, or its value was not known then.
/// Doing less than was shown is fine.
pub fn beyond_shown<'a>(shown: &[Change], now: &'a [Change]) -> Vec<&'a Change> {
    let path = |line: &str| line.split(": ").next().unwrap_or_default().to_owned();
    let says = |known: &str, line: &str| known == line || (known.ends_with(UNKNOWN) && path(known) == path(line));
    let covers = |shown: &Change, change: &Change| {
        let same = shown.resource == change.resource && shown.name == change.name;
        let finished = shown.action == Action::Replace && change.action == Action::Create;
        let lines = || change.details.iter().all(|line| shown.details.iter().any(|known| says(known, line)));
        same && (finished || (shown.action == change.action && lines()))
    };
    now.iter().filter(|change| !shown.iter().any(|s| covers(s, change))).collect()
}

/// The changes of `now` that exceed a deferred step's bound: it creates and runs, and only these types.
/// An entry such as `update aws_eks_addon` allows another action on that type.
pub fn beyond_bound<'a>(bound: &[String], now: &'a [Change]) -> Vec<&'a Change> {
    now.iter()
        .filter(|change| {
            let plain = matches!(change.action, Action::Create | Action::Run) && bound.contains(&change.resource);
            let spelled = bound.iter().any(|entry| *entry == format!("{} {}", change.action, change.resource));
            // A module that has not been fetched yet is bounded as a whole: it may create, inside itself.
            let inside = |entry: &String| {
                let called = entry.strip_prefix("any in module ").and_then(|module| change.name.strip_prefix(&format!("module.{module}")));
                called.is_some_and(|rest| rest.starts_with(['.', '[']))
            };
            let of_module = change.action == Action::Create && bound.iter().any(inside);
            !plain && !spelled && !of_module
        })
        .collect()
}

/// Refuses deletions and replacements of protected types, and more deletions than the environment allows.
pub fn check_guards<'a>(guards: &Guards, changes: impl IntoIterator<Item = (&'a StepId, &'a Change)>) -> Result<(), Failure> {
    let is_gone = |change: &Change| matches!(change.action, Action::Delete | Action::Replace) && change.resource != OUTPUT;
    let gone: Vec<_> = changes.into_iter().filter(|(_, change)| is_gone(change)).collect();
    let list = |changes: &[&(&StepId, &Change)]| -> Vec<String> {
        changes.iter().map(|(step, c)| format!("{step}: {} {} {}", c.action, c.resource, c.name)).collect()
    };
    let protected: Vec<_> = gone.iter().filter(|(_, change)| guards.protected.contains(&change.resource)).collect();
    if !protected.is_empty() {
        let mut failure = Failure::new(FailureKind::Policy, "the plan deletes or replaces what this environment protects")
            .next("change the plan, or take the type out of `guards.protected` in the environment file in a change of its own");
        failure.evidence = list(&protected);
        return Err(failure);
    }
    if gone.len() > usize::try_from(guards.max_deletions).unwrap_or(usize::MAX) {
        let mut failure = Failure::new(
            FailureKind::Policy,
            format!("the plan deletes {} things; this environment allows {}", gone.len(), guards.max_deletions),
        )
        .next("do it in parts, or raise `guards.max_deletions` in the environment file for this one run");
        failure.evidence = list(&gone.iter().collect::<Vec<_>>());
        return Err(failure);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn change(action: Action, resource: &str, name: &str) -> Change {
        Change { action, resource: resource.to_owned(), name: name.to_owned(), details: vec![] }
    }

    #[test]
    fn less_than_shown_is_fine_and_anything_else_is_not() {
        let shown = [change(Action::Create, "aws_vpc", "a"), change(Action::Replace, "aws_eip", "b")];
        assert!(beyond_shown(&shown, &shown).is_empty());
        assert!(beyond_shown(&shown, &[]).is_empty());
        assert!(beyond_shown(&shown, &[change(Action::Create, "aws_eip", "b")]).is_empty(), "the deletion half is done already");
        assert_eq!(beyond_shown(&shown, &[change(Action::Delete, "aws_vpc", "a")]).len(), 1);
        assert_eq!(beyond_shown(&shown, &[change(Action::Create, "aws_vpc", "c")]).len(), 1);
    }

    #[test]
    fn another_value_than_shown_is_more_than_shown() {
        let with = |lines: &[&str]| {
            [Change { details: lines.iter().map(ToString::to_string).collect(), ..change(Action::Update, "Deployment", "apps/a") }]
        };
        let shown = with(&["spec.replicas: 1 -> 2", "metadata.id: null -> (known after apply)"]);
        assert!(beyond_shown(&shown, &with(&["spec.replicas: 1 -> 2"])).is_empty());
        assert!(beyond_shown(&shown, &with(&["metadata.id: null -> \"7\""])).is_empty());
        assert_eq!(beyond_shown(&shown, &with(&["spec.replicas: 5 -> 2"])).len(), 1);
        assert_eq!(beyond_shown(&shown, &with(&["spec.replicas: 1 -> 2", "spec.paused: true -> false"])).len(), 1);
    }

    #[test]
    fn a_bound_allows_creation_of_its_types_only() {
        let bound = ["aws_iam_role".to_owned(), "update aws_eks_addon".to_owned(), "migration".to_owned()];
        assert!(beyond_bound(&bound, &[change(Action::Create, "aws_iam_role", "x"), change(Action::Run, "migration", "V1")]).is_empty());
        assert!(beyond_bound(&bound, &[change(Action::Update, "aws_eks_addon", "x")]).is_empty());
        assert_eq!(beyond_bound(&bound, &[change(Action::Update, "aws_iam_role", "x")]).len(), 1);
        assert_eq!(beyond_bound(&bound, &[change(Action::Create, "aws_vpc", "x")]).len(), 1);
        let module = ["any in module vpc".to_owned()];
        assert!(beyond_bound(&module, &[change(Action::Create, "aws_vpc", "module.vpc.aws_vpc.this[0]")]).is_empty());
        assert_eq!(beyond_bound(&module, &[change(Action::Create, "aws_vpc", "module.vpc2.aws_vpc.this[0]")]).len(), 1);
        assert_eq!(beyond_bound(&module, &[change(Action::Replace, "aws_vpc", "module.vpc.aws_vpc.this[0]")]).len(), 1);
        assert_eq!(beyond_bound(&bound, &[change(Action::Create, "aws_eks_addon", "x")]).len(), 1);
    }

    #[test]
    fn guards_count_deletions_and_name_what_is_protected() {
        let step = StepId::parse("data").unwrap();
        let guards = Guards { max_deletions: 1, protected: vec!["aws_db_instance".to_owned()] };
        let replace = change(Action::Replace, "aws_db_instance", "main");
        let error = check_guards(&guards, [(&step, &replace)]).unwrap_err();
        assert_eq!(error.evidence, ["data: replace aws_db_instance main"]);
        let delete = change(Action::Delete, "aws_eip", "a");
        check_guards(&guards, [(&step, &delete)]).unwrap();
        assert_eq!(check_guards(&guards, [(&step, &delete), (&step, &delete)]).unwrap_err().kind, FailureKind::Policy);
    }
}
