//! parser: reads uploaded files from S3, told by SQS, into Postgres, and tells Kafka.
mod config;
mod content;
mod database;
mod ingest;
mod notification;
mod outbox;
mod queue;
mod refused;
mod rows;

use std::{process::ExitCode, sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, retry::RetryConfig, timeout::TimeoutConfig};
use serving::{
    drain::{self, Drain, Termination},
    operations::{self, Readiness},
};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    serving::run("parser", run()).await
}

async fn run() -> Result<(), serving::Error> {
    let mut termination = Termination::install()?;
    let config = Arc::new(config::Config::read()?);
    let metrics = operations::install_metrics()?;
    let readiness = Readiness::default();
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    tokio::spawn(async move {
        termination.received().await;
        stopper.cancel();
    });
    // A long poll may hang for ever on a lost connection; an attempt is longer than the poll and no longer.
    let timeouts = TimeoutConfig::builder().connect_timeout(Duration::from_secs(3)).operation_attempt_timeout(Duration::from_secs(30));
    let sdk = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::standard().with_max_attempts(4))
        .timeout_config(timeouts.build())
        .load()
        .await;
    // Two connections at the start: a wrong password or an unreachable database shows in the pod's log at once.
    let first = database::connect(&config.database).await?;
    let written = Arc::new(Notify::new());
    let worker = Arc::new(queue::Worker {
        config: config.clone(),
        s3: aws_sdk_s3::Client::new(&sdk),
        sqs: aws_sdk_sqs::Client::new(&sdk),
        idle: Mutex::new(vec![first]),
        written: written.clone(),
    });
    let stop_publishing = CancellationToken::new();
    let publisher = tokio::spawn(outbox::publish(config.clone(), written, stop_publishing.clone()));
    let working = tokio::spawn(queue::work(worker, stop.clone()));
    // Nobody sends requests to the parser: it need not stay ready for a load balancer.
    let drain = Drain { delay: Duration::ZERO, finish: Duration::from_secs(5) };
    let served = drain::serve(config.listen, operations::routes(readiness.clone(), metrics), readiness, stop.clone(), drain).await;
    stop.cancel();
    working.await?;
    stop_publishing.cancel();
    publisher.await?;
    served?;
    Ok(())
}
