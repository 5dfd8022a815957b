//! Kind `copied-images`: which images of the environment this region has, for what is prepared in it. It copies none: `apply` does, in the region where
//! they are built.
use std::{collections::BTreeMap, path::Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Applied, Kind, Outputs, StepContext, StepPlan, live::live_images};
use crate::{
    engine::event::Outcome,
    failure::{Failure, FailureKind},
    ids::{RepositoryName, ServiceName},
};

/// Kind `copied-images`.
pub struct CopiedImages;

/// `with` of kind `copied-images`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What repositories begin with, as in `deployctl-staging`.
    pub repositories: String,
    /// Names of images, as kind `image` gives them: services, and `deployctl` for the agent.
    pub images: Vec<ServiceName>,
}

/// What this region has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observed {
    /// The newest live image of each, by its full reference.
    pub found: BTreeMap<String, String>,
    /// Repositories without one.
    pub missing: Vec<String>,
}

impl Kind for CopiedImages {
    const NAME: &'static str = "copied-images";
    type Input = Input;
    type Observed = Observed;

    fn bound(_with: &Value, _project: &Path) -> Vec<String> {
        Vec::new()
    }

    async fn observe(cx: &StepContext, input: &Input) -> Result<Observed, Failure> {
        let mut observed = Observed { found: BTreeMap::new(), missing: Vec::new() };
        for image in &input.images {
            let name = format!("{}/{image}", input.repositories);
            let repository = RepositoryName::parse(&name).map_err(|e| Failure::usage("a repository's name").because(e))?;
            match live_images(&cx.aws, &cx.environment.name, &repository).await?.into_iter().next() {
                Some((_, image_here)) => {
                    let reference = format!("{}/{repository}@{}", cx.aws.registry_host(), image_here.digest);
                    observed.found.insert(image.to_string(), reference);
                }
                None => observed.missing.push(format!("{name} in {}", cx.aws.region())),
            }
        }
        Ok(observed)
    }

    fn plan(_input: &Input, observed: &Observed) -> Result<StepPlan, Failure> {
        if observed.missing.is_empty() {
            return Ok(StepPlan { changes: Vec::new(), payload: json!(observed.found) });
        }
        let mut failure = Failure::new(FailureKind::Preflight, format!("there is no copy of {}", observed.missing.join(", ")));
        failure.evidence.clone_from(&observed.missing);
        Err(failure.next("deployctl apply --only images"))
    }

    fn known_outputs(_input: &Input, observed: &Observed, _plan: &StepPlan) -> Option<Outputs> {
        Some(outputs(&observed.found))
    }

    async fn apply(_cx: &StepContext, _input: &Input, plan: &StepPlan) -> Result<Applied, Failure> {
        let found: BTreeMap<String, String> = serde_json::from_value(plan.payload.clone())
            .map_err(|e| Failure::new(FailureKind::PlanStale, "the saved plan of copied images").because(e))?;
        Ok(Applied { outcome: Outcome::Unchanged, outputs: outputs(&found) })
    }

    async fn verify(_cx: &StepContext, _input: &Input, _applied: &Applied) -> Result<(), Failure> {
        Ok(())
    }

    async fn undo(_cx: &StepContext, _input: &Input) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }
}

fn outputs(found: &BTreeMap<String, String>) -> Outputs {
    found.iter().map(|(name, reference)| (name.clone(), json!(reference))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn nothing_is_prepared_around_an_image_that_is_not_there() {
        let input: Input = serde_json::from_value(json!({ "repositories": "deployctl-x", "images": ["deployctl"] })).unwrap();
        let there =
            Observed { found: BTreeMap::from([("deployctl".into(), "host/deployctl-x/deployctl@sha256:1".into())]), missing: vec![] };
        let plan = CopiedImages::plan(&input, &there).unwrap();
        assert!(plan.changes.is_empty());
        assert_eq!(CopiedImages::known_outputs(&input, &there, &plan).unwrap()["deployctl"], "host/deployctl-x/deployctl@sha256:1");
        let missing = Observed { found: BTreeMap::new(), missing: vec!["deployctl-x/deployctl in eu-west-1".into()] };
        let failure = CopiedImages::plan(&input, &missing).unwrap_err();
        assert_eq!((failure.kind, failure.next), (FailureKind::Preflight, vec!["deployctl apply --only images".to_owned()]));
    }
}
