//! After a database instance has taken another's name: terraform knows an instance, and the replication of its backups, by ids that no rename
//! changes, and would go on looking after the old ones. Its state is told of the new ones.
use serde_json::Value;

use super::{Backend, Direction, Input, plan_now, prepare, workspace::Workspace};
use crate::{
    aws::rds_in_place::DbSettings,
    failure::Failure,
    steps::StepContext,
    tools::terraform::plan_json::{Resource, StateJson},
};

/// A resource of the stack that is another thing now.
struct Exchanged<'a> {
    kind: &'static str,
    /// The attribute by which it is known that the state has the new one already, and its value then.
    new: (&'static str, &'a str),
    /// The attribute that old and new have in common, and its value: in the state, or where the stack would make it.
    common: (&'static str, &'a str),
    /// By which terraform imports it.
    import: &'a str,
}

/// What a stack had to do with it.
enum Followed {
    /// Nothing: it is another stack's, or nobody's.
    NotOurs,
    /// Its state knew the new one already.
    Known,
    /// Its state has been told of the new one, in these words.
    Told(String),
}

/// Makes the state of one stack follow; says what was changed, nothing if the stack does not hold the instance or knows it already. `with` is the
/// step's, its references resolved.
pub async fn follow(cx: &StepContext, with: &Value, instance: &DbSettings) -> Result<Vec<String>, Failure> {
    let input: Input = serde_json::from_value(with.clone())
        .map_err(|error| Failure::usage(format!("`with` of step {} does not fit kind terraform", cx.step)).because(error))?;
    let workspace = prepare(cx, &input, Backend::Bucket).await?;
    let state = workspace.terraform.show_state().await?;
    let database = Exchanged {
        kind: "aws_db_instance",
        new: ("resource_id", &instance.resource),
        common: ("identifier", instance.id.as_str()),
        import: instance.id.as_str(),
    };
    let mut told = Vec::new();
    match database.take_over(cx, &input, &workspace, &state).await? {
        // Replication stands where the instance does.
        Followed::NotOurs => return Ok(told),
        Followed::Known => {}
        Followed::Told(what) => told.push(what),
    }
    let there = cx.aws.in_region(&cx.environment.aws.dr_region);
    let Some(backup) = there.replicated_backup_of(&instance.resource).await? else { return Ok(told) };
    let replication = Exchanged {
        kind: "aws_db_instance_automated_backups_replication",
        new: ("id", &backup),
        common: ("source_db_instance_arn", &instance.arn),
        import: &backup,
    };
    if let Followed::Told(what) = replication.take_over(cx, &input, &workspace, &state).await? {
        told.push(what);
    }
    Ok(told)
}

impl Exchanged<'_> {
    async fn take_over(&self, cx: &StepContext, input: &Input, workspace: &Workspace, state: &StateJson) -> Result<Followed, Failure> {
        let ours: Vec<&Resource> = state.resources().into_iter().filter(|found| found.kind == self.kind).collect();
        if ours.iter().any(|found| found.values[self.new.0] == self.new.1) {
            return Ok(Followed::Known);
        }
        let known = ours.iter().find(|found| found.values[self.common.0] == self.common.1).map(|found| found.address.clone());
        let address = match &known {
            Some(address) => address.clone(),
            // Killed between forgetting and importing: the stack would make it.
            None => {
                let (_, plan, _) = plan_now(cx, input, Backend::Bucket, Direction::Forward, &[]).await?;
                let made = plan.resource_changes.iter().find(|change| {
                    change.kind == self.kind && change.change.actions == ["create"] && change.change.after[self.common.0] == self.common.1
                });
                let Some(made) = made else { return Ok(Followed::NotOurs) };
                made.address.clone()
            }
        };
        let call = format!("terraform import of {address}");
        let _under_way = cx.aws.permit().begin(&call).map_err(|refused| refused.failure(&call))?;
        if known.is_some() {
            workspace.terraform.forget(&address).await?;
        }
        workspace.terraform.import(&workspace.variables, &address, self.import).await?;
        Ok(Followed::Told(format!("{}: {address} is {} now", input.stack.display(), self.new.1)))
    }
}
