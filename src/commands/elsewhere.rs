//! What `status` and `history` ask the state bucket, so that they know of runs on other machines: it only reads, for a few seconds at most, and
//! where it gets no answer they show what this machine knows and say so.
use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    aws::Aws,
    engine::{
        mirror,
        records::{BucketRecords, Records},
        workplace::StateFolder,
    },
    failure::{Failure, FailureKind},
    ids::{EnvironmentName, Region, RunId},
    permit::Permit,
    plan::{environment::Environment, read},
    ui::Ui,
};

/// For one region's answer: credentials, a list and some journals take a second.
const PATIENCE: Duration = Duration::from_secs(4);

/// Which journals.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// So many, the newest ones.
    Newest(usize),
    /// One, however old it is.
    Run(&'a RunId),
}

/// Brings them from the state bucket, or where that does not answer, from their copies in the DR region.
pub async fn bring(project: &Path, name: &EnvironmentName, state: &StateFolder, wanted: Wanted<'_>, ui: &Ui) {
    let untold = |failure: &Failure| {
        let why = failure.chain().join(": ");
        ui.note(&format!("what other machines have done is not known ({why}); this machine's own runs are shown; --offline does not ask"));
    };
    let environment = match read::environment(project, name) {
        Ok(environment) => environment,
        Err(failure) => return untold(&failure),
    };
    let (region, dr_region) = (&environment.aws.region, &environment.aws.dr_region);
    match ask(&environment, region, state, wanted).await {
        Ok(()) => {}
        // Whom one region does not know the other does not know either.
        Err(failure) if failure.kind == FailureKind::Credentials => untold(&failure),
        Err(failure) => match ask(&environment, dr_region, state, wanted).await {
            Ok(()) => ui.note(&format!(
                "{region} cannot be asked ({failure}); shown is what {dr_region} has copies of, and this machine's own runs"
            )),
            Err(_) => untold(&failure),
        },
    }
}

async fn ask(environment: &Environment, region: &Region, state: &StateFolder, wanted: Wanted<'_>) -> Result<(), Failure> {
    let asking = async {
        let aws = &environment.aws;
        // The region's own STS: a lost one could not even say who we are.
        let connected = Aws::connect(region, aws.deployer_role_arn.as_ref(), &aws.account_id).await?;
        let connected = Arc::new(connected.with_permit(Permit::to_look()));
        let records: Box<dyn Records> = if *region == aws.region {
            Box::new(BucketRecords::of(&connected, environment)?)
        } else {
            Box::new(BucketRecords::in_dr_region(&connected, environment)?)
        };
        match wanted {
            Wanted::Newest(count) => mirror::bring_newest(&*records, state, &environment.name, count).await,
            Wanted::Run(run) => mirror::bring_run(&*records, state, &environment.name, run).await,
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_late| Err(Failure::timeout(format!("the state bucket in {region}"), PATIENCE)))
}
