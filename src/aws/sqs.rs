//! SQS: what a queue is set to.
use std::collections::HashMap;

use aws_sdk_sqs::types::QueueAttributeName;

use super::{Aws, error};
use crate::{failure::Failure, ids::QueueUrl};

/// A queue's attributes that deployctl checks.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Its ARN.
    pub arn: String,
    /// Its policy.
    pub policy: Option<serde_json::Value>,
    /// The ARN of its dead-letter queue.
    pub dead_letter_queue: Option<String>,
    /// Whether messages are encrypted at rest.
    pub encrypted: bool,
    /// Messages that can be received, about.
    pub depth: u64,
    /// Messages that somebody is working on, about.
    pub in_flight: u64,
}

impl Aws {
    /// A queue's attributes; none if there is no such queue.
    pub async fn queue(&self, url: &QueueUrl) -> Result<Option<Queue>, Failure> {
        let request = self.sqs().get_queue_attributes().queue_url(url.as_str()).attribute_names(QueueAttributeName::All);
        let mut found: HashMap<QueueAttributeName, String> = match request.send().await {
            Ok(answer) => answer.attributes.unwrap_or_default(),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_queue_does_not_exist()) => return Ok(None),
            Err(e) if matches!(error::code(&e), Some("AWS.SimpleQueueService.NonExistentQueue")) => return Ok(None),
            Err(e) => return Err(self.failed("sqs:GetQueueAttributes", url.as_str(), e)),
        };
        let redrive =
            found.remove(&QueueAttributeName::RedrivePolicy).and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        let number = |found: &HashMap<_, String>, name| found.get(&name).and_then(|n| n.parse().ok()).unwrap_or(0);
        Ok(Some(Queue {
            policy: found.remove(&QueueAttributeName::Policy).and_then(|text| serde_json::from_str(&text).ok()),
            dead_letter_queue: redrive.and_then(|r| r["deadLetterTargetArn"].as_str().map(str::to_owned)),
            encrypted: found.get(&QueueAttributeName::SqsManagedSseEnabled).is_some_and(|v| v == "true")
                || found.contains_key(&QueueAttributeName::KmsMasterKeyId),
            depth: number(&found, QueueAttributeName::ApproximateNumberOfMessages),
            in_flight: number(&found, QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
            arn: found.remove(&QueueAttributeName::QueueArn).unwrap_or_default(),
        }))
    }

    /// The URL of a queue by its name; none if there is no such queue.
    pub async fn queue_url(&self, name: &str) -> Result<Option<String>, Failure> {
        match self.sqs().get_queue_url().queue_name(name).send().await {
            Ok(answer) => Ok(answer.queue_url),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_queue_does_not_exist()) => Ok(None),
            Err(e) if matches!(error::code(&e), Some("AWS.SimpleQueueService.NonExistentQueue")) => Ok(None),
            Err(e) => Err(self.failed("sqs:GetQueueUrl", name, e)),
        }
    }
}
