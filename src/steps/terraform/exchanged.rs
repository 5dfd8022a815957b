//! After a database instance has taken another's name: terraform knows an instance by an id that no rename changes, and would go on looking
//! after the old one. Its state is told of the new one.
use serde_json::Value;

use super::{Backend, Direction, Input, plan_now, prepare};
use crate::{aws::rds_in_place::DbSettings, failure::Failure, steps::StepContext};

const INSTANCE: &str = "aws_db_instance";

/// Makes the state of one stack follow; says what was changed, nothing if the stack does not hold the instance or knows it already. `with` is the
/// step's, its references resolved.
pub async fn follow(cx: &StepContext, with: &Value, instance: &DbSettings) -> Result<Option<String>, Failure> {
    let input: Input = serde_json::from_value(with.clone())
        .map_err(|error| Failure::usage(format!("`with` of step {} does not fit kind terraform", cx.step)).because(error))?;
    let workspace = prepare(cx, &input, Backend::Bucket).await?;
    let state = workspace.terraform.show_state().await?;
    let instances: Vec<_> = state.resources().into_iter().filter(|found| found.mode == "managed" && found.kind == INSTANCE).collect();
    if instances.iter().any(|found| found.values["resource_id"] == instance.resource.as_str()) {
        return Ok(None);
    }
    let known = instances.iter().find(|found| found.values["identifier"] == instance.id.as_str()).map(|found| found.address.clone());
    let address = match &known {
        Some(address) => address.clone(),
        // Killed between forgetting and importing: the stack would make it.
        None => {
            let (_, plan, _) = plan_now(cx, &input, Backend::Bucket, Direction::Forward, &[]).await?;
            let made = plan.resource_changes.iter().find(|change| {
                change.kind == INSTANCE && change.change.actions == ["create"] && change.change.after["identifier"] == instance.id.as_str()
            });
            let Some(made) = made else { return Ok(None) };
            made.address.clone()
        }
    };
    let call = format!("terraform import of {address}");
    let _under_way = cx.aws.permit().begin(&call).map_err(|refused| refused.failure(&call))?;
    if known.is_some() {
        workspace.terraform.forget(&address).await?;
    }
    workspace.terraform.import(&workspace.variables, &address, instance.id.as_str()).await?;
    Ok(Some(format!("{}: {address} is {} now", input.stack.display(), instance.resource)))
}
