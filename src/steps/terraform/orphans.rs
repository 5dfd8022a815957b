//! An empty state beside resources that carry our names: the state was lost. An apply would make them again, a destroy leave them.
use super::{Input, verify::Check};
use crate::{
    failure::{Failure, FailureKind},
    steps::StepContext,
};

/// Refuses when something of this stack is there although its state is empty or missing.
pub(super) async fn refuse(cx: &StepContext, input: &Input) -> Result<(), Failure> {
    let invalid = |e: crate::ids::InvalidId| Failure::usage("the environment's name makes no valid resource name").because(e);
    let mut found = Vec::new();
    for check in &input.checks {
        match check {
            Check::ClusterReady => {
                let id = cx.environment.cluster_name().map_err(invalid)?;
                found.extend(cx.aws.find_cluster(&id).await?.map(|_| format!("EKS cluster {id}")));
            }
            Check::Database => {
                let id = cx.environment.db_instance_id().map_err(invalid)?;
                found.extend(cx.aws.db_instance(&id).await?.map(|_| format!("RDS instance {id}")));
            }
            Check::Storage => {
                let id = cx.environment.uploads_bucket(None).map_err(invalid)?;
                found.extend(cx.aws.bucket_exists(&id).await?.then(|| format!("bucket {id}")));
            }
            Check::SubnetTags => {
                let subnets = cx.aws.subnets_tagged("deployctl:environment", cx.environment.name.as_str()).await?;
                found.extend(subnets.into_iter().map(|subnet| format!("subnet {}", subnet.id)));
            }
            Check::Addons | Check::Queues | Check::Secrets | Check::TrustPolicies => {}
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::Policy,
        format!("the state of {} is empty, but resources with our names are there", input.stack.display()),
    )
    .evidence(found.join("\n"))
    .next("if an apply was killed on another machine: run it there again, it takes over what it made")
    .next("bring an older version of the state object back from the state bucket's history")
    .next("or delete these by hand, once you know whose they are"))
}
