//! The rest of what was shown: after a crash, or when there was no state to plan against. Planned again, and what a killed terraform made is
//! taken over.
use super::{
    Backend, Direction, Found, Input, adoption, apply_file,
    changes::{self, Since},
    guards, plan_now, read, refuse_a_lost_state,
    workspace::Workspace,
    write_plan,
};
use crate::{
    engine::event::Outcome,
    failure::{Failure, FailureKind},
    steps::{Action, Applied, Change, StepContext},
    tools::{
        process_record::Guarded,
        terraform::plan_json::{PlanJson, ResourceChange},
    },
};

/// Plans again and does what is left of what was shown: after a crash, or when there was no state to plan against.
pub(super) async fn apply(cx: &StepContext, input: &Input, shown: &Found, since: Since) -> Result<Applied, Failure> {
    let (mut workspace, mut plan, mut file) = plan_now(cx, input, Backend::Bucket, Direction::Forward, &[]).await?;
    let kept = unfinished(&plan);
    if !kept.is_empty() {
        keep(cx, &workspace, &kept).await?;
        (workspace, plan, file) = plan_now(cx, input, Backend::Bucket, Direction::Forward, &[]).await?;
    }
    if since == Since::Shown {
        refuse_a_lost_state(cx, input, &plan).await?;
    } else {
        let record = &workspace.terraform.record;
        let killed = Guarded::read(record).filter(|found| found.record.ended.is_none()).map(|_| record.clone());
        let is_made = |address: &str| shown.changes.iter().any(|change| change.name == address && change.action == Action::Create);
        if plan.gone().any(is_made) {
            forget_what_is_gone(cx, &workspace).await?;
            (workspace, plan, file) = plan_now(cx, input, Backend::Bucket, Direction::Forward, &[]).await?;
        }
        let mut world = adoption::Live::beside(cx, &workspace, killed)?;
        let (with_taken, taken) = adoption::adopt(&mut world, plan, &shown.changes).await?;
        plan = with_taken;
        if !taken.is_empty() {
            (workspace.terraform, file) = (world.terraform, world.file);
        }
    }
    let fresh = read(&plan, Backend::Bucket, &file)?;
    // What is kept or taken over was to be made, and ends up as it was shown; secrets are taken over by the stack itself.
    let is_ours = |change: &Change| {
        let imported = |found: &ResourceChange| found.address == change.name && found.change.importing.is_some();
        let was_to_be_made = shown.changes.iter().any(|known| known.name == change.name && known.action == Action::Create);
        let is_there = || kept.contains(&change.name) || plan.resource_changes.iter().any(imported);
        was_to_be_made && change.action == Action::Update && is_there()
    };
    let others: Vec<Change> = fresh.changes.iter().filter(|change| !is_ours(change)).cloned().collect();
    let beyond = changes::beyond(&shown.changes, &others, since);
    if !beyond.is_empty() {
        return Err(Failure::new(FailureKind::PlanStale, format!("{} would now do more than was shown", input.stack.display()))
            .evidence(beyond.join("\n"))
            .next("deployctl plan, and read it again"));
    }
    // What did not exist when the plan was shown is nothing that a guard protects.
    let guarded: Vec<Change> = fresh.changes.iter().filter(|change| !changes::makes_again(&shown.changes, change)).cloned().collect();
    guards::protected_by_the_step(&input.protect, &guarded)?;
    guards::check(&cx.environment.guards, &guarded)?;
    if fresh.plan.is_none() {
        return Ok(Applied { outcome: Outcome::Unchanged, outputs: fresh.outputs });
    }
    let file = write_plan(cx, &fresh)?;
    apply_file(cx, &workspace, &file, fresh.changes.len()).await
}

/// Addresses of what was made, not finished, and is kept.
pub(super) fn unfinished(plan: &PlanJson) -> Vec<String> {
    plan.resource_changes.iter().filter(|change| change.is_kept).map(|change| change.address.clone()).collect()
}

async fn keep(cx: &StepContext, workspace: &Workspace, kept: &[String]) -> Result<(), Failure> {
    for address in kept {
        cx.progress(format!("{address} was made and not finished: terraform is told to keep it"));
        let call = format!("terraform untaint of {address}");
        let _under_way = cx.aws.permit().begin(&call).map_err(|refused| refused.failure(&call))?;
        workspace.terraform.untaint(address).await?;
    }
    Ok(())
}

/// What was gone before a killed terraform made it anew is still in the state, under its old id: terraform takes nothing over under an
/// address that its state has, and would make it twice.
async fn forget_what_is_gone(cx: &StepContext, workspace: &Workspace) -> Result<(), Failure> {
    let file = cx.scratch.join("refresh.tfplan");
    workspace.terraform.plan(Direction::Refresh, &workspace.variables, &file, &mut |_| {}).await?;
    cx.progress("the state still has what was gone before the interruption: terraform is told to forget it");
    apply_file(cx, workspace, &file, 0).await.map(drop)
}
