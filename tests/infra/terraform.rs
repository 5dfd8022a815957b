//! The terraform kind: what was shown is what is applied, and no more.
use deployctl::{
    engine::event::Outcome,
    failure::{FailureKind, LeftBehind},
    plan::fresh::differing,
    steps::{Action, Kind, StepContext, terraform::Terraform},
};
use serde_json::json;

use super::{emulator::with_aws, fixture, stack};

#[test]
fn applies_what_was_shown() {
    with_aws("terraform::applies_what_was_shown", || async {
        let project = stack::project("shown");
        let cx = fixture::context("things", &project).await;

        // Before there is a state bucket: everything is shown, and applied once the bucket is there.
        let first = fixture::planned::<Terraform>(&cx, &stack::input(2)).await.unwrap();
        let said: Vec<(Action, &str)> = first.changes.iter().map(|c| (c.action, c.name.as_str())).collect();
        assert_eq!(
            said,
            [
                (Action::Create, "terraform_data.first"),
                (Action::Create, "terraform_data.last"),
                (Action::Create, "terraform_data.thing[0]"),
                (Action::Create, "terraform_data.thing[1]")
            ]
        );
        stack::make_backend(&cx).await;
        let applied = Terraform::apply(&cx, &stack::input(2), &first).await.unwrap();
        assert_eq!(applied.outcome, Outcome::Changed);
        assert_eq!(applied.outputs["names"], json!(["deployctl-sandbox-0", "deployctl-sandbox-1"]));
        assert!(!applied.outputs.contains_key("hidden"), "a sensitive output is no output");
        assert_eq!(stack::held(&cx).await, (false, false));

        // Nothing to do: no terraform runs for the apply, and the outputs are there all the same.
        let cx = fixture::another_run(&cx);
        let started = std::time::Instant::now();
        let (plan, applied) = fixture::run::<Terraform>(&cx, &stack::input(2)).await.unwrap();
        eprintln!("unchanged: {} ms", started.elapsed().as_millis());
        assert_eq!((plan.changes.len(), &applied.outcome), (0, &Outcome::Unchanged));
        assert_eq!(applied.outputs["names"], json!(["deployctl-sandbox-0", "deployctl-sandbox-1"]));

        // A saved plan goes stale when somebody else applies in between, and says so before it changes anything.
        let stale = fixture::planned::<Terraform>(&cx, &stack::input(3)).await.unwrap();
        assert_eq!(stale.changes.len(), 1, "{:?}", stale.changes);
        let other = fixture::another_run(&cx);
        fixture::run::<Terraform>(&other, &stack::input(1)).await.unwrap();
        let cx = fixture::another_run(&cx);
        let failure = Terraform::apply(&cx, &stack::input(3), &stale).await.unwrap_err();
        assert_eq!((failure.kind, &failure.left_behind), (FailureKind::PlanStale, &LeftBehind::Nothing));
        assert!(failure.evidence.iter().any(|line| line.contains("now also: create terraform_data.thing[1]")), "{:?}", failure.evidence);
        assert_eq!(stack::made(&project).len(), 2);

        // What a saved plan keeps says the same: which state, which address.
        let facts = async || Terraform::facts(&stack::input(3), &Terraform::observe(&cx, &stack::input(3)).await.unwrap()).unwrap();
        let then = facts().await;
        assert_eq!(differing(&then, &facts().await), Vec::<String>::new(), "nothing has moved by itself");
        fixture::run::<Terraform>(&fixture::another_run(&cx), &stack::input(2)).await.unwrap();
        let moved = differing(&then, &facts().await);
        assert!(moved.iter().any(|line| line.starts_with("state serial: ")), "{moved:?}");
        assert!(moved.contains(&"terraform_data.thing[1] plan: \"create\" -> \"nothing\"".to_owned()), "{moved:?}");

        // A damaged plan is not applied.
        let mut damaged = fixture::planned::<Terraform>(&cx, &stack::input(3)).await.unwrap();
        damaged.payload["sha256"] = json!("00");
        let failure = Terraform::apply(&fixture::another_run(&cx), &stack::input(3), &damaged).await.unwrap_err();
        assert!(failure.message.contains("damaged"), "{failure}");

        // Guards judge the plan's JSON.
        let mut guarded = cx.clone();
        std::sync::Arc::make_mut(&mut guarded.environment).guards.protected = vec!["terraform_data".into()];
        let failure = fixture::planned::<Terraform>(&guarded, &stack::input(0)).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Policy);
        assert_eq!(Terraform::undo(&guarded, &stack::input(1)).await.unwrap_err().kind, FailureKind::Policy);
        let gone = Terraform::would_delete(&cx, &stack::input(1)).await.unwrap();
        let gone: Vec<(Action, &str)> = gone.iter().map(|change| (change.action, change.name.as_str())).collect();
        let names = ["terraform_data.first", "terraform_data.last", "terraform_data.thing[0]", "terraform_data.thing[1]"];
        assert_eq!(gone, names.map(|name| (Action::Delete, name)));
        Terraform::undo(&cx, &stack::input(1)).await.unwrap();
        assert_eq!(fixture::planned::<Terraform>(&cx, &stack::input(1)).await.unwrap().changes.len(), 3);

        let bound = Terraform::bound(&json!({"stack": "terraform/things"}), &project);
        assert_eq!(bound, ["update output", "terraform_data"]);
        let misspelt = serde_json::from_value(json!({"stack": "terraform/things", "variables": {"sizes": 1}})).unwrap();
        let failure = fixture::planned::<Terraform>(&cx, &misspelt);
        assert_eq!(failure.await.unwrap_err().kind, FailureKind::Usage);
    });
}

#[test]
fn a_held_lock_names_its_holder() {
    with_aws("terraform::a_held_lock_names_its_holder", || async {
        let project = stack::project("locked");
        let cx = fixture::context("things", &project).await;
        stack::make_backend(&cx).await;
        let stack::Locks { table, id, .. } = stack::locks(&cx);
        let info = json!({"ID": "0f1c", "Operation": "OperationTypeApply", "Who": "ann@laptop", "Version": "1.11.4",
                          "Created": "2026-11-22T20:00:00Z", "Path": id, "Info": ""});
        let plan = fixture::planned::<Terraform>(&cx, &stack::input(1)).await.expect("planning takes no lock");
        assert!(cx.aws.take_lock_item(&table, &id, &info.to_string()).await.unwrap());
        fixture::planned::<Terraform>(&cx, &stack::input(1)).await.expect("planning takes no lock");
        let failure = Terraform::apply(&cx, &stack::input(1), &plan).await.unwrap_err();
        assert_eq!((failure.kind, &failure.left_behind), (FailureKind::Locked, &LeftBehind::Nothing));
        assert!(failure.message.contains("ann@laptop") && failure.message.contains("0f1c"), "{failure}");
        assert_eq!(stack::held(&cx).await, (true, false), "the other half of a double lock must be given back");
    });
}

/// Whether by the same run or by another: what others are made from is made before it is deleted, and nothing takes a name twice.
#[test]
fn what_was_made_and_not_finished_is_kept() {
    with_aws("terraform::what_was_made_and_not_finished_is_kept", || async {
        for (name, goes_on) in [("same-run", true), ("other-run", false)] {
            let project = stack::project(name);
            let (made, ready) = (project.join("made"), project.join("ready"));
            let text = format!(
                r#"
resource "terraform_data" "first" {{
  input = var.name_prefix
  provisioner "local-exec" {{ command = "mkdir {} && test -e {}" }}
}}
resource "terraform_data" "last" {{
  input = terraform_data.first.id
  lifecycle {{ create_before_destroy = true }}
}}
output "names" {{ value = [terraform_data.last.output] }}
"#,
                made.display(),
                ready.display()
            );
            stack::write_resources(&project, &text);
            let cx = fixture::context("things", &project).await;
            stack::make_backend(&cx).await;
            let shown = fixture::planned::<Terraform>(&cx, &stack::input(1)).await.unwrap();
            let failure = Terraform::apply(&cx, &stack::input(1), &shown).await.unwrap_err();
            assert!(failure.message.contains("terraform_data.first"), "{failure}");
            std::fs::write(&ready, "").unwrap();

            let (cx, shown) = if goes_on {
                (cx, shown)
            } else {
                let cx = fixture::another_run(&cx);
                let shown = fixture::planned::<Terraform>(&cx, &stack::input(1)).await.unwrap();
                (cx, shown)
            };
            let said: Vec<(Action, &str)> = shown.changes.iter().map(|c| (c.action, c.name.as_str())).collect();
            let first = if goes_on { Action::Create } else { Action::Update };
            assert_eq!(said, [(first, "terraform_data.first"), (Action::Create, "terraform_data.last")], "{:?}", shown.changes);
            let applied = Terraform::apply(&cx, &stack::input(1), &shown).await.unwrap();
            assert_eq!(applied.outcome, Outcome::Changed, "{name}");
            let again = fixture::planned::<Terraform>(&fixture::another_run(&cx), &stack::input(1)).await.unwrap();
            assert!(again.changes.is_empty(), "{name}: {:?}", again.changes);
            Terraform::undo(&fixture::another_run(&cx), &stack::input(1)).await.unwrap();
        }
    });
}

#[test]
fn an_interrupted_apply_saves_its_state_and_goes_on() {
    with_aws("terraform::an_interrupted_apply_saves_its_state_and_goes_on", || async {
        let project = stack::project("interrupted");
        stack::write(&project, 3);
        let cx = fixture::context("things", &project).await;
        stack::make_backend(&cx).await;
        let plan = fixture::planned::<Terraform>(&cx, &stack::input(2)).await.unwrap();
        let cancel = cx.cancel.clone();
        let began = project.clone();
        let killer = async {
            while stack::made(&began).len() < 2 {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            cancel.cancel();
            std::future::pending::<()>().await;
        };
        let input = stack::input(2);
        let failure = tokio::select! {
            applied = Terraform::apply(&cx, &input, &plan) => applied.unwrap_err(),
            () = killer => unreachable!("it goes on for ever"),
        };
        assert_eq!(failure.kind, FailureKind::Interrupted, "{failure:?}");
        assert_eq!(stack::held(&cx).await, (false, false));

        // The same run goes on with the same plan, in a new process: its mark is in the journal.
        let cx = StepContext { cancel: Default::default(), ..cx };
        stack::write(&project, 3);
        let applied = Terraform::apply(&cx, &stack::input(2), &plan).await.unwrap();
        assert_eq!(applied.outputs["names"], json!(["deployctl-sandbox-0", "deployctl-sandbox-1"]));
        assert_eq!(fixture::planned::<Terraform>(&cx, &stack::input(2)).await.unwrap().changes, []);
    });
}

/// The state is gone, and what it knew is not: nobody may make it again beside that, and nobody may think that there is nothing to take away.
#[test]
fn a_missing_state_beside_resources_with_our_names_is_refused() {
    with_aws("terraform::a_missing_state_beside_resources_with_our_names_is_refused", || async {
        let project = stack::project("orphans");
        let cx = fixture::context("things", &project).await;
        let mut input = stack::input(1);
        input.checks = serde_json::from_value(json!(["storage"])).unwrap();
        let bucket = format!("deployctl-{}-uploads-{}", cx.environment.name, cx.environment.aws.account_id);
        let bucket = deployctl::ids::BucketName::parse(bucket).unwrap();
        cx.aws.create_bucket(&bucket).await.unwrap();
        let refused = |failure: deployctl::failure::Failure| {
            assert!(failure.kind == FailureKind::Policy && failure.evidence[0].contains(bucket.as_str()), "{failure:?}");
        };
        // First without a state bucket, then with one that has no such state.
        refused(Terraform::would_delete(&cx, &input).await.unwrap_err());
        stack::make_backend(&cx).await;
        refused(Terraform::would_delete(&cx, &input).await.unwrap_err());
        refused(Terraform::undo(&cx, &input).await.unwrap_err());
        refused(fixture::planned::<Terraform>(&cx, &input).await.unwrap_err());
        // An apply that was cut off, here or on another machine, may have made it and not written it down: the next one takes it over.
        cx.intents.once(&cx.step, "terraform-apply", json!("an attempt")).await.unwrap();
        fixture::planned::<Terraform>(&cx, &input).await.unwrap();
    });
}
