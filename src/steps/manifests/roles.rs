//! Whether each role is given to its own service account's token, and to nobody else's: asked of AWS, as a pod would.
use std::{collections::BTreeMap, time::Duration};

use backon::{ConstantBuilder, Retryable};
use futures::future::try_join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    aws::sts::Assumed,
    cluster::Cluster,
    failure::{Failure, FailureKind},
    ids::RoleArn,
    steps::{StepContext, bearer::Bearer},
};

/// Every namespace has it, and no role trusts it.
const STRANGER: &str = "default";
/// A new role is known everywhere within seconds (IAM, "Troubleshoot IAM: changes that I make are not always immediately visible"), and so is an
/// association (EKS API Reference, CreatePodIdentityAssociation).
const DEADLINE: Duration = Duration::from_secs(60);

/// Roles, and whose they are.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    /// `${all.service_accounts}`.
    pub service_accounts: BTreeMap<String, Account>,
    /// ARNs by the same keys.
    pub arns: BTreeMap<String, RoleArn>,
}

/// One service account.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub service_account: String,
}

/// Fails on the first role that its own account does not get, or that another one does.
pub(super) async fn check(cx: &StepContext, cluster: &Cluster, roles: &Roles) -> Result<(), Failure> {
    let started = tokio::time::Instant::now();
    let looks = roles.service_accounts.iter().map(|(key, account)| async move {
        let arn = roles.arns.get(key).ok_or_else(|| Failure::verification(format!("there is no role for {key}")))?;
        let own = Bearer { cx, cluster, namespace: &account.namespace, account: &account.service_account };
        let assumed = || async {
            match own.assumes(arn).await? {
                Assumed::Yes => Ok(()),
                Assumed::Refused(why) => Err(Failure::verification(format!("{key} does not get its role {arn}: {why}"))),
            }
        };
        let patience = ConstantBuilder::default().with_delay(Duration::from_secs(2)).without_max_times();
        let refused = |failure: &Failure| failure.kind == FailureKind::Verification;
        cx.wait_until(&format!("AWS to give {key} its role"), DEADLINE, assumed.retry(patience).when(refused)).await?;
        match (Bearer { account: STRANGER, ..own }).assumes(arn).await? {
            Assumed::Refused(_) => Ok(()),
            Assumed::Yes => Err(Failure::verification(format!(
                "{arn} is given to the account {STRANGER} of {}, which it is not for",
                account.namespace
            ))
            .next("look at the role's trust policy, then: deployctl apply --from identity")),
        }
    });
    try_join_all(looks).await?;
    cx.checked(format!("{} roles are given to their own service accounts and refused to others", roles.arns.len()), started.elapsed());
    Ok(())
}
