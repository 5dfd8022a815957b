//! From the outbox to Kafka: at least once, in order of writing, each event under one id.
use std::{pin::pin, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use krafka::{
    Kafka, Record,
    auth::{AuthConfig, TlsConfig},
    producer::{Acks, Producer},
};
use serving::operations::Dependency;
use tokio::sync::Notify;
use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    config::{Config, KafkaSecurity},
    database,
};

const BATCH: usize = 200;
/// An event that was written by another pod, or left by one that died, is found after this at the latest.
const IDLE: Duration = Duration::from_secs(2);
const REQUEST: Duration = Duration::from_secs(10);
/// Longer than one request may take: an event is sent again at least once before it waits for the next round.
const DELIVERY: Duration = Duration::from_secs(25);
/// Longer than Kafka's own limits, so that these name the cause.
const ROUND: Duration = Duration::from_secs(90);
/// Who takes longer does not answer, as far as readiness goes; it is still waited for.
const SLOW: Duration = Duration::from_secs(3);

/// Why a round ended early; the next round tries again.
#[derive(Debug, thiserror::Error)]
enum OutboxError {
    #[error("no database")]
    Connect(#[from] database::ConnectError),
    #[error("the outbox")]
    Database(#[from] tokio_postgres::Error),
    #[error("Kafka")]
    Kafka(#[from] krafka::error::KrafkaError),
    #[error("can't read Kafka's credentials")]
    Credentials(#[from] std::io::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
}

fn pauses() -> ExponentialBackoff {
    let pauses = ExponentialBuilder::new().with_min_delay(Duration::from_millis(500)).with_max_delay(Duration::from_secs(15));
    pauses.without_max_times().with_jitter().build()
}

/// Events on their way from the database to Kafka.
pub struct Outbox {
    /// Configuration.
    pub config: Arc<Config>,
    /// Wakes it when this process has committed an event.
    pub written: Arc<Notify>,
    /// Told whether it answers.
    pub database: Dependency,
    /// Told whether it answers.
    pub kafka: Dependency,
}

impl Outbox {
    /// Publishes until `stop` is cancelled, and then what is left.
    pub async fn publish(self, stop: CancellationToken) {
        let mut pauses = pauses();
        while let Err(error) = self.session(&stop, &mut pauses).await {
            let pause = pauses.next().unwrap_or_default();
            tracing::warn!(error = serving::chain(&error), again_in_ms = pause.as_millis(), "events wait in the outbox");
            metrics::counter!("parser_outbox_errors_total").increment(1);
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// With one connection each to the database and to Kafka, whose credentials are read anew. Ends well only when it was stopped.
    async fn session(&self, stop: &CancellationToken, pauses: &mut ExponentialBackoff) -> Result<(), OutboxError> {
        let mut client = watched(&self.database, async { Ok(database::connect(&self.config.database).await?) }).await?;
        let producer = watched(&self.kafka, producer(&self.config)).await?;
        loop {
            // Seen before the round: what this process wrote while it drained should not wait for another pod.
            let last = stop.is_cancelled();
            let published = self.round(&mut client, &producer).await?;
            *pauses = self::pauses();
            if published == BATCH {
                continue;
            }
            if last {
                producer.close().await?;
                return Ok(());
            }
            tokio::select! {
                () = self.written.notified() => {}
                () = tokio::time::sleep(IDLE) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Takes events that no other pod has in hand, and returns how many. They are marked once all of them are in Kafka; a kill before that
    /// lets them go again under the same ids.
    async fn round(&self, client: &mut tokio_postgres::Client, producer: &Producer) -> Result<usize, OutboxError> {
        let taken = async {
            let transaction = client.transaction().await?;
            let rows = transaction.query(TAKE, &[&i64::try_from(BATCH).unwrap_or(i64::MAX)]).await?;
            Ok((transaction, rows))
        };
        let (transaction, rows) = watched(&self.database, taken).await?;
        if !rows.is_empty() {
            watched(&self.kafka, send(producer, &rows)).await?;
        }
        let marked = async {
            let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
            transaction.execute("UPDATE outbox SET published_at = now() WHERE event_id = ANY($1)", &[&ids]).await?;
            Ok(transaction.commit().await?)
        };
        watched(&self.database, marked).await?;
        metrics::counter!("parser_events_published_total").increment(rows.len() as u64);
        Ok(rows.len())
    }
}

const TAKE: &str = "SELECT event_id, topic, key, payload::text FROM outbox WHERE published_at IS NULL
    ORDER BY created_at, event_id LIMIT $1 FOR UPDATE SKIP LOCKED";

async fn send(producer: &Producer, rows: &[Row]) -> Result<(), OutboxError> {
    let mut handles = Vec::with_capacity(rows.len());
    for row in rows {
        let id: Uuid = row.get(0);
        let record = Record::new(row.get::<_, String>(1), row.get::<_, String>(3)).key(row.get::<_, String>(2));
        handles.push(producer.enqueue(record.header("event_id", id.to_string())).await?);
    }
    for handle in handles {
        drop(handle.await?);
    }
    Ok(())
}

/// Waits for one of the two, and tells whether it answers.
async fn watched<T>(whom: &Dependency, answer: impl Future<Output = Result<T, OutboxError>>) -> Result<T, OutboxError> {
    let mut answer = pin!(answer);
    let ended = match tokio::time::timeout(SLOW, &mut answer).await {
        Ok(ended) => ended,
        Err(_slow) => {
            whom.is_gone();
            tokio::time::timeout(ROUND, answer).await.unwrap_or(Err(OutboxError::Silent(ROUND)))
        }
    };
    match &ended {
        Ok(_) => whom.answers(),
        Err(_) => whom.is_gone(),
    }
    ended
}

async fn producer(config: &Config) -> Result<Producer, OutboxError> {
    let secret =
        |name: &str| std::fs::read_to_string(config.kafka.credentials.join(name)).map(|text| text.trim_end_matches('\n').to_owned());
    let auth = AuthConfig::sasl_plain(secret("api_key")?, secret("api_secret")?);
    let auth = match config.kafka.security {
        KafkaSecurity::SaslSsl => auth.with_tls(TlsConfig::new()),
        KafkaSecurity::SaslPlaintext => auth,
    };
    let kafka = Kafka::builder(config.kafka.bootstrap.clone())
        .client_id("parser")
        .security(auth)
        .request_timeout(REQUEST)
        .connect_timeout(REQUEST / 2)
        .connect()
        .await?;
    Ok(kafka.producer().acks(Acks::All).idempotent(true).delivery_timeout(DELIVERY).build().await?)
}
