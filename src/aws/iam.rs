//! IAM: who a role trusts, and what a principal may do.
use std::collections::BTreeMap;

use aws_sdk_iam::types::{ContextEntry, ContextKeyTypeEnum, PolicyEvaluationDecisionType};
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

/// What to simulate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// As in `s3:GetObject`; no wildcards.
    pub actions: Vec<String>,
    /// An ARN, or `*`.
    pub resource: String,
    /// Values of condition keys.
    pub context: Vec<(String, String)>,
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

    /// Simulates actions for a role, a hundred at a time; every page of the answers is read.
    pub async fn simulate(&self, role: &RoleArn, question: &Question) -> Result<BTreeMap<String, Decision>, Failure> {
        let mut decisions = BTreeMap::new();
        for batch in question.actions.chunks(100) {
            let mut request =
                self.iam().simulate_principal_policy().policy_source_arn(role.as_str()).set_action_names(Some(batch.to_vec()));
            request = request.resource_arns(&question.resource);
            for (key, value) in &question.context {
                let kind = ContextKeyTypeEnum::String;
                request = request.context_entries(
                    ContextEntry::builder().context_key_name(key).context_key_values(value).context_key_type(kind).build(),
                );
            }
            let results: Result<Vec<_>, _> = request.into_paginator().items().send().collect().await;
            for result in results.map_err(|e| self.failed("iam:SimulatePrincipalPolicy", role.as_str(), e))? {
                let allowed = result.eval_decision == PolicyEvaluationDecisionType::Allowed;
                decisions.insert(result.eval_action_name, if allowed { Decision::Allowed } else { Decision::Denied });
            }
        }
        Ok(decisions)
    }
}
