//! What was written before a kill -9 is there after it; what a killed caller has asked for is on record.
use std::time::Duration;

use crate::{
    aws::{Call, deployer},
    stack::{Stack, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn state_survives_kill_9() {
    let Some(mut stack) = Stack::start().await else { return };
    let session = deployer(stack.door, &stack.person).await;
    let made = Call::rest("s3", "PUT", "/kept", "").send(stack.door, &stack.person).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let put = Call::rest("s3", "PUT", "/kept/object", "content").send(stack.door, &stack.person).await;
    assert_eq!(put.status, 200, "{}", put.text);
    let queue = Call::target("sqs", "AmazonSQS.CreateQueue", r#"{"QueueName":"kept"}"#).send(stack.door, &stack.person).await;
    assert_eq!(queue.status, 200, "{}", queue.text);
    let secret = Call::target(
        "secretsmanager",
        "secretsmanager.CreateSecret",
        r#"{"Name":"kept","SecretString":"s","ClientRequestToken":"0123456789012345678901234567890123"}"#,
    );
    assert_eq!(secret.send(stack.door, &stack.person).await.status, 200);
    tokio::time::sleep(Duration::from_millis(600)).await;
    stack.kill_emulator_and_start_again().await;
    let read = Call::rest("s3", "GET", "/kept/object", "").send(stack.door, &stack.person).await;
    assert_eq!((read.status, read.text.as_str()), (200, "content"));
    let queues = Call::target("sqs", "AmazonSQS.GetQueueUrl", r#"{"QueueName":"kept"}"#).send(stack.door, &stack.person).await;
    assert_eq!(queues.status, 200, "{}", queues.text);
    let secret =
        Call::target("secretsmanager", "secretsmanager.GetSecretValue", r#"{"SecretId":"kept"}"#).send(stack.door, &stack.person).await;
    assert_eq!(secret.json()["SecretString"], "s");
    let who = Call::query("sts", "Action=GetCallerIdentity&Version=2011-06-15").send(stack.door, &session).await;
    assert!(who.text.contains("assumed-role/deployctl-deployer/test"), "{}", who.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_for_a_caller_who_is_gone_is_on_record() {
    let Some(stack) = Stack::start().await else { return };
    for attempt in 0..40 {
        let call = Call::target("sqs", "AmazonSQS.CreateQueue", &format!(r#"{{"QueueName":"q{attempt}"}}"#));
        // Gone at another moment each time: most before the answer, the last ones after it.
        drop(tokio::time::timeout(Duration::from_millis(attempt), call.send(stack.door, &stack.person)).await);
    }
    // What is still under way ends.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let made = Call::target("sqs", "AmazonSQS.ListQueues", "{}").send(stack.door, &stack.person).await.json();
    let made = made["QueueUrls"].as_array().unwrap().len();
    assert!(made > 5, "only {made} were asked for in time");
    let recorded = || stack.requests().iter().filter(|line| line["action"] == "sqs:CreateQueue" && line["status"] == 200).count();
    until("every queue that was made to be on record", || async { recorded() == made }).await;
}
