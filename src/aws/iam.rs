//! IAM: who a role trusts, and what a principal may do.
use std::collections::BTreeMap;

use aws_sdk_iam::types::PolicyEvaluationDecisionType;
use serde_json::Value;

use super::Aws;
use crate::{failure::Failure, ids::RoleArn};

/// What the simulation says of one action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Some statement allows it.
    Allowed,
    /// No statement allows it, or one denies it.
    Denied,
}

impl Aws {
    /// The trust policy of a role, by its name; none if there is no such role.
    pub async fn role_trust_policy(&self, role: &str) -> Result<Option<Value>, Failure> {
        let answer = match self.iam().get_role().role_name(role).send().await {
            Ok(answer) => answer,
            Err(e) if e.as_service_error().is_some_and(|e| e.is_no_such_entity_exception()) => return Ok(None),
            Err(e) => return Err(self.failed("iam:GetRole", role, e)),
        };
        let text = answer.role.and_then(|r| r.assume_role_policy_document).unwrap_or_default();
        // IAM sends policies URL-encoded.
        let decoded = url::form_urlencoded::parse(format!("p={}", text.replace('+', "%2B")).as_bytes()).next().map(|(_, v)| v.into_owned());
        let document = serde_json::from_str(&decoded.unwrap_or_default());
        document.map(Some).map_err(|e| Failure::step(format!("iam:GetRole on {role}: its trust policy is not JSON")).because(e))
    }

    /// Simulates actions on all resources for a role, a hundred at a time.
    pub async fn simulate(&self, role: &RoleArn, actions: &[String]) -> Result<BTreeMap<String, Decision>, Failure> {
        let mut decisions = BTreeMap::new();
        for batch in actions.chunks(100) {
            let request = self.iam().simulate_principal_policy().policy_source_arn(role.as_str()).set_action_names(Some(batch.to_vec()));
            let results: Result<Vec<_>, _> = request.into_paginator().items().send().collect().await;
            for result in results.map_err(|e| self.failed("iam:SimulatePrincipalPolicy", role.as_str(), e))? {
                let allowed = result.eval_decision == PolicyEvaluationDecisionType::Allowed;
                decisions.insert(result.eval_action_name, if allowed { Decision::Allowed } else { Decision::Denied });
            }
        }
        Ok(decisions)
    }

    /// Simulates one action on one resource; policies that name resources cannot be judged on `*`.
    pub async fn simulate_on(&self, role: &RoleArn, action: &str, resource: &str) -> Result<Decision, Failure> {
        let request = self.iam().simulate_principal_policy().policy_source_arn(role.as_str()).action_names(action).resource_arns(resource);
        let answer = request.send().await.map_err(|e| self.failed("iam:SimulatePrincipalPolicy", role.as_str(), e))?;
        let allowed =
            answer.evaluation_results.unwrap_or_default().iter().any(|r| r.eval_decision == PolicyEvaluationDecisionType::Allowed);
        Ok(if allowed { Decision::Allowed } else { Decision::Denied })
    }
}
