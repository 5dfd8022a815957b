//! parser: reads uploaded files from S3, told by SQS, into Postgres, and tells Kafka.
mod config;
mod content;
mod csv;
mod database;
mod ingest;
mod json;
mod notification;
mod outbox;
mod queue;
mod refused;
mod rows;
mod work;

use std::{process::ExitCode, sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, retry::RetryConfig, timeout::TimeoutConfig};
use serving::{
    drain::{self, Drain, Termination},
    operations::{self, Readiness},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// After the last file: for its event to reach Kafka. With PARSER_FINISH_SECONDS before it this must stay below
/// terminationGracePeriodSeconds.
const LAST_EVENTS: Duration = Duration::from_secs(10);

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
    // S3's answers begin within an attempt; how long a body takes is not limited by it.
    let timeouts = TimeoutConfig::builder().connect_timeout(Duration::from_secs(3)).operation_attempt_timeout(Duration::from_secs(30));
    let sdk = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::standard().with_max_attempts(4))
        .timeout_config(timeouts.build())
        .load()
        .await;
    let written = Arc::new(Notify::new());
    // Nothing is waited for here: who can't reach the database, SQS or Kafka says so, is not ready, and goes on trying. A process that
    // ended instead would be started again ever more seldom, and would come back last.
    let database = readiness.dependency("database");
    let queue = (queue::Queue::new(&sdk, &config), readiness.dependency("queue"));
    let worker = work::Worker::new(config.clone(), aws_sdk_s3::Client::new(&sdk), queue, database.clone(), written.clone());
    let outbox = outbox::Outbox { config: config.clone(), written, database, kafka: readiness.dependency("kafka") };
    let stop_publishing = CancellationToken::new();
    let mut publisher = tokio::spawn(outbox.publish(stop_publishing.clone()));
    let working = tokio::spawn(Arc::new(worker).work(stop.clone()));
    // Nobody sends requests to the parser: it need not stay ready for a load balancer.
    let drain = Drain { delay: Duration::ZERO, finish: Duration::from_secs(5) };
    let served = drain::serve(config.listen, operations::routes(readiness.clone(), metrics), readiness, stop.clone(), drain).await;
    stop.cancel();
    working.await?;
    stop_publishing.cancel();
    match tokio::time::timeout(LAST_EVENTS, &mut publisher).await {
        Ok(ended) => ended?,
        Err(_late) => {
            publisher.abort();
            tracing::warn!("Kafka did not take the last events in time; another pod publishes them");
        }
    }
    served?;
    Ok(())
}
