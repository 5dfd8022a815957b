//! What an account may have at most, by Service Quotas; for RDS by RDS itself, which says what is used of it too.
use serde_json::{Value, json};

use super::{Aws, signed::Answer};
use crate::failure::Failure;

/// A quota of Service Quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// As in `vpc`.
    pub service: &'static str,
    /// As in `L-F678F1CE`.
    pub code: &'static str,
}

impl Aws {
    /// The quota's value in this account and region; AWS' default where it was never changed.
    pub async fn quota(&self, quota: Quota) -> Result<f64, Failure> {
        match self.ask_quota("GetServiceQuota", quota).await? {
            Some(value) => Ok(value),
            None => self
                .ask_quota("GetAWSDefaultServiceQuota", quota)
                .await?
                .ok_or_else(|| Failure::step(format!("Service Quotas knows no quota {} of {}", quota.code, quota.service))),
        }
    }

    /// None where AWS keeps no such value.
    async fn ask_quota(&self, operation: &str, Quota { service, code }: Quota) -> Result<Option<f64>, Failure> {
        let action = format!("servicequotas:{operation}");
        let body = json!({ "ServiceCode": service, "QuotaCode": code });
        match self.ask_json("servicequotas", &format!("ServiceQuotasV20190624.{operation}"), &body).await? {
            Answer::Done(text) => {
                let answer: Value = serde_json::from_str(&text).unwrap_or_default();
                let value = answer.pointer("/Quota/Value").and_then(Value::as_f64);
                value.map(Some).ok_or_else(|| Failure::step(format!("{action}: the answer has no value")))
            }
            Answer::Refused { code, .. } if code == "NoSuchResourceException" => Ok(None),
            Answer::Refused { status, code, message } => Err(self.refused(&action, status, &code, &message)),
        }
    }

    /// Instances that RDS lets this account have in this region, and how many there are.
    pub async fn db_instance_quota(&self) -> Result<(u64, u64), Failure> {
        let answer = self.rds().describe_account_attributes().send().await;
        let answer = answer.map_err(|e| self.failed("rds:DescribeAccountAttributes", "this account", e))?;
        let quota = answer.account_quotas().iter().find(|quota| quota.account_quota_name() == Some("DBInstances"));
        let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        quota
            .and_then(|quota| Some((number(quota.max())?, number(quota.used())?)))
            .ok_or_else(|| Failure::step("rds:DescribeAccountAttributes names no quota DBInstances"))
    }
}
