//! SQS: receives, keeps a message hidden while its file is read, deletes it when its rows are committed.
use std::{sync::Arc, time::Duration};

use aws_sdk_sqs::{
    error::DisplayErrorContext,
    types::{Message, MessageSystemAttributeName},
};
use tokio::{
    sync::{Mutex, Notify, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    config::Config,
    database,
    ingest::{IngestError, Ingested, ingest},
    notification,
    refused::Refused,
};

const LONG_POLL: Duration = Duration::from_secs(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a worker needs.
pub struct Worker {
    /// Configuration.
    pub config: Arc<Config>,
    /// S3.
    pub s3: aws_sdk_s3::Client,
    /// SQS.
    pub sqs: aws_sdk_sqs::Client,
    /// Connections that are not in use.
    pub idle: Mutex<Vec<tokio_postgres::Client>>,
    /// Told when an event has been written.
    pub written: Arc<Notify>,
}

/// Works until `stop` is cancelled, then finishes what is in flight within the configured time.
pub async fn work(worker: Arc<Worker>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(worker.config.concurrency));
    let mut tasks = JoinSet::new();
    let mut pause = Duration::from_millis(250);
    while !stop.is_cancelled() {
        while tasks.try_join_next().is_some() {}
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let more = slots.available_permits().min(9);
        // Without a database every message would be received in vain and come nearer to the dead-letter queue.
        let received = tokio::select! {
            received = worker.receive(more + 1) => received,
            () = stop.cancelled() => break,
        };
        match received {
            Ok(messages) => {
                pause = Duration::from_millis(250);
                let mut slot = Some(slot);
                for message in messages {
                    let held = match slot.take() {
                        Some(slot) => slot,
                        None => match slots.clone().acquire_owned().await {
                            Ok(slot) => slot,
                            Err(_closed) => return,
                        },
                    };
                    let worker = worker.clone();
                    tasks.spawn(async move {
                        worker.handle(message).await;
                        drop(held);
                    });
                }
            }
            Err(error) => {
                tracing::warn!(error, again_in_ms = pause.as_millis(), "nothing can be received");
                metrics::counter!("parser_receive_errors_total").increment(1);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => break,
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    tracing::info!(in_flight = tasks.len(), "no new messages; finishing");
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(worker.config.finish, all).await.is_err() {
        // Their transactions roll back and their messages come again.
        tracing::warn!(in_flight = tasks.len(), "time is up; these files will be read again");
    }
}

impl Worker {
    async fn receive(&self, most: usize) -> Result<Vec<Message>, String> {
        let connection = self.connection().await?;
        self.idle.lock().await.push(connection);
        let received = self
            .sqs
            .receive_message()
            .queue_url(&self.config.queue_url)
            .max_number_of_messages(i32::try_from(most.min(10)).unwrap_or(10))
            .wait_time_seconds(i32::try_from(LONG_POLL.as_secs()).unwrap_or(20))
            .visibility_timeout(i32::try_from(self.config.visibility.as_secs()).unwrap_or(60))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .send()
            .await
            .map_err(|error| format!("SQS: {}", DisplayErrorContext(&error)))?;
        Ok(received.messages.unwrap_or_default())
    }

    async fn connection(&self) -> Result<tokio_postgres::Client, String> {
        while let Some(client) = self.idle.lock().await.pop() {
            if tokio::time::timeout(Duration::from_secs(5), client.simple_query("")).await.is_ok_and(|answer| answer.is_ok()) {
                return Ok(client);
            }
        }
        database::connect(&self.config.database).await.map_err(|error| serving::chain(&error))
    }

    async fn handle(&self, message: Message) {
        let id = message.message_id().unwrap_or_default().to_owned();
        let receives = message.attributes().and_then(|all| all.get(&MessageSystemAttributeName::ApproximateReceiveCount)).cloned();
        let span = tracing::info_span!("message", id, receives = receives.as_deref().unwrap_or("1"));
        async {
            let Some(receipt) = message.receipt_handle() else { return };
            let heartbeat = self.keep_hidden(receipt);
            let outcome = tokio::select! {
                outcome = self.read(message.body().unwrap_or_default()) => outcome,
                never = heartbeat => match never {},
            };
            match outcome {
                Ok(()) => self.delete(receipt).await,
                Err(IngestError::Refused(refused)) => {
                    metrics::counter!("parser_files_refused_total", "code" => refused.code()).increment(1);
                    tracing::error!(reason = %refused, "file refused; its message goes to the dead-letter queue");
                    // At once visible again: the redrive policy counts it out instead of waiting for the timeout.
                    self.hide(receipt, Duration::ZERO).await;
                }
                Err(error) => {
                    metrics::counter!("parser_files_postponed_total").increment(1);
                    tracing::warn!(error = serving::chain(&error), "not now; the message comes again");
                }
            }
        }
        .instrument(span)
        .await;
    }

    async fn read(&self, body: &str) -> Result<(), IngestError> {
        let created = notification::created(body).map_err(|error| Refused::Message(error.to_string()))?;
        for object in created {
            let started = std::time::Instant::now();
            let mut client = self.connection().await.map_err(IngestError::Storage)?;
            let ingested = ingest(&self.config, &self.s3, &mut client, &object).await;
            // A failed transaction may have left the connection in the middle of a COPY.
            if ingested.is_ok() {
                self.idle.lock().await.push(client);
            }
            match ingested? {
                Ingested::Parsed { accepted, rejected } => {
                    self.written.notify_one();
                    metrics::counter!("parser_files_parsed_total").increment(1);
                    metrics::counter!("parser_rows_total", "outcome" => "accepted").increment(accepted);
                    metrics::counter!("parser_rows_total", "outcome" => "rejected").increment(rejected);
                    metrics::histogram!("parser_file_duration_seconds").record(started.elapsed().as_secs_f64());
                    tracing::info!(key = object.key, accepted, rejected, millis = started.elapsed().as_millis(), "parsed");
                }
                Ingested::Already => {
                    metrics::counter!("parser_files_duplicate_total").increment(1);
                    tracing::info!(key = object.key, "already parsed");
                }
                Ingested::Gone => tracing::warn!(key = object.key, "the object is gone"),
            }
        }
        Ok(())
    }

    /// Renews the visibility at half of it, for as long as it is polled.
    async fn keep_hidden(&self, receipt: &str) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(self.config.visibility / 2).await;
            self.hide(receipt, self.config.visibility).await;
        }
    }

    async fn hide(&self, receipt: &str, how_long: Duration) {
        let seconds = i32::try_from(how_long.as_secs()).unwrap_or(i32::MAX);
        let request = self.sqs.change_message_visibility().queue_url(&self.config.queue_url).receipt_handle(receipt);
        if let Err(error) = request.visibility_timeout(seconds).send().await {
            // At worst another pod reads the same file, and finds it already parsed.
            tracing::warn!(error = %DisplayErrorContext(&error), "can't change a message's visibility");
        }
    }

    async fn delete(&self, receipt: &str) {
        if let Err(error) = self.sqs.delete_message().queue_url(&self.config.queue_url).receipt_handle(receipt).send().await {
            tracing::warn!(error = %DisplayErrorContext(&error), "can't delete a message; it comes again and will be found already parsed");
        }
    }
}
