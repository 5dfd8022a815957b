//! What was written before a kill -9 is there after it.
use std::time::Duration;

use crate::{
    aws::{Call, deployer},
    stack::Stack,
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
